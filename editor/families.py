"""The families of models as people choose among them, each with what is recommended for it."""
from types import SimpleNamespace

import torch

from ..patches.models import REGISTRY, find_adapter
from ..patches.models.unet import UNet
from ..patches.settings import Strength

# An adapter's recommendation may depend on the model. Stand-ins for those that differ, with what it asks of them.
VARIANTS = {
    UNet: {
        "Stable Diffusion XL": SimpleNamespace(num_classes="sequential"),
        "Stable Diffusion 1.5 and 2": SimpleNamespace(num_classes=None),
    }
}


def all_families() -> dict[str, Strength]:
    """What is recommended for each family, by its name."""
    families = {}
    for adapter in REGISTRY.values():
        for name, model in VARIANTS.get(type(adapter), {adapter.name: None}).items():
            families[name] = adapter.recommended(model)
    return families


def family_of(model: torch.nn.Module) -> tuple[str, Strength]:
    """The family of a diffusion model, and what is recommended for it.

    Raises:
        ValueError: NAG can't guide it; see find_adapter.
    """
    adapter = find_adapter(model)
    recommended = adapter.recommended(model)
    for name, variant in VARIANTS.get(type(adapter), {}).items():
        if adapter.recommended(variant) == recommended:
            return name, recommended
    return adapter.name, recommended
