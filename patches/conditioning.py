"""NAG's part of a conditioning: what the user asked for, and what becomes of it in a sampling run."""
import math
from dataclasses import dataclass

import comfy.conds
import comfy.samplers
import comfy.utils
import torch

from .models import Adapter
from .settings import Settings

KEY = "normalized_attention_guidance"  # under which a conditioning carries a Request, and its model_conds the guidance of its rows

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
    """

    settings: Settings
    negative: list | None = None


def check_not_empty(name: str, conditioning: list | None) -> None:
    """Raise a ValueError unless a CONDITIONING has at least one entry with text in it."""
    if not conditioning:
        raise ValueError(f"{name} is empty: connect the output of a CLIP Text Encode node to it.")
    if any(entry[0] is None for entry in conditioning):
        raise ValueError(f"{name} has no text embedding: connect the output of a CLIP Text Encode node to it.")


def check_widths(adapter: Adapter, model: torch.nn.Module, tokens: torch.Tensor, pooled: torch.Tensor | None) -> None:
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


def check_negative(adapter: Adapter, model: torch.nn.Module, negative: list) -> None:
    """Raise a ValueError if a negative, a ComfyUI CONDITIONING, is empty or not for this diffusion model."""
    check_not_empty("The NAG negative", negative)
    for tokens, values in negative:
        check_widths(adapter, model, tokens, values.get("pooled_output"))


@dataclass(frozen=True)
class Negative:
    """One entry of a negative, encoded for a model.

    Args:
        tokens: (rows, tokens, width).
        pooled: (rows, width), or None where the family has none.
        low, high: the sigmas between which the entry holds, both included.
    """

    tokens: torch.Tensor
    pooled: torch.Tensor | None
    low: float = 0.0
    high: float = math.inf

    def repeated(self, rows: int) -> "Negative":
        pooled = None if self.pooled is None else comfy.utils.repeat_to_batch_size(self.pooled, rows)
        return Negative(comfy.utils.repeat_to_batch_size(self.tokens, rows), pooled, self.low, self.high)

    def shape(self) -> tuple:
        return (tuple(self.tokens.shape), None if self.pooled is None else tuple(self.pooled.shape), self.low, self.high)


@dataclass(frozen=True)
class Guidance:
    """How the rows of one conditioning are guided: when (low <= sigma <= high), by what, and how strongly."""

    settings: Settings
    negatives: tuple[Negative, ...]
    low: float
    high: float

    def repeated(self, rows: int) -> "Guidance":
        return Guidance(self.settings, tuple(n.repeated(rows) for n in self.negatives), self.low, self.high)

    def batches_with(self, other: "Guidance") -> bool:
        return (
            (self.settings, self.low, self.high) == (other.settings, other.low, other.high)
            and [n.shape() for n in self.negatives] == [n.shape() for n in other.negatives]
        )

    def always(self) -> bool:
        """Whether it acts at every sigma with all of its negatives, so that nobody needs to ask for sigma."""
        return all(part.low <= 0 and part.high == math.inf for part in (self, *self.negatives))

    def at(self, sigma: float) -> tuple[torch.Tensor, torch.Tensor | None] | None:
        """The negative's (tokens, pooled) at this sigma: several entries' tokens in a row, the mean of their pooled.

        None where NAG does not act.
        """
        if not self.low <= sigma <= self.high:
            return None
        return self.joined([n for n in self.negatives if n.low <= sigma <= n.high])

    def joined(self, negatives) -> tuple[torch.Tensor, torch.Tensor | None] | None:
        if not negatives:
            return None
        if len(negatives) == 1:
            return negatives[0].tokens, negatives[0].pooled
        tokens = torch.cat([n.tokens for n in negatives], 1)
        pooled = None if negatives[0].pooled is None else torch.stack([n.pooled for n in negatives]).mean(0)
        return tokens, pooled


@dataclass(frozen=True)
class Active:
    """The negative of a model call in which NAG acts: see ModelCall for the fields."""

    settings: Settings
    tokens: torch.Tensor
    pooled: torch.Tensor | None
    guided: tuple[slice, ...]


class GuidanceRows(comfy.conds.CONDRegular):
    """A ComfyUI COND: the guidance of each row of a model call, which ComfyUI batches as it batches the others.

    Args:
        cond: one (rows, Guidance or None) for each conditioning that has been batched.
        adapter: its mixes_rows tells whether guided and unguided rows may be batched.
    """

    def __init__(self, cond: tuple[tuple[int, Guidance | None], ...], adapter: Adapter):
        super().__init__(cond)
        self.adapter = adapter

    @property
    def guides(self) -> bool:
        return any(guidance is not None for _, guidance in self.cond)

    def _copy_with(self, cond):
        return GuidanceRows(cond, self.adapter)

    def process_cond(self, batch_size, **kwargs):
        return self._copy_with(tuple((batch_size, guidance and guidance.repeated(batch_size)) for _, guidance in self.cond))

    def can_concat(self, other):
        (_, mine), (_, others) = self.cond[0], other.cond[0]
        if mine is None or others is None:
            return self.adapter.mixes_rows or mine is others
        return mine.batches_with(others)

    def concat(self, others):
        return self._copy_with(sum((other.cond for other in others), self.cond))

    def size(self):
        """The shape that ComfyUI estimates memory by: that of the negative's text."""
        shapes = [n.tokens.shape for _, guidance in self.cond if guidance for n in guidance.negatives]
        return [shapes[0][0], sum(shape[1] for shape in shapes), shapes[0][2]] if shapes else [1]

    def at(self, t: torch.Tensor) -> Active | None:
        """What guides a model call at sigmas t, (rows,); None if nothing does.

        ComfyUI only batches rows of equal settings, so one of them speaks for all.
        """
        guidances = [guidance for _, guidance in self.cond if guidance is not None]
        if not guidances:
            return None
        # Reading sigma makes the host wait for the device, so it is only read where something depends on it.
        sigma = 1.0 if guidances[0].always() else float(t[0])
        parts = [guidance.at(sigma) for guidance in guidances]
        if parts[0] is None:
            return None
        tokens, pooled = zip(*parts)
        pooled = None if pooled[0] is None else torch.cat(pooled)
        return Active(guidances[0].settings, torch.cat(tokens), pooled, self._guided_slices())

    def _guided_slices(self):
        slices, start = [], 0
        for rows, guidance in self.cond:
            stop = start + rows
            if guidance is not None:
                if slices and slices[-1].stop == start:
                    slices[-1] = slice(slices[-1].start, stop)
                else:
                    slices.append(slice(start, stop))
            start = stop
        return tuple(slices)


def encode_negative(model, adapter: Adapter, entries: list[dict], noise, **run) -> tuple[Negative, ...]:
    """Encode a negative as the model encodes its own conditionings.

    Args:
        model: the comfy.model_base.BaseModel that samples.
        entries: conditionings as a guider holds them (comfy.sampler_helpers.convert_cond), not yet encoded.
        noise: (batch, channels, ...), of the run; its device is where the negative is kept.
        run: what else ComfyUI tells a model of the run: latent_image, denoise_mask, seed.

    Raises:
        ValueError: the negative has no text, or was made by a text encoder that is not the model's.
    """
    for entry in entries:
        if entry.get("cross_attn") is None:
            raise ValueError("The NAG negative has no text embedding: connect a CLIP Text Encode node to it.")
        check_widths(adapter, model.diffusion_model, entry["cross_attn"], entry.get("pooled_output"))
    entries = list(entries)
    comfy.samplers.calculate_start_end_timesteps(model, entries)
    comfy.samplers.encode_model_conds(model.extra_conds, entries, noise, noise.device, "negative", **run)
    return tuple(_encoded(entry, adapter, model, noise.device) for entry in entries)


def _encoded(entry, adapter, model, device):
    conds = entry["model_conds"]
    pooled = conds["y"].cond.to(device) if adapter.pooled_width(model.diffusion_model) is not None else None
    return Negative(
        conds["c_crossattn"].cond.to(device),
        pooled,
        float(entry.get("timestep_end", 0.0)),
        float(entry.get("timestep_start", math.inf)),
    )
