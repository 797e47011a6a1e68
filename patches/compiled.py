"""Lets torch.compile tell one use of NAG from another.

A graph is taken for every call that passes its guards. No guard asks whether a module has got hooks since, and
ComfyUI's TorchCompileModel (0.6 and newer) drops those that look into transformer_options: so a graph without NAG, or
with another strength, would do. The type of an input is always looked at, so that is what differs.
"""
import functools
import sys
from collections.abc import Hashable, Iterator

import torch
from torch.utils.hooks import RemovableHandle


def marks(model: torch.nn.Module, use: Hashable) -> Iterator[RemovableHandle]:
    """A hook on a diffusion model that gives the text a type of its own for each `use`.

    It comes in front of the model itself, out of the graph, and behind ComfyUI's casts, which lose the type.
    """
    if "torch._dynamo" not in sys.modules:  # nothing is compiled
        return

    @torch.compiler.disable
    def mark(module, args, kwargs):
        text = kwargs.get("context")
        return (args, {**kwargs, "context": text.as_subclass(_text_type(use))}) if text is not None else None

    model = getattr(model, "_orig_mod", model)  # under ComfyUI's wrapper, the compiled model stands in for the model
    yield model.register_forward_pre_hook(mark, with_kwargs=True)


@functools.cache
def _text_type(use):
    return type("Text", (torch.Tensor,), {"__torch_function__": torch._C._disabled_torch_function_impl})
