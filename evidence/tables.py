"""Write RESULTS.md from what is kept in raw/: each table of each model, and how exact its figures are.

    python -m evidence tables
"""
import json
import pathlib

import numpy

from . import intervals, rows
from .raw import BY_LOT, DRAWN, DRAWN_WITHOUT, FOLDER, Raw

HERE = pathlib.Path(__file__).parent
FIRST = HERE / "NOT_AS_THE_PAPER.md"  # written by hand
MEASURED = ("unwanted", "wanted", "right")
COLUMNS = ("", "unwanted", "wanted", "both right", *(f"{name}, over the first" for name in MEASURED),
           "wanted, over nag's curve", "off palette", "distance", "distance, without")
LEGEND = f"""Written by `python -m evidence tables` from `raw/`; [README.md](README.md) says how all of it was made.

- **unwanted**: pictures in which the judge sees what the negative names. **wanted**: in which it sees all that the
  prompt says. **both right**: the wanted without the unwanted. In per cent, with the {intervals.LEVEL:.0%} interval for
  other seeds of these prompts (Wilson).
- **over the first**: points more than in the block's first row, picture by picture of the same prompt and noise, with
  the {intervals.LEVEL:.0%} interval for other prompts of this kind (Student's t over the prompts' means).
- **wanted, over nag's curve**: points more of the wanted than NAG has where its dial suppresses as much, interpolated
  between its rows, with the interval for other prompts; beyond the dial, where nag_alpha, swept, does. No figure where
  neither reaches.
- **off palette**: pixels of no colour of the model's world, in per cent. A world of any colours has none.
- **distance**: Fréchet distance in the judge's features to drawn pictures of the same prompts; **without**: to such in
  which the unwanted does not show, which is what a perfect negative prompt would give. Intervals by leaving out a
  sixteenth of the seeds at a time. Drawn pictures have one above 0, too, since they are finitely many.
"""
LOT_LEGEND = """Prompts that had no part in any choice, each with a negative that names what habit mostly puts there:
more of them than above, with fewer pictures each, since prompts differ more than noise does, and seeds that were not
used above. `python -m evidence paint MODEL --by-lot`."""
FIGURES = {
    "few_steps": "Few steps, students: CFG and NAG alone",
    "few_steps_teacher": "The same few steps with the teachers, which were not distilled",
    "curves": f"Suppression against retention, students in {rows.ABLATED} steps",
    "fidelity": "The same against the distance to drawn pictures in which the unwanted does not show: lower is better",
    "equations": f"Other equations beside NAG's, suppression against retention, students in {rows.ABLATED} steps",
    "token_wise": "NAG's strength weighted token by token, likewise",
    "by_lot": "Other equations, and strength by the share of attention, on prompts drawn by lot, in few steps",
    "ablation": "The equation with parts left out, over nag_scale",
    "many_steps": f"Teachers in {rows.MANY} steps, with CFG and with PAG",
    "early_stopping": "NAG in a part of the sampling only",
}


def add_arguments(parser):
    parser.add_argument("--raw", type=pathlib.Path, default=FOLDER, help="the folder of what is kept")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "RESULTS.md")


def main(options):
    lines = ["# What comes out", "", FIRST.read_text(encoding="utf-8").strip(), "", *figures(),
             "## How to read the tables", "", LEGEND]
    lines += ["## At a glance", "", *glance(stored(options.raw)), ""]
    for name, raw in stored(options.raw).items():
        strip = HERE / "strips" / f"{name}.webp"
        lines += [f"## {name}", "", *([f"![Pictures by {name}](strips/{strip.name})", ""] * strip.exists()),
                  *about(raw), ""]
        shown = set()
        for number, table in enumerate(rows.tables(name, equations_in(raw)), 1):
            found = of_blocks(raw, table.blocks, shown)
            lines += [f"### {name} {number}. {table.title}", "", *found] if found else []
    lot = stored(options.raw / BY_LOT)
    lines += ["## Prompts drawn by lot", "", LOT_LEGEND, ""] if lot else []
    for name, raw in lot.items():
        (table,) = rows.tables(name, equations_in(raw), by_lot=True)
        lines += [f"### {name}, prompts drawn by lot", "", *about(raw), "", *of_blocks(raw, table.blocks, set())]
    costs = options.raw / "cost.json"
    if costs.exists():
        lines += ["## Cost", "", *cost(json.loads(costs.read_text(encoding="utf-8"))), ""]
    options.out.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    print(options.out)


def figures():
    """Lines with those that have been drawn."""
    drawn = {name: caption for name, caption in FIGURES.items() if (HERE / "figures" / f"{name}.svg").exists()}
    return ["## Figures", "", *(line for name, caption in drawn.items() for line in (
        f"**{caption}.**", "", f"![{caption}](figures/{name}.svg)", ""))]


def stored(folder):
    """Raw of each model that there is one of, by its name."""
    paths = {name: folder / f"{name}.npz" for name in rows.MODELS}
    return {name: Raw.load(path) for name, path in paths.items() if path.exists()}


def having(models, *asked):
    """Those models of which there is one of the rows."""
    return {name: raw for name, raw in models.items() if any(row.key in raw.rows for row in asked)}


def equations_in(raw):
    """The equations beside the paper's that there are rows of."""
    marks = (part for key in raw.rows for part in key.replace(",", " ").split() if part.startswith("equation="))
    return tuple(dict.fromkeys(mark.removeprefix("equation=") for mark in marks))


def about(raw):
    """Lines: how many pictures, of what, who made them; and what the judge says of drawn ones."""
    pictures, cases = len(raw.case), raw.notes["cases"]
    lines = [f"{len(cases)} prompts x {pictures // len(cases)} seeds = {pictures:,} pictures a row. Painted by:", ""]
    lines += [f"- `{run['command']}`: {run['rows']} rows in {run['seconds']} s, {run['device']}, "
              f"ComfyUI {run['comfyui']}, torch {run['torch']}" for run in raw.notes["runs"]]
    drawn = {key: key for key in (DRAWN, DRAWN_WITHOUT) if key in raw.rows}
    if drawn:
        lines += ["", "The judge, of pictures that are drawn instead of painted:", "",
                  *markdown(COLUMNS, [cells(key, raw, raw.rows[key]) for key in drawn])]
    return lines


def of_blocks(raw, blocks, shown):
    """Lines: a table for each block of which rows are there that are not all in `shown`, keys; to it they are added."""
    lines = []
    for block in blocks:
        found = {label: raw.rows[row.key] for label, row in block.rows.items() if row.key in raw.rows}
        keys = {block.rows[label].key for label in found}
        if not keys <= shown:
            shown |= keys
            first = next(iter(found.values()))
            lines += [block.title + ":", ""]
            curves = [[raw.rows[row.key] for row in curve if row.key in raw.rows] for curve in block.beside]
            lines += [*markdown(COLUMNS, [cells(label, raw, row, first, curves) for label, row in found.items()]), ""]
    return lines


def cells(label, raw, pictures, first=None, curves=()):
    """What stands in a line of a table. pictures: of its row; first: of the one that it is compared with; curves: of
    those of which the first that reaches as far is what it is compared with at equal suppression."""
    shares = [percent(*intervals.proportion(getattr(pictures, name))) for name in MEASURED]
    changes = [""] * len(MEASURED)
    if first is not None and first is not pictures:
        changes = [points(intervals.difference(getattr(pictures, name), getattr(first, name), raw.case))
                   for name in MEASURED]
    odd = "" if numpy.isnan(pictures.odd).any() else percent(*intervals.mean(pictures.odd))
    with_it, half, without, half_without = pictures.distances
    of_nag = any(pictures is each for curve in curves for each in curve)
    compared = (intervals.beside([(each.unwanted, each.wanted) for each in curve], pictures.unwanted, pictures.wanted,
                                 raw.case) for curve in curves if not of_nag)
    compared = next((found for found in compared if found), None)
    return [label, *shares, *changes, points(compared) if compared else "", odd, distance(with_it, half),
            distance(without, half_without)]


def points(found):
    value, _, high = found
    return f"{100 * value:+.1f} ±{100 * (high - value):.1f}"


def distance(value, half):
    places = 2 if half < 1 else 1 if half < 10 else 0
    return "" if numpy.isnan(value) else f"{value:.{places}f} ±{half:.{places}f}"


def percent(value, low, high):
    return f"{100 * value:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def markdown(columns, lines):
    """The lines of a Markdown table; columns that nothing stands in are left out."""
    shown = [i for i in range(len(columns)) if any(line[i] for line in lines)]
    return ["| " + " | ".join(line[i] for i in shown) + " |" for line in [columns, ["---"] * len(columns), *lines]]


def glance(models):
    """Lines: for each model's student what a fixed setting gives, and the best that each sweep has in it."""
    fixed = {"base": rows.Row("student", rows.ABLATED), "CFG 3": rows.Row("student", rows.ABLATED, 3.0),
             "NAG, auto": rows.row("student", rows.ABLATED)}
    lines = []
    for name, raw in having(models, fixed["base"]).items():
        swept = rows.curves_of(name)
        found = {label: {"": row} for label, row in fixed.items()} | {
            "CFG, best": {f"cfg {cfg:g}": row for cfg, row in swept.pop("cfg").items()},
            "NAG, best": {f"{label} {value:g}": row for label, curve in swept.items()
                          for value, row in curve.items()}}
        lines.append([name, *(best(raw, rows_of) for rows_of in found.values())])
    note = (f"Students in {rows.ABLATED} steps: both right, in per cent (unwanted / wanted), and at which setting. The "
            "best are the best of the sweeps, chosen by these very pictures, and so a little flattered.")
    return [note, "", *markdown(["", *fixed, "CFG, best", "NAG, best"], lines)] if lines else []


def best(raw, candidates):
    """Of rows by their label, the one with most pictures right."""
    there = {label: raw.rows[row.key] for label, row in candidates.items() if row.key in raw.rows}
    if not there:
        return ""
    label, row = max(there.items(), key=lambda each: each[1].right.mean())
    right, unwanted, wanted = (100 * shown.mean() for shown in (row.right, row.unwanted, row.wanted))
    return f"{right:.1f} ({unwanted:.0f} / {wanted:.0f}){label and ', ' + label}"


def cost(costs):
    """Lines of the table of what cost.py has measured."""
    methods = list(dict.fromkeys(method for model in costs["models"].values() for method in model))
    lines = [[method, *(ratio(model[method]) if method in model else "" for model in costs["models"].values())]
             for method in methods]
    return [costs["about"], "", *markdown(["time over base's", *costs["models"]], lines)]


def ratio(quartiles):
    low, middle, high = quartiles
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"
