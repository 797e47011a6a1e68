"""Measure what NAG costs. On an NVIDIA GPU at full size, elsewhere scaled down, and then only as ratios.

    COMFYUI_PATH=/a/ComfyUI python -m benchmarks

in the repository's folder, with the Python of that ComfyUI. benchmarks/README.md says what it needs and shows.
"""
import argparse
from pathlib import Path

import torch

from . import host, report


def parse():
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=[""], help="parts of their names, such as Flux 720p")
    parser.add_argument("--methods", nargs="+", help="keys, such as base nag exact; base is always measured")
    parser.add_argument("--compare", nargs="+", type=Path, default=[], help="checkouts of packs with a NAGCFGGuider")
    parser.add_argument("--steps", type=int, help="of a run (default: 3 on a GPU, else 1)")
    parser.add_argument("--rounds", type=int, default=7, help="each method runs once in each (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=16, help="no round begins later (default: %(default)s)")
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", help="default: bfloat16 on a GPU, else float32")
    parser.add_argument("--output", type=Path, default=report.RESULTS)
    parser.add_argument("--only-operations", action="store_true", help="only count operations, at full size")
    return parser.parse_args()


def main():
    options = parse()
    on_gpu = options.device.type == "cuda"
    if on_gpu:
        options.device = torch.device("cuda", options.device.index or 0)
    host.start(on_gpu)
    from .methods import methods
    from .models import CASES

    cases = [case for case in CASES if any(part.lower() in case.name.lower() for part in options.cases)]
    compared = methods([path.resolve() for path in options.compare])
    if options.methods:
        wanted = {"base", *options.methods, *(path.resolve().name for path in options.compare)}
        compared = [method for method in compared if method.key in wanted]
    if options.only_operations or not on_gpu and len(cases) == len(CASES):
        report_operations(cases, compared, options)
    if not options.only_operations:
        for case in cases:
            if on_gpu or case.small:
                report_times(case, compared, options, on_gpu)


COUNTED = {"cfg": "CFG", "separate": "NAG, separate", "exact": "NAG, two exact calls", "nag": "NAG"}


def report_operations(cases, compared, options):
    """Full size, whatever this machine is."""
    compared = [method for method in compared if method.key in ("base", *COUNTED)]
    columns = ["", "base, a step", *COUNTED.values(), "floor", "aim for the time"]
    table = report.table(columns, [row_of_operations(case, compared) for case in cases])
    heading = "Operations at full size, counted on the meta device"
    report.show(options.output, heading, [*table, "", report.provenance()])


def row_of_operations(case, compared):
    from . import floors, timing

    chosen = [method for method in compared if case.full.family in (method.families or [case.full.family])]
    failed = timing.Figures()
    counted = timing.attempt(failed, lambda: floors.count(case.full, chosen))
    if counted is None:
        return [case.name, failed.reason, *[""] * (len(COUNTED) + 2)]
    base = counted["base"]
    ratios = [report.over(counted[key] / base) if key in counted else "" for key in COUNTED]
    floor = report.over(1 + floors.least(case.full) / base)
    return [case.name, f"{base / 1e12:.1f} T", *ratios, floor, f"{case.aim:+.0%}" if case.aim else ""]


def report_times(case, compared, options, on_gpu):
    from . import floors, models, timing

    size = case.full if on_gpu else case.small
    chosen = [method for method in compared if size.family in (method.families or [size.family])]
    slow = on_gpu and case.slow
    if slow and not options.methods:
        chosen = [method for method in chosen if method.key in slow]
    dtype = getattr(torch, options.dtype or ("bfloat16" if on_gpu else "float32"))
    plan = timing.Plan(1 if slow else options.steps or (3 if on_gpu else 1), options.rounds, options.seconds)
    heading = f"{case.name}, {torch.cuda.get_device_name(options.device) if on_gpu else 'scaled down, CPU'}"
    timing.free_memory()
    failed = timing.Figures()
    patcher = timing.attempt(failed, lambda: models.build(size, dtype, options.device))
    if patcher is None:
        report.show(options.output, heading, [failed.reason, "", report.provenance()])
        return
    figures = timing.measure(patcher, size, chosen, plan)
    del patcher
    counted = floors.count(size, chosen)
    rows = report.rows_of_times(chosen, figures, counted, floors.least(size) / counted["base"], on_gpu)
    rounds = len(figures["base"].steps)
    details = f"{dtype}, latent {'x'.join(map(str, size.latent))}, {size.text} text tokens, {rounds} rounds of " \
              f"{plan.steps} step{'s' * (plan.steps > 1)}."
    report.show(options.output, heading, [*report.table(report.COLUMNS, rows), "", f"{details} {report.provenance()}"])


if __name__ == "__main__":
    main()
