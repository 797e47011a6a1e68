"""Paint the rows of one model, and keep what the judge sees in them.

    python -m evidence paint flux --device cuda
    python -m evidence paint flux --rows "student, 2 steps" --seeds 4

Rows are named as rows.py names them: --rows takes parts of names. What is painted is added to the model's file in
evidence/raw, row by row; rows that are there and not painted anew stay.
"""
import pathlib
import shlex
import sys
import time

import torch

from . import rows
from .raw import FOLDER, Raw

SEEDS = 32


def add_arguments(parser):
    parser.add_argument("model", help=f"{', '.join(rows.MODELS)}")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--rows", nargs="*", default=[""], metavar="PART", help="of rows' names; default: all")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="pictures of each case")
    parser.add_argument("--cases", type=int, help="how many of the world's cases; default: all")
    parser.add_argument("--batch", type=int, help="pictures at once")
    parser.add_argument("--drawn", type=int, help="drawn pictures of each case, for the Fréchet distance")
    parser.add_argument("--out", type=pathlib.Path, default=FOLDER, help="a folder")


def main(options):
    from .painting import Nodes, start

    start(options.device)
    raw = paint(options.model, Nodes(), options.device, options.rows, options.seeds, options.cases, options.batch,
                options.drawn)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{options.model}.npz"
    if path.exists():
        kept = Raw.load(path)
        kept.add(raw)
        raw = kept
    raw.save(path)
    print(f"{path}: {len(raw.rows)} rows of {len(raw.case)} pictures, {path.stat().st_size / 1000:.0f} kB", flush=True)


def paint(name, nodes, device="cpu", parts=("",), seeds=SEEDS, cases=None, batch=None, drawn=None):
    """The rows of a model whose names have one of these parts in them: Raw."""
    from playground import judge as judges
    from playground import networks

    from . import judging
    from .painting import BATCH, Painter, Prompts, versions

    began = time.monotonic()
    world = networks.world_of(name)
    asked = world.CASES[:cases]
    texts = [(world.describe(case.scene), case.negative) for case in asked]
    prompts = Prompts.of(texts, seeds)
    judge = judging.Judge(world, judges.load(world.name), prompts, drawn or judging.DRAWN)
    raw = Raw(judge.case, torch.tensor(prompts.seed).numpy(), judge.of_drawn())
    painters = {}
    for row in rows.all_rows(name, nodes.equations):
        if not any(part in row.key for part in parts):
            continue
        if row.weights not in painters:
            which = name if row.weights == "teacher" else f"{name} {row.weights}"
            painters[row.weights] = Painter(name, networks.load(which), nodes, prompts, batch or BATCH[device])
        started = time.monotonic()
        pictures = painters[row.weights].paint(row)
        seconds = time.monotonic() - started
        seen = raw.rows[row.key] = judge.see(pictures, seconds)
        print(f"{name}, {row.key}: unwanted {seen.unwanted.mean():.1%}, wanted {seen.wanted.mean():.1%}, right "
              f"{seen.right.mean():.1%}, distance {seen.distances[0]:.2f}, {seconds:.1f} s", flush=True)
    run = {"command": command(), **versions(), "seconds": round(time.monotonic() - began), "rows": len(raw.rows)}
    raw.notes = {"model": name, "world": world.name, "cases": texts, "facts": list(world.FACTS), "runs": [run]}
    return raw


def command():
    """As it was called, less the folders of this machine."""
    words = (pathlib.Path(word).name if "/" in word else word for word in sys.argv[1:])
    return shlex.join(["python", "-m", "evidence", *words])
