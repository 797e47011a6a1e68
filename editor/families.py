"""The families of models as people choose among them, each with what is recommended for it."""
from ..patches.models import adapters
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
