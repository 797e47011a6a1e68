"""Tables, and the file that keeps them: a section a case and device, so that runs in parts add up to one file."""
import re
import shlex
import sys
from pathlib import Path

import torch

RESULTS = Path(__file__).with_name("RESULTS.md")

TITLE = """# What NAG costs

Written by `python -m benchmarks`; [README.md](README.md) says what the columns mean.
"""


def show(path: Path, heading, lines):
    """Print a section, and put it into the file."""
    print("\n".join([f"## {heading}", "", *lines, ""]), flush=True)
    write_section(path, heading, lines)


def provenance(module="benchmarks"):
    """The command, less the folders of this machine, and the versions."""
    from comfyui_version import __version__

    words = (Path(word).name if "/" in word else word for word in sys.argv[1:])
    return f"`{shlex.join(['python', '-m', module, *words])}`, ComfyUI {__version__}, torch {torch.__version__}."


def write_section(path: Path, heading, lines):
    """Put a section into the file, in the place of an earlier one of that heading."""
    text = path.read_text(encoding="utf-8") if path.exists() else TITLE
    head, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    found = {section.split("\n", 1)[0]: section for section in sections}
    found[heading] = "\n".join([heading, "", *lines, "", ""])
    kept = [head.rstrip(), *(section.rstrip() for section in found.values())]
    path.write_text("\n\n## ".join(kept) + "\n", encoding="utf-8")


def table(columns, rows):
    """A Markdown table; columns without an entry in any row are left out."""
    shown = [i for i, _ in enumerate(columns) if any(row[i] for row in rows)]
    cells = [[row[i] for i in shown] for row in [columns, ["---"] * len(columns), *rows]]
    return ["| " + " | ".join(row) + " |" for row in cells]


def over(ratio):
    return "" if ratio is None else f"{ratio - 1:+.1%}"


COLUMNS = ["", "time per step", "over base: median (quartiles)", "operations over base", "floor", "memory over base"]


def rows_of_times(methods, figures, counted, nag_floor, on_gpu):
    """A row of the table for each method; one more where NAG stops early.

    counted: operations by method. nag_floor: what NAG adds at the least, as a share of base.
    """
    base = figures["base"]
    rows = []
    for method in methods:
        found = figures[method.key]
        if found.reason or not base.steps:
            rows.append([method.name, "", found.reason or "no base", "", "", ""])
            continue
        operations = counted[method.key] / counted["base"] if method.key in counted else None
        floor = method.floor(nag_floor)
        memory = f"{(found.peak - base.peak) / 2**20:+,.0f} MiB" if on_gpu and method.key != "base" else ""
        if method.key == "base" and on_gpu:
            memory = f"{base.peak / 2**30:.1f} GiB in all"
        active = "" if method.stops_after is None else f", {method.stops_after} of {method.steps} steps"
        rows.append([method.name + active, *_times(found, base, on_gpu), over(operations),
                     over(None if floor is None else 1 + floor), memory])
        if method.stops_after is not None:
            rows.append(["its steps after that", *_times(found, base, on_gpu, method.stops_after), "", "+0.0%", ""])
    return rows


def _times(found, base, on_gpu, first=0):
    low, middle, high = found.ratios(base, first)
    spread = f"{over(middle)} ({over(low)} to {over(high)})" if found is not base else ""
    times = sorted(found.per_step(first))
    return f"{times[len(times) // 2] * 1000:.1f} ms" if on_gpu else "", spread
