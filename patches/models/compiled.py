"""Lets torch.compile tell one use of NAG from another.

A graph is taken for every call that passes its guards. No guard asks whether a module has got hooks since, and
ComfyUI's TorchCompileModel (0.6 and newer) drops those that look into transformer_options: so a graph without NAG
would do. The type of an input is always looked at, so that is what differs. Prompts of other lengths and other
strengths are no other use: they come in tensors, see `sizes` and `Equation`.
"""
import functools
import sys
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence

import torch
from torch.utils.hooks import RemovableHandle

from ..blocks import Label

# What the model gets, and its blocks: Wan's, Flux's, SD3's and Stable Cascade's; none returns it.
MARKED = ("context", "vec", "c", "clip_text")
WITHIN_FSDP = "_fsdp_wrapped_module"


def marks(
    model: torch.nn.Module, parts: Iterable[torch.nn.Module], use: Callable[[torch.nn.Module], Hashable]
) -> Iterator[RemovableHandle]:
    """Hooks that give an input a type of its own for each use: on a diffusion model and on `compiled_parts` of it.

    They come in front of the module itself, out of the graph, and behind ComfyUI's casts, which lose the type.

    Args:
        use: gives that of the model, or of a part.
    """
    if "torch._dynamo" not in sys.modules:  # nothing is compiled
        return

    def marking(use):
        @torch.compiler.disable
        def mark(module, args, kwargs):
            for name in MARKED:
                if torch.is_tensor(kwargs.get(name)):
                    return args, {**kwargs, name: kwargs[name].as_subclass(_type_for(use))}

        return mark

    yield model.register_forward_pre_hook(marking(use(model)), with_kwargs=True)
    for part in parts:
        if part is not model:
            yield part.register_forward_pre_hook(marking(use(part)), with_kwargs=True)


def marked(t: torch.Tensor, module: torch.nn.Module, use: Hashable) -> torch.Tensor:
    """An input of a module that is compiled by itself, of a type of its own for each `use`; none that it returns."""
    if not hasattr(module, "_orig_mod") or torch.compiler.is_compiling():
        return t
    return t.as_subclass(_type_for(use))


def plain(module: torch.nn.Module) -> torch.nn.Module:
    """A module without what torch.compile and FullyShardedDataParallel have put around it."""
    module = _uncompiled(module)
    return getattr(module, WITHIN_FSDP, module)


def is_sharded_within(module: torch.nn.Module) -> bool:
    """Whether FullyShardedDataParallel is around it. The newer fully_shard makes another class of the module itself."""
    return hasattr(_uncompiled(module), WITHIN_FSDP)


def _uncompiled(module):
    return getattr(module, "_orig_mod", module)


def compiled_parts(model: torch.nn.Module) -> tuple[torch.nn.Module, ...]:
    """What torch.compile has put around a model or parts of it. A large model is walked over in milliseconds."""
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is None:  # else nothing is
        return ()
    return tuple(module for module in _modules(model) if isinstance(module, dynamo.OptimizedModule))


def kinds_of(
    parts: Iterable[torch.nn.Module],
    labelled: Mapping[Label, Sequence[torch.nn.Module]],
    blocks: Collection[Label],
    is_joint: bool,
) -> dict[torch.nn.Module, tuple]:
    """For each part, of the blocks that it holds or lies in: whether NAG acts there, and whether the negative is there.

    Args:
        labelled, is_joint: see Adapter.
        blocks: in which NAG acts.
    """
    owners = {each: label for label, modules in labelled.items() for module in modules for each in module.modules()}
    acting = [label in blocks for label in labelled]
    there = [any(acting[number:]) if is_joint else acts for number, acts in enumerate(acting)]
    kinds = dict(zip(labelled, zip(acting, there)))
    held = {part: dict.fromkeys(owners[each] for each in part.modules() if each in owners) for part in parts}
    return {part: tuple(kinds[label] for label in labels) for part, labels in held.items()}


def entrances(modules: Iterable[torch.nn.Module], parts: Iterable[torch.nn.Module]) -> list[torch.nn.Module]:
    """Parts of a model, or those of its `compiled_parts` that are around one, which have all of its attributes.

    A hook in front of that stays out of the graph. In front of the module itself it would be compiled, as a graph of
    its own, for each of the blocks.
    """
    around = {part._orig_mod: part for part in parts}
    return [around.get(module, module) for module in modules]


def _modules(model):
    """A model and all in it, four times as fast as by `modules()`."""
    found = [model]
    for module in found:
        if module is not None and module._modules:
            found.extend(module._modules.values())
    return dict.fromkeys(found)


@functools.cache
def _type_for(use):
    return type("Marked", (torch.Tensor,), {"__torch_function__": torch._C._disabled_torch_function_impl})
