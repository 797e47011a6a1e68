"""What each cell of a grid is sampled with, from what people write along its sides."""
import dataclasses
import decimal
import re
from collections.abc import Callable
from dataclasses import dataclass

from ...patches.settings import Options, Settings, check_choice
from .. import inputs

NONE = "none"
MOST_CELLS = 100


@dataclass(frozen=True)
class Cell:
    """How one cell is sampled.

    Args:
        nag: nag_scale, nag_tau, nag_alpha and strength, as far as they are not "auto".
        options: see Options; None: NAG stops where that is recommended.
        sampling: seed and cfg.
    """

    nag: dict
    options: Options | None
    sampling: dict

    @property
    def settings(self) -> Settings:
        return inputs.settings(**self.nag, options=self.options)


def _of_nag(cell, name, value):
    return dataclasses.replace(cell, nag={**cell.nag, name: value})


def _of_options(cell, name, value):
    return dataclasses.replace(cell, options=dataclasses.replace(cell.options or Options(), **{name: value}))


def _of_sampling(cell, name, value):
    low, high, kind = {"cfg": (0, 100, float), "seed": (0, 0xFFFFFFFFFFFFFFFF, int)}[name]
    if kind(value) != value or not low <= value <= high:
        raise ValueError(f"{name} must be a {'whole ' * (kind is int)}number from {low} to {high}, not {value}.")
    return dataclasses.replace(cell, sampling={**cell.sampling, name: kind(value)})


# What can vary along a side: (cell, name, value) gives the cell with the value.
AXES: dict[str, Callable[[Cell, str, float], Cell]] = {
    "strength": _of_nag,
    "nag_scale": _of_nag,
    "nag_alpha": _of_nag,
    "nag_tau": _of_nag,
    "end_percent": _of_options,
    "cfg": _of_sampling,
    "seed": _of_sampling,
}
NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
RANGE = re.compile(rf"({NUMBER})\s*\.\.\s*({NUMBER})(?:\s*:\s*({NUMBER}))?")


def values_of(axis: str, text: str) -> list[float | str | None]:
    """The values along a side: [None] for "none".

    text: numbers, "auto" for what has it, and ranges "0..2:0.5", whose step is 1 if it is left out; with commas, spaces
    or lines between them. Where a semicolon is between them, a comma is a decimal one.

    Raises:
        ValueError: a value is none of these; there is none, or there are more than MOST_CELLS.
    """
    if axis == NONE:
        return [None]
    parts = text.replace(",", ".").split(";") if ";" in text else re.split(r"[,\s]+", _without_blanks(text))
    values = [value for part in parts if part.strip() for value in _values(axis, part.strip())]
    if not values:
        raise ValueError(f"There are no values for {axis}.")
    _check_count(len(values))
    return values


def _without_blanks(text):
    """Of ranges, which may have some within."""
    return re.sub(r"\s*(\.\.|:)\s*", r"\1", text.strip())


def _values(axis, text):
    if text.lower() == inputs.AUTO and AXES[axis] is _of_nag and axis != "strength":
        return [inputs.AUTO]
    limits = RANGE.fullmatch(text)
    if limits:
        first, last, step = (decimal.Decimal(number or 1) for number in limits.groups())
        if step <= 0 or last < first:
            raise ValueError(f"A range goes up, from..to:step, not {text!r}.")
        count = int((last - first) / step) + 1
        _check_count(count)
        return [_number(first + step * at) for at in range(count)]
    if not re.fullmatch(NUMBER, text):
        raise ValueError(f"{text!r} is no value for {axis}: it takes numbers, and ranges as 0..2:0.5.")
    return [_number(decimal.Decimal(text))]


def _number(value):
    """An int where it is one: a seed may be larger than what a float holds."""
    return int(value) if value == value.to_integral_value() else float(value)


def _check_count(cells):
    if cells > MOST_CELLS:
        raise ValueError(f"That makes {cells} pictures; a grid has at most {MOST_CELLS}.")


def cells_of(
    columns: str, column_values: str, rows: str, row_values: str, options: Options | None, seed: int, cfg: float
) -> tuple[list[list[Cell]], list, list]:
    """The cells row by row, and the values along the two sides. Raises ValueError where one can't be sampled."""
    for side, axis in (("columns", columns), ("rows", rows)):
        check_choice(side, axis, (NONE, *AXES))
    if columns == rows != NONE:
        raise ValueError(f"columns and rows are both {rows}: choose two, or {NONE} for one of them.")
    across, down = values_of(columns, column_values), values_of(rows, row_values)
    _check_count(len(across) * len(down))
    plain = Cell({}, options, {"seed": seed, "cfg": cfg})
    lines = [_with(plain, rows, value) for value in down]
    cells = [[_with(line, columns, value) for value in across] for line in lines]
    for line in cells:
        for cell in line:
            cell.settings  # noqa: B018  raises for a value out of range
    return cells, across, down


def _with(cell, axis, value):
    return cell if axis == NONE else AXES[axis](cell, axis, value)
