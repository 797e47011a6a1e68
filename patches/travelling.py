"""How what a NAG node gives goes to another process: pickled, and found there whatever folder the pack lies in.

ComfyUI loads a pack under a name that is made of its folder's path, which in another process is another path. So a
pickle does not name a class by its module, but by where it is in the pack, and by the pack's code: a hash of it. A
process that has loaded the pack knows it under one name that is the same everywhere, and looks for the class in that
copy of the pack whose code is the same.
"""
import hashlib
import importlib
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType

NAME = "normalized_attention_guidance"  # of the module that pickles ask for
PACKAGE = __name__.removesuffix(".patches.travelling")
FOLDERS = ("nodes", "patches")  # with what goes along

OTHER_CODE = (
    "This NAG comes from a process with another version of the NAG pack than {}, which is here. Install the same "
    "version in both places, and restart both."
)


class Travelling:
    """What goes along in a CONDITIONING or on a model. Its fields are to be plain, or Travelling, too.

    Pickling one that reaches a process without the pack fails there with "No module named
    'normalized_attention_guidance'"; where the pack is another version, with a RuntimeError.
    """

    def __reduce__(self):
        kind = type(self)
        where = PACKAGE, kind.__module__.removeprefix(f"{PACKAGE}."), kind.__qualname__
        return sys.modules[NAME].blank, (code(), *where), vars(self)


@lru_cache(maxsize=1)
def code() -> str:
    """A hash of this pack's code; equal codes have equal classes."""
    root = Path(__file__).resolve().parent.parent
    files = sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.py"))
    said = hashlib.sha256()
    for path in files:
        said.update(f"{path.relative_to(root).as_posix()}\n{path.read_text(encoding='utf-8')}".encode())
    return said.hexdigest()


def blank(wanted: str, package: str, module: str, name: str) -> Travelling:
    """An object of one of the pack's classes, without its fields.

    Args:
        wanted: the code of the pack that it comes from.
        package: the name of that pack there; of several copies with this code, the one that has it here, too, counts.
        module, name: of the class; the module's within the pack.

    Raises:
        RuntimeError: no pack with this code is here.
    """
    copies = sys.modules[NAME].copies
    same = [copy for copy, code_of in copies.items() if code_of() == wanted]
    if not same:
        raise RuntimeError(OTHER_CODE.format(" and ".join(copies)))
    kind = getattr(importlib.import_module(f"{package if package in same else same[0]}.{module}"), name)
    return object.__new__(kind)


def be_found() -> None:
    """Let pickles find this copy of the pack. The first copy of a process looks for all of them."""
    if NAME not in sys.modules:
        door = sys.modules[NAME] = ModuleType(NAME, "Where pickles find the copies of the NAG pack.")
        blank.__module__ = NAME  # by which pickle names it
        door.blank, door.copies = blank, {}
    sys.modules[NAME].copies[PACKAGE] = code
