"""Draw the figures from what is kept in raw/; readable on light and on dark pages.

    python -m evidence figures

They go to figures/, as SVG. It needs matplotlib (evidence/requirements.txt), which `make evidence` installs.
"""
import importlib.util
import io
import pathlib
import re
import sys

import numpy

from . import intervals, rows, tables
from .raw import BY_LOT, FOLDER

OUT = pathlib.Path(__file__).with_name("figures")
REQUIREMENTS = pathlib.Path(__file__).with_name("requirements.txt")
INK = "#808080"  # has contrast enough on white and on black
COLOURS = {"base": "#8c8c8c", "CFG 2": "#e39b5a", "CFG 3": "#cf5c36", "NAG": "#2e86c9"}
CURVES = {
    "cfg": ("CFG", "#cf5c36", "s"),
    "nag_scale": ("nag_scale", "#2e86c9", "o"),
    "nag_tau": ("nag_tau", "#3f9b6c", "^"),
    rows.STRONG_TAU: (rows.STRONG_TAU, "#c2a21d", "v"),
    "nag_alpha": ("nag_alpha", "#a56bc4", "D"),
}
ABLATIONS = {
    "nag_scale": ("NAG", "#2e86c9", "o"),
    "no cap, nag_scale": ("no cap", "#c2a21d", "v"),
    "no blend, nag_scale": ("no blend", "#a56bc4", "D"),
    "neither, nag_scale": ("neither", "#cf5c36", "s"),
    "L2 for L1, nag_scale": ("L2 for L1", "#3f9b6c", "^"),
}
LOT = {
    "nag": ("nag, strength", "#2e86c9", "o"),
    "nag_alpha": CURVES["nag_alpha"],
    f"{rows.SHARE}, strength": (f"{rows.SHARE}, strength", "#8f7f5f", "<"),
    "orthogonal, strength": ("orthogonal, strength", "#5fb3b3", "P"),
    "vsf, nag_scale": ("vsf, nag_scale", "#d970a6", "X"),
    "vsf, vsf_offset 3, nag_scale": ("vsf, vsf_offset 3", "#cf5c36", "s"),
    "nasa, nag_scale": ("nasa, nag_scale", "#c2a21d", "v"),
}
NOT_FROM_BASE = ("nag_tau", rows.STRONG_TAU)  # with the lowest cap NAG acts, too
FURTHER = (("#5fb3b3", "P"), ("#d970a6", "X"), ("#c2a21d", "v"), ("#3f9b6c", "^"), ("#8f7f5f", "<"), ("#a56bc4", "D"))
SHOWN = {"unwanted": ("#cf5c36", "s"), "wanted": ("#3f9b6c", "^"), "right": ("#2e86c9", "o")}
SHARES = {"unwanted": "unwanted, %", "wanted": "wanted, %", "right": "both right, %"}
PANEL = (2.9, 2.5)  # inches
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "evidence",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    **{f"{part}color": INK for part in ("text.", "axes.label", "axes.edge", "axes.title", "xtick.", "ytick.")},
}


def add_arguments(parser):
    parser.add_argument("--raw", type=pathlib.Path, default=FOLDER, help="the folder of what is kept")
    parser.add_argument("--out", type=pathlib.Path, default=OUT, help="a folder")
    parser.add_argument("--format", default="svg", choices=("svg", "png"))


def main(options):
    have_matplotlib()
    import matplotlib

    matplotlib.use("Agg")
    stored, lot = tables.stored(options.raw), tables.stored(options.raw / BY_LOT)
    options.out.mkdir(parents=True, exist_ok=True)
    student, teacher = (tables.having(stored, *(rows.Row(weights, steps) for steps in rows.FEW))
                        for weights in ("student", "teacher"))
    swept, stopped, many = (tables.having(stored, row) for row in (
        rows.Row("student", rows.ABLATED), rows.Row("student", rows.FEW[-1]), rows.Row("teacher", rows.MANY)))
    equations = dict.fromkeys(name for raw in stored.values() for name in tables.equations_in(raw))
    made = {  # of the models of which there is what a figure needs most, if there are any
        "curves": swept and (lambda: curves(swept, rows.curves_of, CURVES, retention, "with all of the wanted, %")),
        "fidelity": swept and (lambda: curves(swept, rows.curves_of, CURVES, fidelity, "distance to drawn pictures")),
        "equations": lambda: beside_the_dial(swept, lambda model: rows.equation_curves(equations)),
        "token_wise": lambda: beside_the_dial(swept, lambda model: rows.token_wise_curves(model, rows.TOKEN_WISE)),
        "by_lot": lot and (lambda: by_lot(lot)),
        "ablation": lambda: ablation(swept),
        "few_steps": student and (lambda: few_steps(student, "student")),
        "few_steps_teacher": teacher and (lambda: few_steps(teacher, "teacher")),
        "many_steps": many and (lambda: many_steps(many)),
        "early_stopping": stopped and (lambda: early_stopping(stopped)),
    }
    with matplotlib.rc_context(STYLE):
        for name, make in made.items():
            figure, path = make and make(), options.out / f"{name}.{options.format}"
            if not figure:
                continue
            save(figure, path)
            print(f"{path}  ({path.stat().st_size / 1000:.0f} kB)")


def have_matplotlib():
    """Install it in the environment that is ours; in any other, say what to type."""
    from host.environment import ROOT, pip

    if importlib.util.find_spec("matplotlib"):
        return
    ours = pathlib.Path(sys.prefix).resolve().is_relative_to(ROOT.resolve())
    if not ours or not pip(sys.executable, "install", "--no-input", "--requirement", REQUIREMENTS):
        sys.exit(f"The figures need matplotlib: {sys.executable} -m pip install -r {REQUIREMENTS}")
    importlib.invalidate_caches()


def save(figure, path):
    """An SVG is made small: no comments, no indents, hundredths of a point; and the same each time, so undated."""
    common = {"transparent": True, "bbox_inches": "tight"}
    if path.suffix != ".svg":
        figure.savefig(path, dpi=110, **common)
        return
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None}, **common)
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", drawn.getvalue(), flags=re.DOTALL)
    text = re.sub(r"(\.\d\d)\d+", r"\1", re.sub(r"\s*\n\s*", "\n", text))
    path.write_text(text, encoding="utf-8")


# ---------------------------------------------------------------- suppression against retention
def suppression(pictures):
    share, low, high = (100 * value for value in intervals.proportion(~pictures.unwanted))
    return share, share - low, high - share


def retention(pictures):
    share, low, high = (100 * value for value in intervals.proportion(pictures.wanted))
    return share, share - low, high - share


def fidelity(pictures):
    """The distance to drawn pictures in which the unwanted does not show."""
    return pictures.distances[2], pictures.distances[3], pictures.distances[3]


def ablation(stored):
    tried = lambda model: {name: curve for name, curve in rows.ablation_curves().items() if "cap" in name}
    swept = lambda model: {"nag_scale": rows.curves_of(model)["nag_scale"], **rows.ablation_curves()}
    return where_tried(stored, tried, swept, ABLATIONS)


def beside_the_dial(stored, tried):
    """Further curves beside CFG's and NAG's by its dial."""
    names = dict.fromkeys(name for model in stored for name in tried(model))
    looks = {"cfg": CURVES["cfg"], "nag": ("nag, strength", "#2e86c9", "o")}
    looks |= {name: (name, *look) for name, look in zip(names, FURTHER)}
    swept = lambda model: {"cfg": rows.curves_of(model)["cfg"], "nag": rows.dial(), **tried(model)}
    return where_tried(stored, tried, swept, looks)


def where_tried(stored, tried, swept, looks):
    """`curves` of those models of which there are rows of tried(model), {name: {value: Row}}; None if there is none."""
    rows_of = {name: [row for curve in tried(name).values() for row in curve.values()] for name in stored}
    there = {name: raw for name, raw in stored.items() if tables.having({name: raw}, *rows_of[name])}
    return curves(there, swept, looks, retention, "with all of the wanted, %") if there else None


def curves(stored, swept, looks, of, label):
    """A panel for each model: what of() says of each row of the student's sweeps, against what is suppressed.

    swept: called with a model's name, gives {curve: {value: Row}}. looks: (label, colour, marker) of each curve.
    """
    figure, panels = grid(len(stored) + 1, 3)
    for panel, (name, raw) in zip(panels, stored.items()):
        curve_panel(panel, raw, ("student", rows.ABLATED), swept(name), looks, of)
        panel.set(title=name, xlabel="without the unwanted, %", ylabel=label)
    legend(panels)
    return figure


def by_lot(stored):
    """A panel for each model and each of those that few steps are painted by; prompts drawn by lot."""
    figure, panels = grid(len(stored) * len(rows.FEW_STEPS), len(stored), (2.3, 2.1))
    names = dict.fromkeys(name for raw in stored.values() for name in tables.equations_in(raw))
    for at, painter in enumerate(rows.FEW_STEPS):
        for panel, (name, raw) in zip(panels[at * len(stored):], stored.items()):
            tried = rows.token_wise_curves(name, (rows.SHARE,), *painter) | rows.equation_curves(names, *painter)
            auto = {0.0: rows.row(*painter)}  # with less of it than was painted
            of_nag = {"nag": rows.dial(*painter), "nag_alpha": auto | rows.sweep("nag_alpha", *painter)}
            curve_panel(panel, raw, painter, of_nag | tried, LOT, retention)
            panel.set_title(f"{name}, {painter[0]}, {painter[1]} steps" if panel.has_data() else "")
        panels[at * len(stored)].set_ylabel("with all of the wanted, %")
    for panel in panels[-len(stored):]:
        panel.set_xlabel("without the unwanted, %")
    legend(panels, below=True)
    return figure


def curve_panel(panel, raw, painter, named, looks, of):
    """The curves of one model. painter: (weights, steps). named: {curve: {value: Row}}."""
    base = raw.rows.get(rows.Row(*painter).key)
    for curve, (text, colour, marker) in looks.items():
        points = sorted(named.get(curve, {}).items())
        found = {value: raw.rows[row.key] for value, row in points if row.key in raw.rows}
        if found and base is not None:
            draw_curve(panel, [] if curve in NOT_FROM_BASE else [base], list(found.values()), of, text, colour, marker)
    auto = raw.rows.get(rows.row(*painter).key)
    for pictures, look in ((base, dict(marker="o", color=INK, label="base")),
                           (auto, dict(marker="*", color=COLOURS["NAG"], markersize=11, label="NAG, auto"))):
        if pictures is not None:
            panel.plot(suppression(pictures)[0], of(pictures)[0], linestyle="none", zorder=5, **look)


def draw_curve(panel, begin, points, of, label, colour, marker):
    """begin, points: lists of raw.Pictures; the former are not marked."""
    x, y = (numpy.array([f(pictures) for pictures in [*begin, *points]]).T for f in (suppression, of))
    panel.plot(x[0], y[0], color=colour, zorder=3)
    marked = slice(len(begin), None)
    panel.errorbar(x[0, marked], y[0, marked], xerr=x[1:, marked], yerr=y[1:, marked], color=colour, marker=marker,
                   linestyle="none", elinewidth=0.6, alpha=0.9, label=label, zorder=4)


# ---------------------------------------------------------------- bars and lines
def few_steps(stored, weights):
    """Bars: for each model what shows in its pictures, by steps and method."""
    blocks = [block for block in rows.few_steps("").blocks if block.title.lower().startswith(weights)]
    figure, panels = grid(len(SHARES) * len(stored), len(stored), (2.3, 1.7))
    for at, (share, label) in enumerate(SHARES.items()):
        for panel, (name, raw) in zip(panels[at * len(stored):], stored.items()):
            bars(panel, raw, [block.rows for block in blocks], share)
            panel.set(title=name if at == 0 else "", ylim=(0, 102))
            panel.set_xticks(range(len(blocks)), [block.title.split(", ")[1] for block in blocks])
        panels[at * len(stored)].set_ylabel(label)
    legend(panels, below=True)
    return figure


def bars(panel, raw, groups, share):
    """groups: {label: Row} of each place on the axis."""
    for place, group in enumerate(groups):
        for at, (label, row) in enumerate(group.items()):
            if row.key in raw.rows:
                value, low, high = (100 * v for v in intervals.proportion(getattr(raw.rows[row.key], share)))
                width = 0.8 / len(group)
                panel.bar(place + (at - (len(group) - 1) / 2) * width, value, width * 0.9, color=COLOURS[label],
                          yerr=[[value - low], [high - value]], error_kw={"ecolor": INK, "elinewidth": 0.8},
                          label=label if place == 0 else None)


def many_steps(stored):
    """Points with intervals: the teachers in many steps, a line for each method."""
    figure, panels = grid(len(stored), len(stored), (2.3, 2.2))
    for panel, (name, raw) in zip(panels, stored.items()):
        found = {label: raw.rows[row.key] for label, row in rows.many_steps(name).blocks[0].rows.items()
                 if row.key in raw.rows}
        panel.set_title(name)
        if not found:
            continue
        for share, (colour, marker) in SHOWN.items():
            values, errors = shares(found, share)
            panel.errorbar(values, range(len(found)), xerr=errors, color=colour, marker=marker, linestyle="none",
                           elinewidth=0.8, label=SHARES[share].rstrip(", %"))
        panel.set_yticks(range(len(found)), list(found), fontsize=7)
        panel.invert_yaxis()
        panel.set(xlim=(0, 102), xlabel="%")
    legend(panels, below=True)
    return figure


def early_stopping(stored):
    """Lines: what shows when NAG stops earlier (solid) and when it starts later (dashed)."""
    figure, panels = grid(2 * len(stored), len(stored), (2.3, 1.8))
    for at, (weights, steps) in enumerate((("student", rows.FEW[-1]), ("teacher", rows.MANY))):
        base, auto = rows.Row(weights, steps), rows.row(weights, steps)
        lines = {
            ("until", "-"): {0: base, 1: auto} | {to: rows.row(weights, steps, end_percent=to) for to in (0.25, 0.5)},
            ("from", "--"): {0: auto, 1: base} | {to: rows.row(weights, steps, start_percent=to) for to in (0.25, 0.5)},
        }
        for panel, (name, raw) in zip(panels[at * len(stored):], stored.items()):
            for share in ("unwanted", "wanted"):
                for (how, style), points in lines.items():
                    found = {x: raw.rows[row.key] for x, row in sorted(points.items()) if row.key in raw.rows}
                    if found:
                        values, errors = shares(found, share)
                        panel.errorbar(list(found), values, yerr=errors, color=SHOWN[share][0], linestyle=style,
                                       marker="o", elinewidth=0.8, label=f"{share}, NAG {how} there")
            panel.set(title=f"{name}, {steps} steps", ylim=(0, 102), xticks=(0, 0.25, 0.5, 1))
            panel.set_xticklabels(("0", "¼", "½", "1"))
        panels[at * len(stored)].set_ylabel(f"{weights}, %")
    legend(panels, below=True)
    return figure


def shares(found, name):
    """(shares in per cent, (2, rows) of what their intervals reach below and above)."""
    value, low, high = 100 * numpy.array([intervals.proportion(getattr(each, name)) for each in found.values()]).T
    return value, numpy.stack([value - low, high - value])


# ---------------------------------------------------------------- layout
def grid(count, columns, size=PANEL):
    """(figure, list of `count` panels or more)."""
    from matplotlib.figure import Figure

    lines = -(-count // columns)
    figure = Figure(figsize=(columns * size[0], lines * size[1]), layout="constrained")
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    for panel in panels:
        panel.grid(color=INK, alpha=0.2, linewidth=0.5)
    return figure, panels


def legend(panels, below=False):
    """One for all panels: below them, or in the first empty one, whose fellows go."""
    handles = {label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels())}
    empty = [panel for panel in panels if not panel.has_data()]
    for panel in empty:
        panel.axis("off")
    if below or not empty:
        panels[0].figure.legend(handles.values(), handles, loc="outside lower center",
                                ncols=min(len(handles), 5))
    else:
        empty[0].legend(handles.values(), handles, loc="center")
