"""What a node asks for, and whether it can be had."""
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from .settings import Settings
from .statistics import Step

if TYPE_CHECKING:
    from .models import Adapter

ENCODERS = {
    768: "CLIP-L, as SD1.5 takes",
    1024: "OpenCLIP-H, as SD2 takes",
    1280: "CLIP-G, as the SDXL refiner takes",
    2048: "CLIP-L and CLIP-G, as SDXL takes",
    4096: "T5-XXL or UMT5-XXL, as SD3.5, Flux and Wan take",
}


@dataclass(frozen=True)
class Request:
    """What a node asks for: these settings and this negative.

    Args:
        settings: as set by the user.
        negative: a ComfyUI CONDITIONING, or None for the one that the sampler gets.
        report: told what NAG did at each step, where the settings want statistics.
    """

    settings: Settings
    negative: list | None = None
    report: Callable[[Step], None] | None = None


def check_not_empty(name: str, conditioning: list | None) -> None:
    """Raise a ValueError unless a CONDITIONING has at least one entry with text in it."""
    if not conditioning:
        raise ValueError(f"{name} is empty: connect the output of a CLIP Text Encode node to it.")
    if any(entry[0] is None for entry in conditioning):
        raise ValueError(f"{name} has no text embedding: connect the output of a CLIP Text Encode node to it.")


def check_widths(adapter: "Adapter", model: torch.nn.Module, tokens: torch.Tensor, pooled: torch.Tensor | None) -> None:
    """Raise a ValueError if a text embedding is not one that the diffusion model takes.

    Args:
        tokens: (batch, tokens, width).
        pooled: (batch, width) or None.
    """
    expected, found = adapter.text_width(model), tokens.shape[-1]
    if found != expected:
        raise ValueError(
            f"The NAG negative's embedding is {found} wide{_made_by(found)}, but this model ({adapter.name}) takes "
            f"{expected}{_made_by(expected)}. Encode the negative with the model's own text encoder: "
            f"{adapter.text_encoder}."
        )
    expected = adapter.pooled_width(model)
    if expected is None:
        return
    if pooled is None or pooled.shape[-1] < expected:
        found = "is missing" if pooled is None else f"is {pooled.shape[-1]} wide"
        raise ValueError(
            f"The NAG negative's pooled output {found}, but this model ({adapter.name}) takes {expected}. "
            f"Encode the negative with the model's own text encoder: {adapter.text_encoder}."
        )


def _made_by(width):
    return f" ({ENCODERS[width]})" if width in ENCODERS else ""


def check_fits(adapter: "Adapter", model: torch.nn.Module, negative: list) -> None:
    """Raise a ValueError if a negative, a ComfyUI CONDITIONING, is not for this diffusion model."""
    for tokens, values in negative:
        check_widths(adapter, model, tokens, values.get("pooled_output"))
