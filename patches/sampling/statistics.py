"""What NAG did at each step of a sampling run, gathered on the device without making the host wait for it."""
import math
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch.linalg import vector_norm

from ..arithmetic.equation import Number, extrapolated, in_chunks, tokens_at_once
from ..settings import CAPPED


@dataclass(frozen=True)
class Step:
    """What NAG did at one step, over the guided tokens of all guided attention layers.

    Args:
        run: names the sampling run.
        step: from 0.
        steps: how many the run has.
        sigma: of the step.
        on: whether NAG acted. Where it did not, and where a feature was not finite, the three below are None.
        ratio: the mean of r, by which the extrapolated features are larger than the positive's (L1 norms).
        clipped: the share of the tokens with r > tau, 0 to 1.
        moved: the mean of |z - z+| / |z+| (L1 norms): how far the result lies from the positive's features.
    """

    run: str
    step: int
    steps: int
    sigma: float
    on: bool
    ratio: float | None = None
    clipped: float | None = None
    moved: float | None = None


class Statistics:
    """Gathers what NAG does in one sampling run, and reports each step when its figures have reached the host.

    Args:
        sigmas: of the run, one more than it has steps.
        device: where the model computes.
        report: called with each Step, in their order.
    """

    def __init__(self, sigmas: Sequence[float], device: torch.device, report: Callable[[Step], None]):
        self.report = report
        self.sigmas = sigmas
        self.run = uuid.uuid4().hex
        self.device = device
        # Of the step at work, see measure; by device, since ComfyUI may run each in a thread.
        self.sums: dict[torch.device, torch.Tensor] = {}
        self.ended = 0  # steps
        self.arriving: list[_Arriving] = []

    def expect(self, device: torch.device) -> None:
        """Called before a model call there. A compiled graph may not look whether it is the first to count."""
        self.sums.setdefault(device, torch.zeros(4, device=device))

    def add(
        self, positive: torch.Tensor, negative: torch.Tensor, *numbers: Number, equation: str = "nag"
    ) -> None:
        """Count in what `equation.guide` is about to do with these features."""
        for part in in_chunks(tokens_at_once(positive), positive, negative, *numbers):
            sums = measure(*part, equation)
            self.sums[sums.device] = self.sums.get(sums.device, 0) + sums

    def end_step(self, step: int) -> None:
        """Called when the sampler has finished a step, from 0."""
        steps = len(self.sigmas) - 1
        while self.ended <= min(step, steps - 1):
            sums = [sums.to(self.device) for sums in self.sums.values()]
            self.arriving.append(_Arriving(sum(sums, torch.zeros(4, device=self.device))))
            self.sums = {}
            self.ended += 1
        self._report_arrived(_Arriving.is_here)

    def end(self) -> None:
        """Called when the sampling has ended: reports what is still on its way."""
        self._report_arrived(_Arriving.wait)

    def _report_arrived(self, is_here):
        while self.arriving and is_here(self.arriving[0]):
            step = self.ended - len(self.arriving)
            tokens, ratio, clipped, moved = self.arriving.pop(0).values.tolist()
            means = [value / tokens for value in (ratio, clipped, moved)] if tokens else [math.nan]
            means = means if all(map(math.isfinite, means)) else []
            self.report(Step(self.run, step, len(self.sigmas) - 1, self.sigmas[step], tokens != 0, *means))


def measure(
    positive: torch.Tensor,
    negative: torch.Tensor,
    scale: Number,
    tau: Number,
    alpha: Number,
    equation: str = "nag",
) -> torch.Tensor:
    """(4,), float32: the number of tokens, and the sums over them of r, of r > tau, and of |z - z+| / |z+|.

    Tokens whose positive features are all zero are left out: most equations leave them so. So are those at which NAG
    does not act, by a mask.

    Args:
        positive, negative: (..., tokens, features), of equal shape.
        scale, tau, alpha, equation: as for `equation.guide`. Where it neither caps nor blends, no token is clipped.
    """
    z_pos = positive.float()
    z = extrapolated(z_pos, negative, scale, equation)
    norm = vector_norm(z_pos, ord=1, dim=-1, keepdim=True)
    there = norm > 0
    ratio = vector_norm(z, ord=1, dim=-1, keepdim=True) / norm
    if equation in CAPPED:
        clipped, z = ratio > tau, z * (tau / ratio).clamp_max(1)
    else:
        clipped, alpha = torch.zeros_like(there), (scale != 1) * 1.0
    if torch.is_tensor(alpha):
        there = there & (alpha != 0)
    moved = alpha * vector_norm(z - z_pos, ord=1, dim=-1, keepdim=True) / norm
    counted = (torch.ones_like(norm), ratio, clipped.float(), moved)
    return torch.stack([torch.where(there, value, 0).sum() for value in counted])


@dataclass
class _Arriving:
    """A copy of a few values that is on its way to the host."""

    values: torch.Tensor
    event: torch.cuda.Event | None = field(default=None, init=False)

    def __post_init__(self):
        if self.values.device.type == "cuda":
            on_host = torch.empty(self.values.shape, dtype=self.values.dtype, pin_memory=True)
            self.values = on_host.copy_(self.values, non_blocking=True)
            self.event = torch.cuda.Event()
            self.event.record()

    def is_here(self) -> bool:
        return self.values.device.type == "cpu" and (self.event is None or self.event.query())

    def wait(self) -> bool:
        if self.event is not None:
            self.event.synchronize()
        return True
