"""The negative, encoded as the model encodes its own conditionings."""
import math
from dataclasses import dataclass, field

import comfy.samplers
import comfy.utils
import torch

from ..checks import check_inputs, check_widths
from ..models import Adapter
from ..settings import single


@dataclass(frozen=True)
class Negative:
    """One entry of a negative, encoded for a model.

    Args:
        tokens: (rows, tokens, width).
        pooled: (rows, width), or None where the family has none.
        low, high: the sigmas between which the entry holds, both included.
        further: what else the model is given of its text, by name: tensors of the same rows, or values.
        source: stands for the entry, however many rows it has.
    """

    tokens: torch.Tensor
    pooled: torch.Tensor | None
    low: float = 0.0
    high: float = math.inf
    further: dict = field(default_factory=dict)
    source: object = field(default_factory=object, compare=False)

    def repeated(self, rows: int) -> "Negative":
        repeat = lambda value: comfy.utils.repeat_to_batch_size(value, rows) if torch.is_tensor(value) else value
        further = {name: repeat(value) for name, value in self.further.items()}
        return Negative(repeat(self.tokens), repeat(self.pooled), self.low, self.high, further, self.source)

    def signature(self) -> tuple:
        """What two entries must have in common to guide rows of one model call, however many rows each has."""
        return _shape(self.tokens), _shape(self.pooled), self.low, self.high, _shape(self.further)

    @property
    def given(self) -> dict:
        """All that the model is given of its text, by ComfyUI's names."""
        pooled = {} if self.pooled is None else {"y": self.pooled}
        return {"c_crossattn": self.tokens, **pooled, **self.further}


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
        check_widths(adapter, model.diffusion_model, entry.get("cross_attn"), entry.get("pooled_output"))
    entries = list(entries)
    comfy.samplers.calculate_start_end_timesteps(model, entries)
    comfy.samplers.encode_model_conds(model.extra_conds, entries, noise, noise.device, "negative", **run)
    for entry in entries:
        check_inputs("NAG negative", adapter, entry["model_conds"])
    return tuple(_encoded(entry, adapter, model, noise.device) for entry in entries)


def _encoded(entry, adapter, model, device):
    conds = entry["model_conds"]
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
    )


def _shape(value):
    """The shape without the batch, of a tensor or of each in a dict; what is none is its own."""
    if isinstance(value, dict):
        return {name: _shape(each) for name, each in value.items()}
    return value.shape[1:] if torch.is_tensor(value) else value
