"""`make tables`: writes what `auto` stands for into the README and the help pages, as the families declare it."""
import importlib
import re
from itertools import groupby

from .inside import COMFYUI, load_pack, start_comfyui
from .server import PACK

START, END = "<!-- families: make tables -->\n", "<!-- /families -->\n"
BETWEEN = re.compile(f"(?<={re.escape(START)}).*?(?={re.escape(END)})", re.DOTALL)
HEAD = "| family | nag_scale | nag_tau | nag_alpha | until sigma | whose values |\n|---|---|---|---|---|---|\n"


def documents():
    """Those with such a table."""
    every = [PACK / "README.md", *sorted((PACK / "web" / "docs").glob("*.md"))]
    return [path for path in every if START in path.read_text(encoding="utf-8")]


def table(pack) -> str:
    """A row for the families of the same values, in the order of the registry."""
    families = importlib.import_module(f"{pack.__name__}.editor.families").all_families()
    strengths = list(dict.fromkeys(families.values()))
    ordered = sorted(families.items(), key=lambda item: strengths.index(item[1]))
    rows = [_row([name for name, _ in same], strength) for strength, same in groupby(ordered, key=lambda item: item[1])]
    return HEAD + "".join(rows)


def _row(names, strength):
    until = f"{strength.nag_sigma_end:g}" if strength.nag_sigma_end else ""
    numbers = [f"{value:g}" for value in (strength.nag_scale, strength.nag_tau, strength.nag_alpha)]
    return f"| {' | '.join([', '.join(names), *numbers, until, strength.whose])} |\n"


def filled(text: str, families: str) -> str:
    """A document with this table in it."""
    return BETWEEN.sub(lambda match: families, text)


def main():
    start_comfyui(COMFYUI)
    families = table(load_pack())
    for path in documents():
        path.write_text(filled(path.read_text(encoding="utf-8"), families), encoding="utf-8")
        print(path.relative_to(PACK))


if __name__ == "__main__":
    main()
