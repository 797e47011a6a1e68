"""Prints what is found of a model of no declared family, as a declaration to paste into `patches/models/families`.

`python3 host/install.py -m host.declare krea2`: of a tiny model of the tests', by its name there, whose own declaration
is not looked at. For a family that has none yet, it takes a row in `tests/door_families` first.
"""
import importlib
import sys

from .inside import COMFYUI, load_pack, start_comfyui
from .server import PACK


def declared(name: str) -> str:
    """The declaration of the tiny model of this name."""
    import torch

    pack = load_pack()
    part = lambda path: importlib.import_module(f"{pack.__name__}.{path}")
    family = importlib.import_module("tested").ROWS[name]
    run, patcher = importlib.import_module("runs").Run(family, steps=1), family.patcher()
    part("patches.models").REGISTRY = {}
    with torch.inference_mode():
        run.sample(part("nodes").NAGModel.execute(patcher).result[0])
    (found,) = part("patches.models.discovery").found_of(patcher.model.diffusion_model)
    return part("patches.models.discovery.declaration").declaration(found)


def main():
    start_comfyui(COMFYUI)
    sys.path.insert(0, str(PACK / "tests"))
    for name in sys.argv[1:]:
        print(declared(name))


if __name__ == "__main__":
    main()
