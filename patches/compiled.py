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

MARKED = ("context", "vec", "c")  # what the model gets, and its blocks: Wan's, Flux's and SD3's; none returns it


def marks(model: torch.nn.Module, use: Hashable) -> Iterator[RemovableHandle]:
    """Hooks that give an input a type of its own for each `use`: on a diffusion model and on compiled parts of it.

    They come in front of the module itself, out of the graph, and behind ComfyUI's casts, which lose the type.
    """
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is None:  # nothing is compiled
        return

    @torch.compiler.disable
    def mark(module, args, kwargs):
        for name in MARKED:
            if torch.is_tensor(kwargs.get(name)):
                return args, {**kwargs, name: kwargs[name].as_subclass(_type_for(use))}

    # What is compiled stands in for what was, which it still calls.
    yield getattr(model, "_orig_mod", model).register_forward_pre_hook(mark, with_kwargs=True)
    for module in model.modules():
        if isinstance(module, dynamo.OptimizedModule) and module is not model:
            yield module._orig_mod.register_forward_pre_hook(mark, with_kwargs=True)


@functools.cache
def _type_for(use):
    return type("Marked", (torch.Tensor,), {"__torch_function__": torch._C._disabled_torch_function_impl})
