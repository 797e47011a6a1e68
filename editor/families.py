"""The families of models as people choose among them, each with what is recommended for it."""
import torch

from ..patches.models import adapters, find_adapter
from ..patches.settings import Strength

# By hand: a model's file does not tell these from the family named with them.
VARIANTS = {
    "Flux.1 Kontext": "Flux",
    "Z-Image base": "Z-Image",
    "Wan 2.1 1.3B": "Wan",
    "Wan 2.1 14B with CausVid": "Wan",
}


def all_families() -> dict[str, Strength]:
    """What is recommended for each family, by its name."""
    return {name: strength for adapter in adapters() for name, strength in adapter.families.items()}


def family_of(model: torch.nn.Module, unknown_models: bool = True) -> tuple[str, Strength]:
    """The family of a model, and what is recommended for it; unknown_models: see find_adapter.

    Raises:
        ValueError, RuntimeError: NAG can't guide it; see find_adapter.
    """
    adapter = find_adapter(model, unknown_models)
    return adapter.family(model), adapter.recommended(model)
