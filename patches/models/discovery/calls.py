"""A model called on tiny inputs, for texts whose lengths we choose: by its own extra_conds, as a run would call it."""
from contextlib import contextmanager
from dataclasses import dataclass

import comfy.samplers
import torch

from ...attention.override import OVERRIDE
from ..compiled import plain
from ..lists import listed
from ..rehearsal import OF_OTHERS, bare

ROWS, COLUMNS, FRAMES = 16, 24, 3  # the most that a tiny latent has
OF_PIXELS = 4  # times as many, where the latent is the picture itself
REFERENCE = "reference"  # in the names of pictures and sounds that come with a prompt
WIDE = 1024  # features, which the text of another encoder may have
RUNS = {"model_conds", "uuid", "hooks", "area", "mask", "strength", "timestep_start", "timestep_end", "start_percent",
        "end_percent", "control", "control_apply_to_uncond", "gligen", "default", "mask_strength"}  # fmt: skip
SHAPES = "latent_shapes"  # in the model_conds: of the parts of a packed latent


def lists_of(net: torch.nn.Module) -> dict[str, list[torch.nn.Module]]:
    """A diffusion model's lists and dicts of modules, among which those of its blocks are, by path.

    None that lies in another.
    """
    found = {}
    for path, module in net.named_modules():
        inside = any(path.startswith(f"{other}.") for other in found)
        if isinstance(module, (torch.nn.ModuleList, torch.nn.ModuleDict)) and len(module) and not inside:
            found[path] = [plain(each) for each in listed(net, path)]
    return found


def of_prompts(positive: dict, negative: dict) -> dict:
    """What of a positive, as a guider holds it, goes to the model's extra_conds, and what only the negative brings.

    Where one of them has a mask that hides something, so has this. Of a batch it is the first.
    """
    one_row = lambda value: value[:1] if torch.is_tensor(value) and value.ndim > 1 else value
    told = lambda entry: {name: one_row(v) for name, v in entry.items() if name not in RUNS and v is not None}
    ours, theirs = told(positive), told(negative)
    of_both = {name: v for name, v in theirs.items() if name not in ours or hides(v) and not hides(ours[name])}
    n, was = (each["cross_attn"].shape[-2] for each in (ours, theirs))
    return {**ours, **{name: stretched(value, was, n) for name, value in of_both.items()}}


def hides(value) -> bool:
    """Whether it is a mask, of 0 and 1, that hides something."""
    is_mask = torch.is_tensor(value) and not value.is_floating_point() and value.ndim > 1
    return is_mask and bool(value.max() == 1 and value.min() == 0)


def stretched(value, was: int, n: int, of_tokens=lambda axis: True):
    """A tensor in which what counts `was` tokens counts n, so that what is hidden at the end is still at the end."""
    for axis, size in enumerate(value.shape if torch.is_tensor(value) else ()):
        if size == was != n and (value.ndim < 4 or value.numel() == was or of_tokens(axis)):
            value = value.index_select(axis, torch.arange(n, device=value.device) * was // n)
    return value


@dataclass(frozen=True)
class Given:
    """What a model is given in one call: the noisy latent, and by the names of extra_conds what is made of a prompt.

    Args:
        n: how many tokens the prompt's embedding has.
    """

    x: torch.Tensor
    conds: dict
    n: int


class TinyCalls:
    """Calls of a comfy.model_base.BaseModel.

    Args:
        entry: a conditioning of the run, see of_prompts: the prompts are like it.
        noise: of the run, (batch, channels, [frames,] height, width) or packed.
        shapes: of the parts of a packed latent, or None.
        options: the run's transformer_options.
        first: how many of each list's blocks are called; None: all.
        tiny: whether the picture is; else it is as large as the run's.
    """

    def __init__(self, model, entry: dict, noise: torch.Tensor, shapes, options: dict, first: int | None, tiny: bool):
        self.entry, self.shapes, self.tiny = entry, shapes, tiny
        self.shape, self.device = noise.shape[1:], noise.device
        self.random = torch.Generator().manual_seed(0)
        blocks = {name: blocks[:first] for name, blocks in lists_of(plain(model.diffusion_model)).items()}
        self.model = bare(model, blocks)
        self.net, self.lists = self.model.diffusion_model, blocks
        self.t = torch.full((1,), float(model.model_sampling.percent_to_sigma(0.5)), device=self.device)
        kept = {name: value for name, value in options.items() if name not in OF_OTHERS}
        sigmas = torch.cat((self.t, self.t.new_zeros(1)))
        self.options = {**kept, "cond_or_uncond": [0], "uuids": [None], "sigmas": self.t, "sample_sigmas": sigmas}
        self.pooled = self._like(entry.get("pooled_output"))
        self.texts = {}  # that have been made
        self.dtype = model.get_dtype_inference() if hasattr(model, "get_dtype_inference") else model.get_dtype()

    def prompt(self, n: int, of_picture: Given | None = None, narrow=False, other=False, pooled=False) -> Given:
        """A random text of n tokens, the same one each time, and a picture.

        Args:
            of_picture: whose picture it is; None: a new one.
            narrow: the picture has fewer columns.
            other: another text.
            pooled: with another pooled output.
        """
        shapes = self._shapes(narrow)
        x = self._random(*shapes[0]) if of_picture is None else of_picture.x
        if of_picture is None and self.shapes:
            x = torch.cat([self._random(*shape).flatten(1) for shape in shapes], 1).unsqueeze(1)
        if (n, other) not in self.texts:
            self.texts[n, other] = self._text(n)
        entry = dict(self.texts[n, other])
        if self.pooled is not None:
            entry["pooled_output"] = self._like(self.pooled) if pooled else self.pooled
        run = {"latent_image": torch.zeros_like(x), "denoise_mask": None, "seed": 0}
        run |= {SHAPES: [torch.Size(shape) for shape in shapes]} if self.shapes else {}
        (entry,) = comfy.samplers.encode_model_conds(
            self.model.extra_conds, [{**entry, "model_conds": {}}], x, self.device, "positive", **run
        )
        conds = {name: _on(each.cond, self.device) for name, each in entry["model_conds"].items()}
        return Given(x, conds, n)

    def __call__(self, given: Given, override=None) -> torch.Tensor:
        """The model's prediction for it; override: by which all attention goes."""
        conds = copied(given.conds)  # models write into what they are given
        known = {"c_concat": conds.pop("c_concat", None), "c_crossattn": conds.pop("c_crossattn")}
        options = self.options if override is None else {**self.options, OVERRIDE: override}
        return self.model._apply_model(given.x, self.t, control=None, transformer_options=options, **known, **conds)

    def _shapes(self, narrow):
        """Of the tiny latent's parts, of which the first is the picture."""
        shapes = [tuple(shape) for shape in self.shapes] if self.shapes else [(1, *self.shape)]
        (_, channels, *sizes), *others = shapes
        times = OF_PIXELS if channels == 3 else 1
        limits = [FRAMES] * (len(sizes) - 2) + [ROWS * times, COLUMNS * times][-len(sizes):]
        *sizes, columns = (min(pair) for pair in zip(sizes, limits)) if self.tiny else (*sizes[:-1], sizes[-1] * 2)
        fewer = max(1, columns // 2 if columns % 4 == 0 else columns * 2 // 3)
        tiny = (1, channels, *sizes, fewer if narrow else columns)
        return [tiny, *((1, channels, min(8, length), *rest) for _, channels, length, *rest in others)]

    def _text(self, n):
        """An entry like the run's, of n tokens."""
        *rows, was, width = self.entry["cross_attn"].shape
        entry = {name: self._resized(value, was, n, REFERENCE in name) for name, value in self.entry.items()}
        return {**entry, "cross_attn": self._random(*rows, n, width)}

    def _resized(self, value, was, n, is_picture):
        """What counts the text's tokens, for another number of them; of pictures a corner, of many no more."""
        if isinstance(value, list):
            return [self._resized(each, was, n, is_picture) for each in value]
        if not torch.is_tensor(value):
            return value
        wide = min(WIDE, self.entry["cross_attn"].shape[-1])
        of_tokens = lambda axis: axis == 2 and value.shape[3] >= wide
        resized = value if is_picture else stretched(value, was, n, of_tokens)
        if resized is not value or value.ndim < 4 and not is_picture:
            return self._another(resized)
        times = OF_PIXELS if self.shape[0] == 3 else 1
        return value[..., : ROWS * times, : COLUMNS * times] if self.tiny and value.ndim > 3 else value

    def _another(self, t):
        """Random numbers in the place of some; a mask as it is; whole numbers, such as tokens, in another order."""
        if t.is_floating_point():
            return self._like(t) if t.ndim > 2 else t
        return t if t.dtype == torch.bool or t.max() < 2 else t.roll(len(self.texts), -1)

    def _random(self, *shape):
        return torch.randn(shape, generator=self.random).to(self.device)

    def _like(self, t):
        return t if t is None else torch.randn(t.shape, generator=self.random).to(t)


@contextmanager
def seeds_kept(device: torch.device):
    """Whatever is drawn meanwhile, the user's random numbers are the same."""
    devices = [] if device.type == "cpu" else [device]
    # Not in inference mode, if the run is not: FSDP keeps the tensors that it then makes for the weights.
    with torch.no_grad(), torch.random.fork_rng(devices, device_type="cuda" if not devices else device.type):
        yield


def _on(value, device):
    if isinstance(value, list):
        return [_on(each, device) for each in value]
    return value.to(device) if torch.is_tensor(value) else value


def copied(conds: dict) -> dict:
    """The same with tensors of its own."""
    return {name: value.clone() if torch.is_tensor(value) else value for name, value in conds.items()}
