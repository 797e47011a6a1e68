"""Tables of what a judge has said, and all of it in one file."""
import csv
from dataclasses import dataclass
from pathlib import Path

from .. import intervals
from .pairs import Pair
from .rows import BASE

# By the names that judges give: what stands above the column, and whether it is a share of pictures.
MEASURES = {
    "unwanted": ("unwanted shows", True),
    "wanted": ("wanted shows", True),
    "right": ("both right", True),
    "p_unwanted": ("P(yes) for the unwanted", False),
    "p_wanted": ("P(yes) for the wanted", False),
    "clip_negative": ("similarity to the negative", False),
    "clip_prompt": ("similarity to the prompt", False),
    "farther": (f"farther from the negative than {BASE}", True),
    "answered": ("P(yes or no)", False),
}


@dataclass(frozen=True)
class Judged:
    """What a judge says of one picture: `said` has MEASURES by name. number: in its batch."""

    pair: Pair
    seed: int
    number: int
    row: str
    said: dict[str, float]

    @property
    def like(self):
        """What it has in common with its like in the other rows."""
        return self.pair.number, self.seed, self.number


def completed(judged: list[Judged]) -> list[Judged]:
    """With what follows from what the judge said: `right`, and `farther` by the pictures without guidance."""
    base = {each.like: each.said for each in judged if each.row == BASE}
    for each in judged:
        said, before = each.said, base.get(each.like, {})
        if {"unwanted", "wanted"} <= said.keys():
            said["right"] = float(said["wanted"] > 0.5 and said["unwanted"] <= 0.5)
        if each.row != BASE and {"clip_negative"} <= said.keys() & before.keys():
            said["farther"] = float(said["clip_negative"] < before["clip_negative"])
    return judged


def write(judged: list[Judged], folder: Path, title: str, name: str, notes: list[str] = ()) -> tuple[Path, Path]:
    """NAME.md with the tables and NAME.csv with a line for each picture; gives their paths."""
    page, raw = folder / f"{name}.md", folder / f"{name}.csv"
    measures = [name for name in MEASURES if any(name in each.said for each in judged)]
    with open(raw, "w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["pair", "prompt", "negative", "kind", "seed", "number", "row", *measures])
        lines.writerows([*each.pair, each.seed, each.number, each.row, *(each.said.get(name, "") for name in measures)]
                        for each in judged)
    rows, pairs = _by(judged, lambda each: each.row), {each.pair.number: each.pair for each in judged}
    parts = [f"# {title}\n", f"{len(pairs)} prompts, {len(judged)} pictures. In brackets the interval of 95 %.\n",
             *(f"{note}\n" for note in notes), _shares(rows, measures),
             f"\nThe same seeds, beside {BASE}; the interval is one for other prompts:\n", _differences(rows, measures)]
    kinds = _by(judged, lambda each: each.pair.kind)
    if "unwanted" in measures:
        if len(kinds) > 1:
            parts += ["\nUnwanted / wanted, by what the negative names:\n",
                      _each(kinds, rows, ["kind"], lambda kind: [kind])]
        named = lambda number: [pairs[number].prompt, pairs[number].negative]
        parts += ["\nUnwanted / wanted, prompt by prompt:\n",
                  _each(_by(judged, lambda each: each.pair.number), rows, ["prompt", "negative"], named)]
    page.write_text("\n".join(parts) + "\n", encoding="utf-8")
    return page, raw


def _by(judged, key):
    """{key: those that have it}, in the order in which they come."""
    groups = {}
    for each in judged:
        groups.setdefault(key(each), []).append(each)
    return groups


def _table(head, lines):
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines))


def _shares(rows, measures):
    cell = lambda judged, name: _cell(name, [each.said[name] for each in judged if name in each.said])
    head = ["", "pictures", *(MEASURES[name][0] for name in measures)]
    return _table(head, [[row, str(len(judged)), *(cell(judged, name) for name in measures)]
                         for row, judged in rows.items()])


def _cell(name, values):
    if not values:
        return ""
    is_share = MEASURES[name][1]
    if is_share and set(values) <= {0.0, 1.0}:
        return _shown(*intervals.proportion(values), is_share)
    return _shown(*intervals.mean(values), is_share) if len(values) > 1 else _shown(*values, None, None, is_share)


def _differences(rows, measures):
    measures = [name for name in measures if name not in ("farther", "answered")]
    base = {each.like: each.said for each in rows.get(BASE, ())}
    lines = []
    for row, judged in rows.items():
        if row != BASE:
            lines.append([row])
            for name in measures:
                both = [(each.said[name], base[each.like][name], each.pair.number) for each in judged
                        if name in each.said and name in base.get(each.like, {})]
                found = intervals.difference(*zip(*both)) if both else None
                lines[-1].append(_shown(*found, MEASURES[name][1], "+") if found else "")
    return _table(["", *(MEASURES[name][0] for name in measures)], lines)


def _shown(middle, low, high, is_share, sign=""):
    """A figure with its interval: shares in percent, their differences in points."""
    digits, unit = (".0f", "" if sign else "%") if is_share else (".3f", "")
    scale = 100 if is_share else 1
    figure = f"{middle * scale:{sign}{digits}}{unit}"
    return figure if low is None else f"{figure} ({low * scale:{digits}} to {high * scale:{digits}})"


def _each(groups, rows, head, named):
    """A line for each group of pictures, with unwanted / wanted by row."""
    lines = []
    for key, judged in groups.items():
        cells = []
        for row in rows:
            said = [each.said for each in judged if each.row == row]
            cells.append(" / ".join(_mean(said, name) for name in ("unwanted", "wanted")) if said else "")
        lines.append([*named(key), *cells])
    return _table([*head, *rows], lines)


def _mean(said, name):
    return f"{sum(each[name] for each in said) / len(said):.0%}"
