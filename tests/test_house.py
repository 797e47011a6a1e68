"""How the engine is built: what is asked for goes one way, and each folder knows only those below it."""
import ast
from graphlib import TopologicalSorter

import pytest
from host.server import PACK

ENGINE = PACK / "patches"
FOLDERS = ("sampling", "models", "attention", "arithmetic")  # from above
MODULES = sorted(ENGINE.rglob("*.py"))


def name_of(path):
    parts = path.relative_to(ENGINE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


NAMES = {name_of(path) for path in MODULES}


def imports(path):
    """The engine's modules that a module imports when it is loaded or later, but for type checkers."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    conditions = [node for node in ast.walk(tree) if isinstance(node, ast.If)]
    for_checkers = [node for node in conditions if "TYPE_CHECKING" in ast.dump(node.test)]
    left_out = {id(node) for block in for_checkers for node in ast.walk(block)}
    here = path.relative_to(ENGINE).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level and id(node) not in left_out:
            module = ".".join((*here[: len(here) - node.level + 1], *(node.module or "").split("."))).strip(".")
            inner = [f"{module}.{alias.name}" for alias in node.names if f"{module}.{alias.name}" in NAMES]
            yield from inner or [module]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_arrows_never_run_back_up(path):
    folder, *rest = name_of(path).split(".")
    above = FOLDERS[: FOLDERS.index(folder)] if folder in FOLDERS else FOLDERS
    assert [module for module in imports(path) if module.split(".")[0] in above] == []


def test_no_circles():
    TopologicalSorter({name_of(path): set(imports(path)) for path in MODULES}).prepare()
