"""`make tables`: writes what is guided, and what `auto` stands for, into the README and the help pages.

By the families' declarations, and by the tests' tables of tiny models.
"""
import importlib
import re
import sys
from itertools import groupby

from .inside import COMFYUI, load_pack, start_comfyui
from .server import PACK

BETWEEN = "(?<=<!-- {0}: make tables -->\n).*?(?=<!-- /{0} -->\n)"
FAMILIES = "| family | nag_scale | nag_tau | nag_alpha | until sigma | whose values |\n|---|---|---|---|---|---|\n"
MODELS = (
    "| model | text meets image in | nag_scale | nag_tau | nag_alpha | until sigma | whose values | ComfyUI from "
    "| tested against |\n|---|---|---|---|---|---|---|---|---|\n"
)


def documents():
    """Those with such a table."""
    every = [PACK / "README.md", *sorted((PACK / "web" / "docs").glob("*.md"))]
    return [path for path in every if "make tables -->\n" in path.read_text(encoding="utf-8")]


def tables(pack) -> dict[str, str]:
    """Their texts, by name."""
    models = importlib.import_module(f"{pack.__name__}.patches.models")
    made = {"families": families(pack), "uncapped": uncapped(pack)}
    return {**made, "models": MODELS + "".join(map(_models, models.adapters()))}


def families(pack) -> str:
    """A row for the families of the same values, in the order of the registry."""
    every = [(name, _values(strength)) for name, strength in _every_family(pack).items()]
    values = list(dict.fromkeys(of_one for _, of_one in every))
    ordered = sorted(every, key=lambda item: values.index(item[1]))
    rows = [
        _row(", ".join(name for name, _ in same), *of_one)
        for of_one, same in groupby(ordered, key=lambda item: item[1])
    ]
    return FAMILIES + "".join(rows)


def uncapped(pack) -> str:
    """What `auto` is with the equations that neither cap nor blend, as a sentence."""
    by_scale = {}
    for name, strength in _every_family(pack).items():
        by_scale.setdefault(strength.uncapped_scale, []).append(name)
    (usual, _), *others = sorted(by_scale.items(), key=lambda item: -len(item[1]))
    more = "".join(f"; of {scale:g} for {', '.join(names)}" for scale, names in others)
    settings = importlib.import_module(f"{pack.__name__}.patches.settings")
    equations = " and ".join(f"`{each}`" for each in settings.EQUATIONS if each not in settings.CAPPED)
    return f"With {equations} `auto` is a `nag_scale` of {usual:g}{more}.\n"


def _every_family(pack):
    return importlib.import_module(f"{pack.__name__}.editor.families").all_families()


def _models(adapter):
    tested = importlib.import_module("tested")
    rows = [
        (name, adapter.mechanism, *_values(strength), adapter.since.get(name, ""), tested.compared_with(name))
        for name, strength in adapter.families.items()
    ]
    return "".join(_row(*row) for row in rows)


def _values(strength):
    numbers = (strength.nag_scale, strength.nag_tau, strength.nag_alpha)
    until = f"{strength.nag_sigma_end:g}" if strength.nag_sigma_end else ""
    return *(f"{value:g}" for value in numbers), until, strength.whose


def _row(*cells):
    return f"| {' | '.join(cells)} |\n"


def filled(text: str, tables: dict[str, str]) -> str:
    """A document with those of these tables in it that it has a place for."""
    for name, table in tables.items():
        text = re.sub(BETWEEN.format(name), lambda match, table=table: table, text, flags=re.DOTALL)
    return text


def main():
    start_comfyui(COMFYUI)
    sys.path.insert(0, str(PACK / "tests"))
    made = tables(load_pack())
    for path in documents():
        path.write_text(filled(path.read_text(encoding="utf-8"), made), encoding="utf-8")
        print(path.relative_to(PACK))


if __name__ == "__main__":
    main()
