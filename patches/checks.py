"""What is refused of what a node is given, and why."""
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from .models import Adapter
    from .settings import Options

# Which text encoders make embeddings of a width.
ENCODERS = {
    768: "CLIP-L, T5-base, T5Gemma or UMT5-base",
    1024: "OpenCLIP-H, T5-XXL 1.0, BERT or Qwen3-0.6B",
    1280: "CLIP-G",
    2048: "CLIP-L with CLIP-G, Ovis 2.5 2B, Qwen2.5-VL-3B or Pile-T5-XL",
    2304: "Gemma 2 2B",
    2560: "Qwen3-4B or Qwen3-VL-4B",
    3072: "Ministral 3 3B",
    3584: "Qwen2.5-VL-7B",
    3840: "Gemma 3 12B",
    4096: "T5-XXL, UMT5-XXL, Llama 3 8B or Qwen3-VL-8B",
    6144: "Gemma 3 12B, for picture and sound",
    7680: "three layers of Qwen3-4B",
    11520: "four layers of GPT-OSS 20B",
    12288: "three layers of Qwen3-8B",
    15360: "three layers of Mistral 3 Small",
    30720: "twelve layers of Qwen3-VL-4B",
    53248: "thirteen layers of Qwen3-VL-8B",
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
    """Whether it is a text embedding, (batch, tokens, width), with at least one token; SANA's is (batch, 1, ...)."""
    return isinstance(tokens, torch.Tensor) and tokens.ndim in (3, 4) and tokens.numel() > 0


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


def check_options(adapter: "Adapter", options: "Options", transformer_options: dict) -> None:
    """Raise a ValueError if what NAG Options say can't be had with an adapter's models; see Adapter.unfit."""
    reason = adapter.unfit(options, transformer_options)
    if reason is not None:
        raise ValueError(reason)


def _made_by(width):
    return f" ({ENCODERS[width]})" if width in ENCODERS else ""


def check_fits(adapter: "Adapter", model: torch.nn.Module, negative: list) -> None:
    """Raise a ValueError if a negative, a ComfyUI CONDITIONING, is not for this diffusion model."""
    for tokens, values in negative:
        check_widths(adapter, model, tokens, values.get("pooled_output"))
