"""The guidance of a model call's rows, in the form in which ComfyUI batches what it knows of each row."""
import math
from dataclasses import dataclass

import comfy.conds
import torch

from .models import Adapter
from .negative import Negative
from .settings import Settings


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
            and [n.signature() for n in self.negatives] == [n.signature() for n in other.negatives]
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
        ((_, guidance),) = self.cond  # ComfyUI batches conditionings after this
        return self._copy_with(((batch_size, guidance and guidance.repeated(batch_size)),))

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
        tokens = torch.cat([tokens for tokens, _ in parts])
        pooled = None if parts[0][1] is None else torch.cat([pooled for _, pooled in parts])
        return Active(guidances[0].settings, tokens, pooled, self._guided_slices())

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
