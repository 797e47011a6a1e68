"""Measure what each method costs beside base, in the same run.

    python -m evidence cost --models flux unet

The methods take turns, and a ratio is that of one's time to base's in the same round: medians, with the quartiles. On a
CPU one thread computes, and what counts is how long it has worked. Models as small as these cost more than large ones
beside their text; benchmarks/ measures at real sizes.
"""
import json
import pathlib

from . import rows
from .raw import FOLDER

STEPS, SEEDS = 4, 16


def add_arguments(parser):
    parser.add_argument("--models", nargs="*", default=rows.MODELS)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=pathlib.Path, default=FOLDER / "cost.json")


def methods(model):
    """What takes turns, by name, base first."""
    found = {
        "base": rows.Row("student", STEPS),
        f"CFG {rows.CFG:g}": rows.Row("student", STEPS, rows.CFG),
        "NAG": rows.row("student", STEPS),
        "NAG until 0.5": rows.row("student", STEPS, end_percent=0.5),
        f"CFG {rows.CFG:g} + NAG": rows.row("student", STEPS, rows.CFG),
    }
    if model in rows.WITH_TWO_STREAMS:
        found["NAG, separate image stream"] = rows.row("student", STEPS, image_stream="separate")
    if model in rows.WITH_PAG:
        found |= {f"PAG {rows.PAG:g}": rows.Row("student", STEPS, pag=rows.PAG),
                  f"PAG {rows.PAG:g} + NAG": rows.row("student", STEPS, pag=rows.PAG)}
    return found


def main(options):
    import torch

    from .painting import Nodes, start, versions

    start(options.device)
    nodes, device = Nodes(), torch.device(options.device)
    kept = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {"models": {}}
    for model in options.models:
        kept["models"][model] = measure(model, nodes, device, options.rounds)
        print(model, kept["models"][model], flush=True)
    kept["models"] = {name: kept["models"][name] for name in rows.MODELS if name in kept["models"]}
    kept["about"] = (f"The student, {STEPS} steps, {SEEDS} pictures at once, medians and quartiles of {options.rounds} "
                     f"rounds, {versions()['device']}, torch {torch.__version__}. `python -m evidence cost`.")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def measure(model, nodes, device, rounds):
    """{method: (lower quartile, median, upper quartile) of its time over base's}."""
    from benchmarks.timing import Stopwatch, quartiles
    from playground import networks

    from .painting import Painter, Prompts

    world = networks.world_of(model)
    case = world.CASES[0]
    prompts = Prompts.of([(world.describe(case.scene), case.negative)], SEEDS)
    painter = Painter(model, networks.load(f"{model} student"), nodes, prompts, SEEDS)
    rows_of, seconds = methods(model), {}
    for turn in range(rounds + 1):
        for name in list(rows_of)[::-1] if turn % 2 else rows_of:
            stopwatch = Stopwatch(device)
            stopwatch.mark()
            painter.paint(rows_of[name])
            stopwatch.mark()
            seconds.setdefault(name, []).extend(stopwatch.seconds())
    base = seconds["base"][1:]  # the first warmed up
    return {name: quartiles([a / b for a, b in zip(times[1:], base)]) for name, times in seconds.items()}
