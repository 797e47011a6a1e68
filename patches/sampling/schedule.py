"""How strong NAG is at each step of a sampling run: a factor on its strength.

It goes by sigma, of which alone a call of the model knows. So where a run comes back to a sigma (restarts), the factor
does, too, and a sampler that calls the model between two steps gets what lies between theirs. Each run of a sampler has
a schedule of its own, by its own steps.
"""
import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..settings import Options

# Of a step's place in NAG's range, 0 at its first step, 1 behind its last.
SHAPES: dict[str, Callable[[float], float]] = {
    "linear": lambda place: 1 - place,
    "cosine": lambda place: (1 + math.cos(math.pi * place)) / 2,
}


@dataclass(frozen=True)
class Schedule:
    """A factor for every sigma: between two that are given in a line, beyond them as the nearest.

    Args:
        sigmas: from the lowest to the highest, no two the same.
        factors: at these, 0 to 2.
    """

    sigmas: tuple[float, ...]
    factors: tuple[float, ...]

    def at(self, sigma: float) -> float:
        above = bisect.bisect_left(self.sigmas, sigma)
        if above == len(self.sigmas):
            return self.factors[-1]
        if above == 0 or self.sigmas[above] == sigma:
            return self.factors[above]
        (low, high), (first, last) = (each[above - 1 : above + 1] for each in (self.sigmas, self.factors))
        return first + (last - first) * (sigma - low) / (high - low)


def schedule_of(options: Options, sigmas: torch.Tensor, low: float, high: float) -> Schedule | None:
    """The schedule of one run; None where the strength stays.

    Args:
        sigmas: of the run, one more than it has steps.
        low, high: the sigmas between which NAG acts, both included.
    """
    if options.schedule == "constant" or len(sigmas) < 2:
        return None
    *steps, end = sigmas.to(torch.float32).tolist()  # as the model gets them
    steps = sorted(set(steps), reverse=steps[0] > end)
    if options.schedule == "list":
        last = len(options.strengths) - 1
        factors = {sigma: options.strengths[min(number, last)] for number, sigma in enumerate(steps)}
    else:
        factors = _shaped(SHAPES[options.schedule], steps, end, low, high)
    return Schedule(*zip(*sorted(factors.items())))


def _shaped(shape, steps, end, low, high):
    """{sigma: factor} of the steps at which NAG acts, and of what comes behind the last."""
    acting = [number for number, sigma in enumerate(steps) if low <= sigma <= high]
    if not acting:  # a sampler that makes steps of its own may still come there
        return {end: 1.0}
    behind = acting[-1] + 1
    sigmas = [steps[number] for number in acting]
    factors = {sigma: shape(number / len(sigmas)) for number, sigma in enumerate(sigmas)}
    return {(steps[behind] if behind < len(steps) else end): shape(1.0), **factors}


def factors(options: Options, sigmas: torch.Tensor | Sequence[float], low: float, high: float) -> list[float]:
    """The factor on the strength at each step of a run, 0 where NAG does not act; see schedule_of."""
    sigmas = torch.as_tensor(sigmas, dtype=torch.float32)
    schedule = schedule_of(options, sigmas, low, high)
    factor = lambda sigma: 1.0 if schedule is None else schedule.at(sigma)
    return [factor(sigma) if low <= sigma <= high else 0.0 for sigma in sigmas[:-1].tolist()]
