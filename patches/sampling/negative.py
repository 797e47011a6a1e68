"""The negative, encoded as the model encodes its own conditionings."""
import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import comfy.samplers
import comfy.utils
import torch

from ..checks import check_inputs, check_widths
from ..models import Adapter
from ..settings import single
from .mask import mask_of, unmaskable, weight_of

NO_LAYOUT = (
    "The NAG negative has a mask or an area, and of this model ({}) NAG does not know which token shows which part of "
    "the picture. Take the mask or the area out of the NAG negative; a weight may stay, by Conditioning (Set Area "
    "Strength)."
)
TWO_WEIGHTS = (
    "The entries of the NAG negative have unequal weights or masks, and this model's attention ({}) takes none for "
    "parts of a text. Give all of them the same, or use one entry."
)


@dataclass(frozen=True)
class Negative:
    """One entry of a negative, encoded for a model.

    Args:
        tokens: (rows, tokens, width).
        pooled: (rows, width), or None where the family has none.
        low, high: the sigmas between which the entry holds, both included.
        further: what else the model is given of its text, by name: tensors of the same rows, or values.
        source: stands for the entry, however many rows it has.
        weight: how much it counts, at least 0; 1 is as much as NAG is set to.
        mask: how strong it is at each place of the run's latent, the weight included: (1 or rows of the run, *sizes),
            float32; None where it is as strong as its weight everywhere.
    """

    tokens: torch.Tensor
    pooled: torch.Tensor | None
    low: float = 0.0
    high: float = math.inf
    further: dict = field(default_factory=dict)
    source: object = field(default_factory=object, compare=False)
    weight: float = 1.0
    mask: torch.Tensor | None = None

    def repeated(self, rows: int) -> "Negative":
        repeat = lambda value: comfy.utils.repeat_to_batch_size(value, rows) if torch.is_tensor(value) else value
        further = {name: repeat(value) for name, value in self.further.items()}
        return dataclasses.replace(self, tokens=repeat(self.tokens), pooled=repeat(self.pooled), further=further)

    def signature(self) -> tuple:
        """What two entries must have in common to guide rows of one model call, however many rows each has."""
        regions = self.weight, self.mask is None
        return _shape(self.tokens), _shape(self.pooled), self.low, self.high, _shape(self.further), regions

    @property
    def given(self) -> dict:
        """All that the model is given of its text, by ComfyUI's names."""
        pooled = {} if self.pooled is None else {"y": self.pooled}
        return {"c_crossattn": self.tokens, **pooled, **self.further}


def encode_negative(
    model, adapter: Adapter, entries: list[dict], noise, sizes: Sequence[int] | None = None, **run
) -> tuple[Negative, ...]:
    """Encode a negative as the model encodes its own conditionings; without the entries that count nowhere.

    Args:
        model: the comfy.model_base.BaseModel that samples.
        entries: conditionings as a guider holds them (comfy.sampler_helpers.convert_cond), not yet encoded.
        noise: (batch, channels, ...), of the run; its device is where the negative is kept.
        sizes: of the picture's latent without batch and channels, where it is not the noise's: packed with sound.
        run: what else ComfyUI tells a model of the run: latent_image, denoise_mask, seed.

    Raises:
        ValueError: the negative has no text, or was made by a text encoder that is not the model's, or it has a mask
            that can't be brought to the model's tokens.
    """
    for entry in entries:
        check_widths(adapter, model.diffusion_model, entry.get("cross_attn"), entry.get("pooled_output"))
    entries, sizes = list(entries), noise.shape[2:] if sizes is None else sizes
    comfy.samplers.calculate_start_end_timesteps(model, entries)
    comfy.samplers.encode_model_conds(model.extra_conds, entries, noise, noise.device, "negative", **run)
    for entry in entries:
        check_inputs("NAG negative", adapter, entry["model_conds"])
    encoded = [_encoded(entry, adapter, model, noise, sizes) for entry in entries]
    negatives = tuple(negative for negative in encoded if negative.weight > 0)
    _refuse(unequal(adapter, [(n.low, n.high, n.weight, n.mask is not None) for n in negatives]))
    return negatives


def misplaced(adapter: Adapter, net: torch.nn.Module, n_axes: int, is_masked: bool) -> str | None:
    """Why a mask, or an area, can't be brought to the tokens of a diffusion model, and what to do; None if it can.

    n_axes: of the model's latent, besides batch and channels.
    """
    reason = unmaskable(n_axes) if is_masked else None
    return reason or (NO_LAYOUT.format(adapter.name) if adapter.layout(net, n_axes) is None else None)


def unequal(adapter: Adapter, entries: Iterable[tuple[float, float, float, bool]]) -> str | None:
    """Why a model can't have entries of a negative at the same time, and what to do; None if it can.

    Args:
        entries: of each the sigmas, or the percents of the sampling, between which it holds, both included, the lower
            first; its weight; and whether it has a mask or an area.
    """
    if adapter.weighs_keys:
        return None
    for (low, high, *one), (other_low, other_high, *other) in itertools.combinations(entries, 2):
        are_alike = one == other and not one[-1]
        if low <= other_high and other_low <= high and not are_alike:
            return TWO_WEIGHTS.format(adapter.name)
    return None


def _region(entry, adapter, net, noise, sizes):
    """The weight of an entry, 0 if it counts nowhere, and its mask."""
    weight, mask = weight_of(entry), mask_of(entry, sizes, len(noise), noise.device)
    if mask is None or mask.is_meta:
        return weight, mask
    least, most = (value.item() for value in mask.aminmax())
    if least == most:
        return most, None
    _refuse(misplaced(adapter, net, len(sizes), entry.get("mask") is not None))
    return weight, mask


def _refuse(reason):
    if reason is not None:
        raise ValueError(reason)


def _encoded(entry, adapter, model, noise, sizes):
    conds, device = entry["model_conds"], noise.device
    weight, mask = _region(entry, adapter, model.diffusion_model, noise, sizes)
    pooled = conds["y"].cond.to(device) if adapter.pooled_width(model.diffusion_model) is not None else None
    further = {name: conds[name].cond for name in adapter.text_inputs if name in conds}
    for name, of_text in adapter.shared_inputs.items():
        if name in further:
            further[name] = {key: value for key, value in further[name].items() if key in of_text}
    return Negative(
        conds[adapter.text_input].cond.to(device),
        pooled,
        single(entry.get("timestep_end", 0.0)),
        single(entry.get("timestep_start", math.inf)),
        {name: value.to(device) if torch.is_tensor(value) else value for name, value in further.items()},
        weight=weight,
        mask=mask,
    )


def _shape(value):
    """The shape without the batch, of a tensor or of each in a dict; what is none is its own."""
    if isinstance(value, dict):
        return {name: _shape(each) for name, each in value.items()}
    return value.shape[1:] if torch.is_tensor(value) else value
