"""The guidance of a model call's rows, in the form in which ComfyUI batches what it knows of each row."""
import dataclasses
import math
from collections.abc import Hashable
from dataclasses import dataclass

import comfy.conds
import torch

from ..blocks import Label
from ..settings import Settings
from .negative import Negative
from .region import Region
from .schedule import Schedule
from .statistics import Statistics

SPLIT_BATCH = (
    "NAG can't tell which rows to guide: ComfyUI put {batched} into a batch, and another node calls the model with "
    "{found} rows. Take out the node that splits the batch, or give it nothing to split: one picture at a time, cfg 1."
)


@dataclass(frozen=True)
class Guidance:
    """How the rows of one conditioning are guided: when (low <= sigma <= high), by what, and how strongly.

    What that does is counted in `statistics`, unless it is None. The strength follows `schedule`; None: it stays.
    It acts in `blocks`; None: in all.
    """

    settings: Settings
    negatives: tuple[Negative, ...]
    low: float
    high: float
    statistics: Statistics | None = None
    schedule: Schedule | None = None
    blocks: frozenset[Label] | None = None

    def __deepcopy__(self, memo) -> "Guidance":
        """Itself: other nodes copy conditionings before a call, and what is counted belongs to the run."""
        return self

    def repeated(self, rows: int) -> "Guidance":
        return dataclasses.replace(self, negatives=tuple(n.repeated(rows) for n in self.negatives))

    def batches_with(self, other: "Guidance") -> bool:
        """Whether rows with the one and rows with the other can be guided in one model call."""
        return self is other or (
            (self.settings, self.low, self.high) == (other.settings, other.low, other.high)
            and self.schedule == other.schedule
            and self.statistics is other.statistics
            and [n.signature() for n in self.negatives] == [n.signature() for n in other.negatives]
        )

    def always(self) -> bool:
        """Whether it acts at every sigma with all of its negatives, so that nobody needs to ask for sigma."""
        return self.schedule is None and all(p.low <= 0 and p.high == math.inf for p in (self, *self.negatives))

    def acts_at(self, sigma: float) -> bool:
        return bool(self.in_force(sigma))

    def in_force(self, sigma: float) -> list[Negative]:
        """The negatives that hold at this sigma; none where NAG does not act."""
        if not self.low <= sigma <= self.high or self.strength_at(sigma) == 0:
            return []
        return [n for n in self.negatives if n.low <= sigma <= n.high]

    def strength_at(self, sigma: float) -> float:
        """What the dial and the schedule make of it at this sigma."""
        return self.settings.strength * (1.0 if self.schedule is None else self.schedule.at(sigma))


@dataclass(frozen=True)
class Active:
    """The negative of a model call in which NAG acts: see ModelCall for the fields.

    Args:
        strength: see Guidance.strength_at; the settings' own is in it, and the largest weight, if there are no masks.
        weights: of each entry, where it has no mask.
        regions: of the guided rows, one after the other; None if there are no masks.
        sources: of each entry, what it is made of: the same sources, the same entry.
    """

    settings: Settings
    strength: float
    entries: tuple[dict, ...]
    sources: tuple[Hashable, ...]
    guided: tuple[slice, ...]
    statistics: Statistics | None
    blocks: frozenset[Label] | None
    weights: tuple[float, ...] = ()
    regions: tuple[Region, ...] | None = None


@dataclass(frozen=True)
class Rows:
    """Some rows of a model call.

    Args:
        count: how many.
        guidance: of these rows, or of those that they may ride beside.
        guided: whether it is theirs.
        n_text: how many tokens their own text has.
        area: see Region.
    """

    count: int
    guidance: Guidance
    guided: bool
    n_text: int = 0
    area: tuple[int, ...] | None = None


class GuidanceRows(comfy.conds.CONDRegular):
    """A ComfyUI COND: the guidance of each row of a model call, which ComfyUI batches as it batches the others.

    Args:
        cond: the rows of each conditioning that has been batched.
    """

    def __init__(self, *cond: Rows):
        super().__init__(cond)

    def process_cond(self, batch_size, area=None, **kwargs):
        (rows,) = self.cond  # ComfyUI batches conditionings after this
        area = None if area is None else tuple(area)
        guidance = rows.guidance.repeated(batch_size) if rows.guided else rows.guidance
        return GuidanceRows(dataclasses.replace(rows, count=batch_size, guidance=guidance, area=area))

    def can_concat(self, other):
        # ComfyUI compares each with the first only. An unguided row fits anything, so it goes by the guidance that it
        # may ride beside; else it would bring together rows whose guidance differs.
        rows, others = self.cond[0], other.cond[0]
        # ComfyUI repeats texts until all have a length. That changes nothing, unless another's keys are beside them.
        if rows.guidance.settings.options.equation == "vsf" and rows.n_text != others.n_text:
            return False
        return rows.guidance.batches_with(others.guidance)

    def concat(self, others):
        return GuidanceRows(*self.cond, *(rows for other in others for rows in other.cond))

    def size(self):
        """The shape that ComfyUI estimates memory by: that of the negative's text."""
        rows, negatives = self.cond[0].count, self.cond[0].guidance.negatives
        return [rows, sum(n.tokens.shape[-2] for n in negatives), negatives[0].tokens.shape[-1]]

    def at(self, t: torch.Tensor, n_rows: int) -> Active | None:
        """What guides a model call at sigmas t, (rows,); None if nothing does.

        Args:
            n_rows: how many rows the call has: those that ComfyUI batched, or several times as many. Tiled samplers
                repeat what belongs to the rows, for one tile after the other.

        Raises:
            ValueError: another number of rows.
        """
        guidances = [rows.guidance for rows in self.cond if rows.guided]
        if not guidances:
            return None
        # Reading sigma makes the host wait for the device, so it is only read where something depends on it.
        sigma = 1.0 if guidances[0].always() else float(t[0])
        parts = [guidance.in_force(sigma) for guidance in guidances]
        if not parts[0]:
            return None
        times = self._times(n_rows)
        entries = tuple(_of_all([entry.given for entry in of_rows] * times) for of_rows in zip(*parts))
        source = lambda entry: (entry.source, len(entry.tokens))
        sources = tuple(tuple(map(source, of_rows)) * times for of_rows in zip(*parts))
        first, guided = guidances[0], self._guided_slices(times)
        strength, weights, regions = first.strength_at(sigma), tuple(n.weight for n in parts[0]), None
        if all(n.mask is None for n in parts[0]):
            strength *= max(weights)
        else:
            areas = [(rows.count, rows.area) for rows in self.cond if rows.guided]
            regions = tuple(Region(*each, tuple(n.mask for n in part)) for each, part in zip(areas, parts)) * times
        of_entries = entries, sources, guided, first.statistics, first.blocks, weights, regions
        return Active(first.settings, strength, *of_entries)

    def _times(self, n_rows):
        batched = sum(rows.count for rows in self.cond)
        times, rest = divmod(n_rows, batched)
        if rest:
            raise ValueError(SPLIT_BATCH.format(batched=batched, found=n_rows))
        return times

    def _guided_slices(self, times):
        slices, start = [], 0
        for rows in self.cond * times:
            stop = start + rows.count
            if rows.guided and slices and slices[-1].stop == start:
                slices[-1] = slice(slices[-1].start, stop)
            elif rows.guided:
                slices.append(slice(start, stop))
            start = stop
        return tuple(slices)


def _of_all(given):
    """What is given of the same entry for each of several rows, as one: their signatures are equal."""
    first = given[0]
    return {
        name: torch.cat([each[name] for each in given]) if torch.is_tensor(value) else value
        for name, value in first.items()
    }
