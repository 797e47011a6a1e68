"""What is kept of the pictures: for each row and picture what was asked of it and what a judge saw."""
import json
import pathlib
from dataclasses import dataclass, field

import numpy

FOLDER = pathlib.Path(__file__).with_name("raw")
BY_LOT = "by_lot"  # the folder in it of what was painted of prompts drawn by lot
DRAWN, DRAWN_WITHOUT = "drawn", "drawn without the unwanted"  # keys of rows that are drawn instead of painted
NO_DISTANCE = (float("nan"),) * 4


@dataclass
class Pictures:
    """What became of the pictures of one row, in the order of Raw.case and Raw.seed.

    Args:
        unwanted, wanted: (pictures,) bool: whether what the negative names shows, and whether all that the prompt says.
        odd: (pictures,) share of pixels off the palette; nan where a world has none.
        seen: (pictures, facts) bool: what the judge saw, fact by fact, in the order of Raw.notes["facts"].
        distances: of the row, the Fréchet distance to drawn pictures of the prompts and half the width of its interval,
            and the same to those in which the unwanted does not show; nan where it was not measured.
        seconds: that it took to paint them.
    """

    unwanted: numpy.ndarray
    wanted: numpy.ndarray
    odd: numpy.ndarray
    seen: numpy.ndarray
    distances: tuple[float, float, float, float] = NO_DISTANCE
    seconds: float = float("nan")

    @property
    def right(self):
        """Both: all that the prompt says, and nothing of the negative."""
        return self.wanted & ~self.unwanted


@dataclass
class Raw:
    """All rows of one model. Each has the same prompts and the same noise.

    Args:
        case, seed: (pictures,) integers: the number of the prompt in notes["cases"], and the seed of its noise.
        rows: Pictures by a row's key.
        notes: what can be said in JSON: cases (a prompt and a negative each), facts, versions, device, commands.
    """

    case: numpy.ndarray
    seed: numpy.ndarray
    rows: dict[str, Pictures] = field(default_factory=dict)
    notes: dict = field(default_factory=dict)

    def save(self, path):
        """Write one compressed file. Bits are packed, shares are rounded to float16."""
        rows = list(self.rows.values())
        bits = {name: numpy.packbits([getattr(row, name) for row in rows], axis=-1)
                for name in ("unwanted", "wanted", "seen")}
        numpy.savez_compressed(
            path, **bits, case=self.case.astype(numpy.uint16), seed=self.seed.astype(numpy.uint32),
            odd=numpy.array([row.odd for row in rows], dtype=numpy.float16),
            distances=numpy.array([row.distances for row in rows], dtype=numpy.float32),
            seconds=numpy.array([row.seconds for row in rows], dtype=numpy.float32),
            notes=json.dumps({**self.notes, "rows": list(self.rows)}))

    @classmethod
    def load(cls, path):
        with numpy.load(path) as stored:
            arrays = dict(stored)
        notes = json.loads(str(arrays["notes"]))
        pictures, facts = len(arrays["case"]), len(notes.get("facts", ()))
        bits = {name: numpy.unpackbits(arrays[name], axis=-1, count=count).astype(bool)
                for name, count in (("unwanted", pictures), ("wanted", pictures), ("seen", facts))}
        rows = {
            key: Pictures(bits["unwanted"][i], bits["wanted"][i], arrays["odd"][i], bits["seen"][i],
                          tuple(map(float, arrays["distances"][i])), float(arrays["seconds"][i]))
            for i, key in enumerate(notes.pop("rows"))
        }
        return cls(arrays["case"].astype(int), arrays["seed"].astype(int), rows, notes)

    def onto(self, before):
        """These rows and those of an earlier run, if there was one, less what was painted anew.

        Raises:
            ValueError: it has other prompts, seeds or facts.
        """
        if before is None:
            return self
        same = all(numpy.array_equal(getattr(self, name), getattr(before, name)) for name in ("case", "seed"))
        if not same or any(self.notes.get(name) != before.notes.get(name) for name in ("cases", "facts")):
            raise ValueError("These rows have other prompts, seeds or facts, and can't be compared: begin a new file.")
        runs = [*before.notes["runs"], *self.notes["runs"]]
        return Raw(self.case, self.seed, before.rows | self.rows, {**self.notes, "runs": runs})
