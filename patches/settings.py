"""What a user can set, validated once and immutable from then on."""
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

IMAGE_STREAMS = ("shared", "separate")
MODALITIES = ("both", "picture", "sound")
RANGES = {
    "nag_scale": (0.0, 100.0),
    "nag_tau": (1.0, 10.0),
    "nag_alpha": (0.0, 1.0),
    "nag_sigma_end": (0.0, 20.0),
    "start_percent": (0.0, 1.0),
    "end_percent": (0.0, 1.0),
}


def check_range(name: str, value: float) -> None:
    """Raise a ValueError that names the setting and its range unless `value` is a number in it."""
    low, high = RANGES[name]
    if not isinstance(value, (int, float)) or not low <= value <= high:  # also refuses nan
        found = f"{value:g}" if isinstance(value, float) else repr(value)
        raise ValueError(f"{name} must lie between {low:g} and {high:g}, not {found}.")


def single(sigma: float) -> float:
    """A sigma as float32 holds it, in which ComfyUI compares: a bound may fall on the very sigma of a step."""
    return torch.tensor(sigma, dtype=torch.float32).item()


@dataclass(frozen=True)
class Strength:
    """How strong NAG acts and until when, as somebody recommends it for a family of models.

    Args:
        nag_scale, nag_tau, nag_alpha, nag_sigma_end: see Settings.
        whose: the recommendation.
    """

    nag_scale: float
    nag_tau: float
    nag_alpha: float
    nag_sigma_end: float = 0.0
    whose: str = "the paper"


@dataclass(frozen=True)
class Options:
    """What few people change.

    Args:
        start_percent, end_percent: the part of the sampling in which NAG acts, 0 to 1, in ComfyUI's usual meaning.
            The paper's early stopping, its theta, is end_percent.
        image_stream: "shared" or "separate"; whether Flux's single blocks keep one image stream for both prompts or
            compute one for each, as the authors' code does. Other families always share.
        statistics: whether what NAG did at each step is gathered and reported.
        modality: "both", "picture" or "sound"; which of the two NAG guides in a model that makes both, such as LTX-2.
            Other families have one.
        unknown_models: whether NAG looks by itself for where text and picture meet in a model of no declared family.
    """

    start_percent: float = 0.0
    end_percent: float = 1.0
    image_stream: str = "shared"
    statistics: bool = False
    modality: str = "both"
    unknown_models: bool = True

    def __post_init__(self):
        check_range("start_percent", self.start_percent)
        check_range("end_percent", self.end_percent)
        if self.start_percent > self.end_percent:
            raise ValueError(
                f"start_percent ({self.start_percent:g}) must not be larger than end_percent ({self.end_percent:g})."
            )
        if self.image_stream not in IMAGE_STREAMS:
            raise ValueError(f"image_stream must be one of {', '.join(IMAGE_STREAMS)}, not {self.image_stream!r}.")
        for name in ("statistics", "unknown_models"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false, not {getattr(self, name)!r}.")
        if self.modality not in MODALITIES:
            raise ValueError(f"modality must be one of {', '.join(MODALITIES)}, not {self.modality!r}.")


@dataclass(frozen=True)
class Settings:
    """All settings of one use of NAG.

    Args:
        nag_scale: 1 + s of the paper, 0 to 100; 1 is off. None: as recommended for the model's family.
        nag_tau: cap of the normalisation, 1 to 10. None: as recommended.
        nag_alpha: blending factor, 0 to 1; 0 is off. None: as recommended.
        nag_sigma_end: NAG acts while sigma is at least this, 0 to 20. None: as recommended.
        options: see Options.

    Raises:
        ValueError: a value is out of range.
    """

    nag_scale: float | None = None
    nag_tau: float | None = None
    nag_alpha: float | None = None
    nag_sigma_end: float | None = 0.0
    options: Options = field(default_factory=Options)

    def __post_init__(self):
        for name in ("nag_scale", "nag_tau", "nag_alpha", "nag_sigma_end"):
            if getattr(self, name) is not None:
                check_range(name, getattr(self, name))

    @property
    def numbers(self) -> tuple[float | None, float | None, float | None]:
        """Those of the equation, as `arithmetic.equation.guide` takes them."""
        return self.nag_scale, self.nag_tau, self.nag_alpha

    @property
    def off(self) -> bool:
        """Whether these settings leave every feature as it is."""
        return self.nag_scale == 1 or self.nag_alpha == 0

    def completed(self, recommended: Strength) -> "Settings":
        """The same settings with every None replaced by what is recommended for the model's family."""
        names = ("nag_scale", "nag_tau", "nag_alpha", "nag_sigma_end")
        return dataclasses.replace(self, **{n: getattr(recommended, n) for n in names if getattr(self, n) is None})

    def sigma_range(self, percent_to_sigma: Callable[[float], float]) -> tuple[float, float]:
        """The lowest and the highest sigma at which NAG acts, both included; (0, inf) where it always does."""
        low = max(self.nag_sigma_end, percent_to_sigma(self.options.end_percent))
        high = percent_to_sigma(self.options.start_percent) if self.options.start_percent > 0 else math.inf
        return single(low), single(high)
