"""Paint the pictures of the help pages with the playground's models, and measure what they show.

    python -m playground.pictures [--comfyui PATH]

run in the repository's folder. A picture has a row for each value of a setting and the same seeds in each row, the
first ones, none left out. With --seeds 40 it also prints, for each row, what the detector finds in the prompts of
playground.measure, with 40 seeds each.
"""
import argparse
import dataclasses
import pathlib

import torch
from host.inside import COMFYUI, start_comfyui

from . import measure

FIRST, STUDENT = "playground", "flux student"  # of the networks
FOLDER = pathlib.Path(__file__).resolve().parent.parent / "web" / "docs" / "images"
LABEL_WIDTH, CELL, COLUMNS = 118, 64, 6


@dataclasses.dataclass(frozen=True)
class Row:
    """How one row is painted.

    Args:
        nag: settings of NAG Model and NAG Options by name; None: without NAG. What is not named is "auto" or default.
        entries: of the negative, each a text and what its places are, see placed(); none: the sheet's negative.
    """

    label: str
    note: str = ""
    nag: dict | None = dataclasses.field(default_factory=dict)
    cfg: float = 1.0
    entries: tuple[tuple[str, dict], ...] = ()


@dataclasses.dataclass(frozen=True)
class Sheet:
    """One picture: what is asked for, its rows, and by which of the playground's models.

    label_width: what the rows' labels take, in pixels; None: as much as they need.
    """

    prompt: str
    negative: str
    rows: tuple[Row, ...]
    model: str = FIRST
    label_width: int | None = LABEL_WIDTH


def values(name, notes, **others):
    """A row for each value of a setting. notes: by value."""
    return tuple(Row(f"{value:g}", note, {name: value, **others}) for value, note in notes.items())


def range_row(start, end, note):
    return Row(f"{start:g} to {end:g}", note, {"start_percent": start, "end_percent": end})


def part(label, note="", **place):
    return Row(label, note, {"strength": 1.5}, entries=((FOX[1], place),))


SQUARE, TWO, FOX = ("a blue square", "white"), ("a circle and a green square on white", "red"), ("a fox", "heart")
WITHOUT = Row("no NAG", nag=None)
EQUATIONS = {"nag": (5, 30), "orthogonal": (5, 30), "vsf": (1.25, 3), "nasa": (1.25, 1.5)}
SCALES = {1: "off", 3: "", 5: "auto", 11: "", 30: "", 100: ""}
TAUS = {1: "", 1.5: "", 2.5: "auto", 5: "", 10: ""}
SHEETS = {
    "strength": Sheet(*SQUARE, values("strength", {0: "off", 0.5: "", 1: "default", 1.5: "", 2: ""})),
    "nag_scale": Sheet(*SQUARE, values("nag_scale", SCALES)),
    "nag_scale_colour": Sheet(*TWO, values("nag_scale", SCALES)),
    "nag_tau": Sheet(*SQUARE, values("nag_tau", TAUS)),
    "nag_tau_scale_30": Sheet(*SQUARE, values("nag_tau", dict.fromkeys(TAUS, "nag_scale 30"), nag_scale=30)),
    "nag_alpha": Sheet(*SQUARE, values("nag_alpha", {0: "off", 0.125: "", 0.25: "auto", 0.5: "", 0.75: "", 1: ""})),
    "when": Sheet(
        *SQUARE,
        (
            WITHOUT,
            range_row(0, 1, "default"),
            range_row(0, 0.5, ""),
            range_row(0, 0.25, ""),
            range_row(0.25, 1, ""),
            range_row(0.5, 1, ""),
        ),
    ),
    "image_stream": Sheet(
        *TWO,
        (
            WITHOUT,
            *(
                Row(stream, note, {"image_stream": stream, "nag_alpha": alpha})
                for alpha, note in ((0.25, ""), (0.5, "nag_alpha 0.5"))
                for stream in ("shared", "separate")
            ),
        ),
    ),
    "schedule": Sheet(
        *SQUARE,
        (
            WITHOUT,
            Row("constant", "default"),
            *(Row(name, nag={"schedule": name}) for name in ("linear", "cosine")),
            *(Row("list", text, {"schedule": "list", "strengths": text}) for text in ("1, 0", "2, 2, 0", "0, 0, 2")),
        ),
        STUDENT,
    ),
    "blocks": Sheet(
        *SQUARE,
        (
            WITHOUT,
            Row("all", "default"),
            *(Row(blocks, nag={"blocks": blocks}) for blocks in ("double", "single", "0", "5", "single 0-1")),
        ),
        STUDENT,
    ),
    "equation": Sheet(
        *SQUARE,
        (
            WITHOUT,
            *(
                Row(name, f"nag_scale {scale:g}", {"equation": name, "nag_scale": scale})
                for name, scales in EQUATIONS.items()
                for scale in scales
            ),
        ),
        STUDENT,
        label_width=None,
    ),
    "places": Sheet(
        *FOX,
        (
            WITHOUT,
            part("all", "strength 1.5"),
            part("weight 0.5", strength=0.5),
            part("upper half", "an area", height=0.5),
            part("lower half", "an area", height=0.5, y=0.5),
            part("a mask", "left to right", mask=True),
        ),
        "emoji student",
    ),
    "cfg": Sheet(
        *SQUARE,
        tuple(Row(f"cfg {cfg}", note, nag, cfg) for nag, note in ((None, "no NAG"), ({}, "NAG")) for cfg in (1, 3, 6)),
    ),
}


def main():
    options = parse()
    start_comfyui(options.comfyui)
    from . import networks

    torch.set_num_threads(options.threads)
    sheets = {name: sheet for name, sheet in SHEETS.items() if name in (options.only or SHEETS)}
    loaded = {name: networks.load(name) for name in {FIRST, *(sheet.model for sheet in sheets.values())}}
    nodes = measure.pack_nodes()
    options.folder.mkdir(parents=True, exist_ok=True)
    if not options.only:
        save(grid(nodes, *loaded[FIRST]), options.folder / "nag_grid.webp")
    tabled = []
    for name, sheet in sheets.items():
        model, clip, vae = loaded[sheet.model]
        prompt, seeds = measure.encode(clip, sheet.prompt), list(range(COLUMNS))
        guided = [measure.with_nag(nodes, model, row.nag) for row in sheet.rows]
        negatives = [negative_of(clip, row.entries or ((sheet.negative, {}),)) for row in sheet.rows]
        pictures = [
            measure.paint(m, vae, prompt, negative, seeds, row.cfg)
            for m, negative, row in zip(guided, negatives, sheet.rows)
        ]
        save(compose(sheet, pictures), options.folder / f"{name}.webp")
        if options.seeds and sheet.rows not in tabled and not any(row.entries for row in sheet.rows):
            tabled.append(sheet.rows)
            shares = [measured(m, row.cfg, clip, vae, options.seeds) for m, row in zip(guided, sheet.rows)]
            print(table(sheet.rows, shares))


def negative_of(clip, entries):
    """What Conditioning (Combine) makes of texts behind ComfyUI's nodes for weights, areas and masks."""
    return [entry for text, place in entries for entry in placed(measure.encode(clip, text), **place)]


def placed(conditioning, strength=1.0, height=1.0, y=0.0, mask=False):
    """A conditioning with a weight, for an area of the whole width, or by a mask that grows from left to right."""
    import nodes as stock

    if mask:
        ramp = torch.linspace(0, 1, 128).expand(1, 128, 128)
        conditioning = stock.ConditioningSetMask().append(conditioning, ramp, "default", strength)[0]
    elif height < 1:
        area = stock.ConditioningSetAreaPercentage()
        conditioning = area.append(conditioning, 1.0, height, 0.0, y, strength)[0]
    elif strength != 1:
        conditioning = stock.ConditioningSetAreaStrength().append(conditioning, strength)[0]
    return conditioning


def save(image, path):
    image.save(path, quality=88, method=6)
    print(f"{path}  ({path.stat().st_size / 1000:.0f} kB)")


def grid(nodes, model, clip, vae):
    """What NAG Grid draws, of its own defaults and seed 0."""
    from PIL import Image

    inputs = {part.id: getattr(part, "default", None) for part in nodes["NAGGrid"].GET_SCHEMA().inputs}
    positive, negative = (measure.encode(clip, text) for text in SQUARE)
    inputs |= {"model": model, "vae": vae, "positive": positive, "negative": negative, "steps": measure.STEPS,
               "sampler_name": "euler", "scheduler": "simple", "latent_image": {"samples": torch.zeros(1, 4, 16, 16)}}
    with torch.inference_mode():
        image = nodes["NAGGrid"].execute(**inputs).result[0]
    return Image.fromarray((image[0] * 255).round().byte().numpy())


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comfyui", type=pathlib.Path, default=COMFYUI, help="a ComfyUI checkout")
    parser.add_argument("--folder", type=pathlib.Path, default=FOLDER, help="where the pictures go")
    parser.add_argument("--only", nargs="*", choices=SHEETS, help="these pictures only")
    parser.add_argument("--seeds", type=int, default=0, help="for each prompt of the tables; 0: no tables")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def measured(model, cfg, clip, vae, seeds):
    """(unwanted, wanted): in which share of the pictures of all cases each shows."""
    cases = [measure.judge(case, model, cfg, clip, vae, range(seeds)) for case in measure.CASES]
    return [sum(sum(getattr(case, what)) for case in cases) / len(cases) / seeds for what in ("unwanted", "wanted")]


def table(rows, shares):
    """A Markdown table of what was measured."""
    lines = ["| | unwanted shows | wanted shows |", "|---|---|---|"]
    lines += [
        f"| {' '.join(filter(None, (row.label, row.note and f'({row.note})')))} | {unwanted:.0%} | {wanted:.0%} |"
        for row, (unwanted, wanted) in zip(rows, shares)
    ]
    return "\n".join(lines)


def compose(sheet, rows):
    """One PIL image. rows: for each row of the sheet (COLUMNS, 3, 32, 32) from -1 to 1."""
    from . import drawing

    pictures = [[drawing.enlarged(pixels, CELL) for pixels in row] for row in rows]
    labels, titles = [(row.label, row.note) for row in sheet.rows], (sheet.prompt, f"negative: {sheet.negative}")
    return drawing.sheet(pictures, labels, titles=titles, label_width=sheet.label_width)


if __name__ == "__main__":
    main()
