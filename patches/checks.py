"""What is refused of what a node is given, and why."""
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from .models import Adapter

ENCODERS = {
    768: "CLIP-L, T5-base or UMT5-base, as SD1.5, Stable Audio 1 and ACE-Step 1 take",
    1024: "OpenCLIP-H, T5-XXL 1.0 or Qwen3-0.6B, as SD2, Cosmos 1, Cosmos Predict2 and Anima take",
    1280: "CLIP-G, as the SDXL refiner takes",
    2048: "CLIP-L and CLIP-G, as SDXL takes, or Ovis 2.5 2B, Qwen2.5-VL-3B or Pile-T5-XL, as Ovis-Image, OmniGen2 and "
    "AuraFlow take",
    2304: "Gemma 2 2B, as Lumina 2, PixelDiT and PiD take",
    2560: "Qwen3-4B or Qwen3-VL-4B, as Z-Image and MageFlow take",
    3584: "Qwen2.5-VL-7B, as Qwen-Image, LongCat-Image and Kandinsky 5 take",
    3840: "Gemma 3 12B, as LTX-2 takes",
    4096: "T5-XXL or UMT5-XXL, as SD3.5, Flux, Chroma, CogVideoX, LTX-Video and Wan take, or Qwen3-VL-8B, as Boogu "
    "and JoyImage take",
    6144: "Gemma 3 12B, for picture and sound, as LTX-2.3 takes",
    7680: "three layers of Qwen3-4B, as Flux.2 Klein 4B takes",
    11520: "four layers of GPT-OSS 20B, as Lens takes",
    12288: "three layers of Qwen3-8B, as Flux.2 Klein 9B takes",
    15360: "three layers of Mistral 3 Small, as Flux.2 dev takes",
    30720: "twelve layers of Qwen3-VL-4B, as Krea 2 takes",
    53248: "thirteen layers of Qwen3-VL-8B, as Ideogram 4 takes",
}


class UnknownFamily(ValueError):
    """A diffusion model that no adapter is for."""


def check_not_empty(name: str, conditioning: list | None) -> None:
    """Raise a ValueError unless this is a CONDITIONING with at least one entry, and text in each."""
    if conditioning is None or isinstance(conditioning, (list, tuple)) and not conditioning:
        found = "is empty"
    elif not _is_conditioning(conditioning):
        found = "is not a conditioning"
    elif not all(has_text(tokens) for tokens, _ in conditioning):
        found = "has no text embedding"
    else:
        return
    raise ValueError(f"{name} {found}: connect the output of a CLIP Text Encode node to it.")


def _is_conditioning(value):
    """Whether it is a list, or a tuple, of [text embedding, other values]: links can bring anything."""
    return isinstance(value, (list, tuple)) and all(
        isinstance(entry, (list, tuple)) and len(entry) == 2 and isinstance(entry[1], dict) for entry in value
    )


def has_text(tokens) -> bool:
    """Whether it is a text embedding, (batch, tokens, width), with at least one token."""
    return isinstance(tokens, torch.Tensor) and tokens.ndim == 3 and tokens.numel() > 0


def check_model(model) -> None:
    """Raise a ValueError unless this is a MODEL."""
    if not hasattr(model, "add_wrapper_with_key"):
        raise ValueError(f"model is not a model, but {model!r}: connect the output of a model loader to it.")


def check_widths(adapter: "Adapter", model: torch.nn.Module, tokens: torch.Tensor, pooled: torch.Tensor | None) -> None:
    """Raise a ValueError if a text embedding is not one that the diffusion model takes.

    Args:
        tokens: (batch, tokens, width).
        pooled: (batch, width) or None.
    """
    check_text("NAG negative", adapter, model, tokens)
    expected = adapter.pooled_width(model)
    if expected is None:
        return
    if pooled is None or pooled.shape[-1] < expected:
        found = "is missing" if pooled is None else f"is {pooled.shape[-1]} wide"
        raise ValueError(
            f"The NAG negative's pooled output {found}, but this model ({adapter.name}) takes {expected}. "
            f"Encode the negative with the model's own text encoder: {adapter.text_encoder}."
        )


def check_text(name: str, adapter: "Adapter", model: torch.nn.Module, tokens: torch.Tensor | None) -> None:
    """Raise a ValueError unless this is a text embedding, (batch, tokens, width), that the diffusion model takes."""
    if not has_text(tokens):
        raise ValueError(f"The {name} has no text embedding: connect a CLIP Text Encode node to it.")
    widths, found = adapter.text_widths(model), tokens.shape[-1]
    if widths and found not in widths:  # of a model that is not declared nobody knows them before a run
        expected = widths[0]
        raise ValueError(
            f"The {name}'s embedding is {found} wide{_made_by(found)}, but this model ({adapter.name}) takes "
            f"{expected}{_made_by(expected)}. Encode the {name.split()[-1]} with the model's own text encoder: "
            f"{adapter.text_encoder}."
        )


def check_inputs(name: str, adapter: "Adapter", conds: dict) -> None:
    """Raise a ValueError if a conditioning brings what NAG can't do with, or lacks what the model needs.

    Args:
        conds: what the model made of it, by the names of `extra_conds`.
    """
    for each, what in adapter.needed_inputs.items():
        if getattr(conds.get(each), "cond", None) is None:
            raise ValueError(
                f"The {name} brings no {what}, so it is not of this model's ({adapter.name}). Encode the "
                f"{name.split()[-1]} with the model's own text encoder: {adapter.text_encoder}."
            )
    for each, reason in adapter.refused_inputs.items():
        if each in conds:
            raise ValueError(f"The {name} brings what NAG can't guide yet, {reason}.")


def _made_by(width):
    return f" ({ENCODERS[width]})" if width in ENCODERS else ""


def check_fits(adapter: "Adapter", model: torch.nn.Module, negative: list) -> None:
    """Raise a ValueError if a negative, a ComfyUI CONDITIONING, is not for this diffusion model."""
    for tokens, values in negative:
        check_widths(adapter, model, tokens, values.get("pooled_output"))
