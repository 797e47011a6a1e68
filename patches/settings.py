"""What a user can set, validated once and immutable from then on."""
import dataclasses
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch

from . import blocks
from .travelling import Travelling

IMAGE_STREAMS = ("shared", "separate")
MODALITIES = ("both", "picture", "sound")
EQUATIONS = ("nag", "orthogonal", "vsf", "nasa")
CAPPED = EQUATIONS[:2]  # those with a cap, nag_tau, and a blend, nag_alpha
SCHEDULES = ("constant", "linear", "cosine", "list")
ALL_BLOCKS = blocks.ALL
Number = float | torch.Tensor
CHOICES = {"image_stream": IMAGE_STREAMS, "modality": MODALITIES, "equation": EQUATIONS, "schedule": SCHEDULES}
RANGES = {
    "nag_scale": (0.0, 100.0),
    "nag_tau": (1.0, 10.0),
    "nag_alpha": (0.0, 1.0),
    "nag_sigma_end": (0.0, 20.0),
    "strength": (0.0, 2.0),
    "strengths": (0.0, 2.0),  # each of them
    "start_percent": (0.0, 1.0),
    "end_percent": (0.0, 1.0),
    "vsf_offset": (0.0, 20.0),
}


def check_range(name: str, value: float) -> None:
    """Raise a ValueError that names the setting and its range unless `value` is a number in it."""
    low, high = RANGES[name]
    if not isinstance(value, (int, float)) or not low <= value <= high:  # also refuses nan
        found = f"{value:g}" if isinstance(value, float) else repr(value)
        raise ValueError(f"{name} must lie between {low:g} and {high:g}, not {found}.")


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Raise a ValueError unless the value is one of these."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}.")


def at_strength(
    strength: Number, nag_scale: Number | None, nag_alpha: Number | None, equation: str = EQUATIONS[0]
) -> tuple[Number | None, Number | None]:
    """nag_scale and nag_alpha as one dial turns them: 0 is off, 1 leaves them, 2 is the most.

    Up to 1 less is blended in: nag_alpha is multiplied by the strength. From 1 to 1.5 nag_alpha grows to twice, at most
    to 1, and then, up to 2, nag_scale - 1 does: in the order in which more of them pays. nag_tau stays, so that it caps
    what the others do. An equation without nag_alpha has nag_scale - 1 multiplied by the strength.

    Args:
        strength: 0 to 2; a number, or a float32 tensor of some.
        nag_scale, nag_alpha: see Settings; None stays None. Tensors, too, where the strength is one.
        equation: one of EQUATIONS.
    """
    of_alpha = _clamped(strength + _clamped(strength - 1, 0.0, 1.0), 0.0, 2.0)
    of_scale = 1 + _clamped(2 * strength - 3, 0.0, 1.0) if equation in CAPPED else strength
    if nag_alpha is not None and equation in CAPPED:
        nag_alpha = _clamped(nag_alpha * of_alpha, *RANGES["nag_alpha"])
    if nag_scale is not None:
        nag_scale = _clamped(1 + (nag_scale - 1) * of_scale, *RANGES["nag_scale"])
    return nag_scale, nag_alpha


def _clamped(value, low, high):
    return value.clamp(low, high) if torch.is_tensor(value) else min(max(value, low), high)


def single(sigma: float | torch.Tensor) -> float:
    """A sigma as float32 holds it, in which ComfyUI compares: a bound may fall on the very sigma of a step.

    Stable Cascade's sampling makes tensors of percents.
    """
    return torch.tensor(float(sigma), dtype=torch.float32).item()


@dataclass(frozen=True)
class Strength:
    """How strong NAG acts and until when, as somebody recommends it for a family of models.

    Args:
        nag_scale, nag_tau, nag_alpha, nag_sigma_end: see Settings.
        whose: the recommendation, of these.
        uncapped_scale: the nag_scale for equations that neither cap nor blend. Ours: at 1.25 they take away about as
            much as nag does on `auto`, and keep most of what was asked for (evidence/RESULTS.md).
    """

    nag_scale: float
    nag_tau: float
    nag_alpha: float
    nag_sigma_end: float = 0.0
    whose: str = "the paper"
    uncapped_scale: float = 1.25

    def for_equation(self, equation: str) -> dict[str, float]:
        """The numbers for one of EQUATIONS, by the names of the settings."""
        scale = self.nag_scale if equation in CAPPED else self.uncapped_scale
        others = {name: getattr(self, name) for name in ("nag_tau", "nag_alpha", "nag_sigma_end")}
        return {"nag_scale": scale, **others}


@dataclass(frozen=True)
class Options(Travelling):
    """What few people change.

    Args:
        start_percent, end_percent: the part of the sampling in which NAG acts, 0 to 1, in ComfyUI's usual meaning.
            The paper's early stopping, its theta, is end_percent. None: NAG stops where that is recommended, if
            nothing else says when.
        image_stream: "shared" or "separate"; whether Flux's single blocks in which NAG acts keep one image stream for
            both prompts or compute one for each, as the authors' code does. Other families always share.
        statistics: whether what NAG did at each step is gathered and reported.
        modality: "both", "picture" or "sound"; which of the two NAG guides in a model that makes both, such as LTX-2.
            Other families have one.
        unknown_models: whether NAG looks by itself for where text and picture meet in a model of no declared family.
        equation: one of EQUATIONS; how the negative's features move the positive's.
        vsf_offset: of the equation vsf, what is taken off the scores of the negative's keys, 0 to 20.
        schedule: one of SCHEDULES; the strength over the steps in which NAG acts.
        strengths: of the schedule "list", a factor on the strength for each of the sampler's steps, 0 to 2; the last
            holds for all that follow.
        blocks: in which of the model's blocks NAG acts, as `blocks` reads it.
    """

    start_percent: float = 0.0
    end_percent: float | None = None
    image_stream: str = "shared"
    statistics: bool = False
    modality: str = "both"
    unknown_models: bool = True
    equation: str = EQUATIONS[0]
    vsf_offset: float = 0.0
    schedule: str = SCHEDULES[0]
    strengths: tuple[float, ...] = ()
    blocks: str = ALL_BLOCKS

    def __post_init__(self):
        check_range("start_percent", self.start_percent)
        if self.end_percent is not None:
            check_range("end_percent", self.end_percent)
        if self.start_percent > self.end:
            raise ValueError(
                f"start_percent ({self.start_percent:g}) must not be larger than end_percent ({self.end:g})."
            )
        for name, choices in CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        for name in ("statistics", "unknown_models"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false, not {getattr(self, name)!r}.")
        check_range("vsf_offset", self.vsf_offset)
        for strength in self.strengths:
            check_range("strengths", strength)
        blocks.check(self.blocks)
        if self.schedule == "list" and not self.strengths:
            raise ValueError('schedule is "list": give it strengths, such as "1, 0.8, 0.5", one for each step.')

    @property
    def all_zero(self) -> bool:
        """Whether the list of strengths holds nothing else."""
        return self.schedule == "list" and not any(self.strengths)

    @property
    def end(self) -> float:
        """end_percent, 1 where that is None."""
        return 1.0 if self.end_percent is None else self.end_percent


@dataclass(frozen=True)
class Settings(Travelling):
    """All settings of one use of NAG.

    Args:
        nag_scale: 1 + s of the paper, 0 to 100; 1 is off. None: as recommended for the model's family.
        nag_tau: cap of the normalisation, 1 to 10, in equations that have one. None: as recommended.
        nag_alpha: blending factor, 0 to 1, in equations that have one; 0 is off. None: as recommended.
        nag_sigma_end: NAG acts while sigma is at least this, 0 to 20. None: as recommended.
        options: see Options.
        strength: of the whole, 0 to 2; 0 is off, 1 leaves the numbers as they are. See at_strength.

    Raises:
        ValueError: a value is out of range.
    """

    nag_scale: float | None = None
    nag_tau: float | None = None
    nag_alpha: float | None = None
    nag_sigma_end: float | None = 0.0
    options: Options = field(default_factory=Options)
    strength: float = 1.0

    def __post_init__(self):
        for name in ("nag_scale", "nag_tau", "nag_alpha", "nag_sigma_end", "strength"):
            if getattr(self, name) is not None:
                check_range(name, getattr(self, name))

    @property
    def numbers(self) -> tuple[float | None, float | None, float | None]:
        """Those of the equation, as `arithmetic.equation.guide` takes them."""
        return self.nag_scale, self.nag_tau, self.nag_alpha

    @property
    def off(self) -> bool:
        """Whether these settings leave every feature as it is."""
        unblended = self.nag_alpha == 0 and self.options.equation in CAPPED
        return self.nag_scale == 1 or unblended or self.strength == 0 or self.options.all_zero

    def at(
        self, strength: Number, numbers: tuple[Number, ...] | None = None
    ) -> tuple[Number | None, Number | None, Number | None]:
        """The numbers of the equation at a strength, 0 or more, in the place of the settings' own; from 2 on the most.

        Args:
            strength: a number, or a float32 tensor of some.
            numbers: the settings' own, as tensors, where the strength is one.
        """
        scale, tau, alpha = self.numbers if numbers is None else numbers
        if not torch.is_tensor(strength) and strength == 1:
            return scale, tau, alpha
        strength = _clamped(strength, *RANGES["strength"])
        scale, alpha = at_strength(strength, scale, alpha, self.options.equation)
        return scale, tau, alpha

    def filled(self, recommended: Strength | None) -> "Settings":
        """Every None replaced by what is recommended for the model's family; it stays where that is not known, None."""
        if recommended is None:
            return self
        numbers = recommended.for_equation(self.options.equation)
        missing = {name: number for name, number in numbers.items() if getattr(self, name) is None}
        return dataclasses.replace(self, **missing)

    def completed(self, recommended: Strength | None) -> "Settings":
        """What is in effect: `filled`, then the strength brought into the numbers, so that it is 1."""
        filled = self.filled(recommended)
        scale, tau, alpha = filled.at(self.strength)
        return dataclasses.replace(filled, nag_scale=scale, nag_tau=tau, nag_alpha=alpha, strength=1.0)

    def sigma_range(self, percent_to_sigma: Callable[[float], float]) -> tuple[float, float]:
        """The lowest and the highest sigma at which NAG acts, both included; (0, inf) where it always does."""
        low = max(self.nag_sigma_end, percent_to_sigma(self.options.end))
        high = percent_to_sigma(self.options.start_percent) if self.options.start_percent > 0 else math.inf
        return single(low), single(high)
