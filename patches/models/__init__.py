"""Which adapter guides which diffusion model."""
import torch

from ..blocks import Label, chosen
from ..capabilities import missing, refusal
from ..checks import UnknownFamily
from .adapter import Adapter, ModelCall
from .compiled import plain
from .discovery import NOT_FOUND, Undeclared, Unsure, can_be_found
from .families import REGISTRY
from .families.refused import refused
from .foreign import is_foreign, named, own_class, replaced_forward
from .lists import listed

OWN_FORWARD = (
    "Another node has put its own forward() in the place of {block}'s ({origin}), so that NAG can't tell what becomes "
    "of the negative there; other NAG nodes do so, too. Take that node out, or this NAG."
)
OWN_BLOCKS = "can't guide it: its {blocks} hold {found}, and NAG knows those of ComfyUI only"


def adapters() -> list[Adapter]:
    """All that there are, each once."""
    return list(dict.fromkeys(adapter for of_class in REGISTRY.values() for adapter in of_class))


def adapter_of(model: torch.nn.Module, unknown_models: bool = True) -> Adapter:
    """The adapter for a comfy.model_base.BaseModel, by its diffusion model's class or the nearest that it derives from.

    Args:
        unknown_models: whether to give one that is still to be `settled` where there is none, if the model has blocks.

    Raises:
        UnknownFamily: there is none; it names the class.
        ValueError: no text guides the model; it says what it follows instead.
    """
    reason, diffusion_model = refused(model), plain(model.diffusion_model)
    if reason is not None:
        raise ValueError(_refusal(model, f"can't guide it: {reason}"))
    for cls in type(diffusion_model).__mro__:
        for adapter in REGISTRY.get(_registered(cls), ()):
            if adapter.serves(diffusion_model):
                return adapter
    if unknown_models and can_be_found(diffusion_model):
        return Undeclared(diffusion_model)
    raise UnknownFamily(_refusal(model, "has no adapter for it yet"))


def _registered(cls):
    """The name by which a class has adapters: its own alone if it is another pack's, which is called as its folder."""
    return cls.__qualname__ if is_foreign(cls) else f"{cls.__module__}.{cls.__qualname__}"


def find_adapter(model: torch.nn.Module, unknown_models: bool = True) -> Adapter:
    """The adapter for a comfy.model_base.BaseModel, which can guide it as it is now.

    Args:
        unknown_models: see adapter_of.

    Raises:
        ValueError: there is none, or this model can't be guided, or another pack's code is in the place of ComfyUI's
            where NAG would act; it says which.
        RuntimeError: this ComfyUI lacks what the adapter stands on; it names that.
    """
    adapter, diffusion_model = adapter_of(model, unknown_models), plain(model.diffusion_model)
    reason = adapter.unsupported(model)
    if reason is not None:
        raise ValueError(_refusal(model, f"can't guide it: {reason}"))
    if unknown_models and is_foreign(own_class(diffusion_model)) and not adapter.of_pack:
        try:
            check_forwards(_checked(adapter, model, diffusion_model), model)
        except (ValueError, RuntimeError):  # another pack's model, with blocks of its own
            return Undeclared(diffusion_model)
        return adapter
    return _checked(adapter, model, diffusion_model)


def _checked(adapter, model, diffusion_model):
    _refuse(missing(adapter.needed))
    _check_blocks(adapter, model)
    _refuse(adapter.missing(diffusion_model))
    return adapter


def chosen_blocks(adapter: Adapter, model: torch.nn.Module, text: str) -> frozenset[Label] | None:
    """The blocks of a comfy.model_base.BaseModel that a text, see Options, means; None: all, or not known yet.

    Raises:
        ValueError: the model has not what it names; it says what there is.
    """
    labels, found = _labels_and_chosen(adapter, model, text)
    return None if len(found) == len(labels) else found


def acting_blocks(adapter: Adapter, model: torch.nn.Module, text: str) -> tuple[int, int]:
    """In how many blocks of a comfy.model_base.BaseModel NAG acts, and how many there are; see chosen_blocks."""
    labels, found = _labels_and_chosen(adapter, model, text)
    return len(found), len(labels)


def _labels_and_chosen(adapter, model, text):
    labels = list(adapter.labelled(plain(model.diffusion_model)))
    return labels, chosen(text, labels) if labels else ()


def settled(
    adapter: Adapter, model: torch.nn.Module, positive: dict, negative: dict, noise: torch.Tensor, options: dict
) -> Adapter:
    """The adapter, or for a model that is not declared the one that is found, see Undeclared.found; it must be loaded.

    Raises:
        UnknownFamily: there is none; it says what was seen.
    """
    if not isinstance(adapter, Undeclared):
        return adapter
    try:
        found = adapter.found(model, positive, negative, noise, options)
    except Unsure as unsure:
        raise UnknownFamily(_refusal(model, NOT_FOUND.format(unsure))) from unsure
    _check_blocks(found, model)
    return found


def _refuse(lacking):
    if lacking:
        raise RuntimeError(refusal(lacking))


def _check_blocks(adapter, model):
    """Raise a ValueError if the lists of blocks that the adapter hooks hold another pack's."""
    diffusion_model = plain(model.diffusion_model)
    blocks = set(adapter.blocks(diffusion_model))
    for name in adapter.block_lists:
        for element in listed(diffusion_model, name):
            # A cache of another pack may have put all blocks into one module of its own.
            if is_foreign(own_class(element)) and blocks.isdisjoint(element.modules()):
                raise ValueError(_refusal(model, OWN_BLOCKS.format(blocks=name, found=named(own_class(element)))))


def check_forwards(adapter: Adapter, model: torch.nn.Module) -> None:
    """Raise a ValueError if another pack's forward() is in the place of that of a block which the adapter hooks.

    To be called when a run starts: before, a model may still have what belongs to another workflow.
    """
    diffusion_model = plain(model.diffusion_model)
    blocks = set(adapter.blocks(diffusion_model)) if adapter.block_lists else ()
    home = own_class(diffusion_model) if adapter.of_pack else None
    for name, module in diffusion_model.named_modules():
        origin = replaced_forward(module, home) if module in blocks else None
        if origin is not None:
            raise ValueError(OWN_FORWARD.format(block=name, origin=origin))


def _refusal(model, reason):
    kind = named(own_class(plain(model.diffusion_model)))
    return f"The diffusion model is a {kind}, and NAG {reason}. Its README lists the models that it guides."


__all__ = [
    "Adapter", "ModelCall", "Undeclared", "acting_blocks", "adapter_of", "adapters", "check_forwards", "chosen_blocks",
    "find_adapter", "settled",
]  # fmt: skip
