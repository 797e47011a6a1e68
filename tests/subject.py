"""What the tests call of the pack. It is loaded under a name that only the fixture `pack` knows."""
import importlib

import pytest


@pytest.fixture(scope="session")
def nodes(pack):
    """The pack's nodes; not to be confused with ComfyUI's module of this name."""
    return importlib.import_module(f"{pack.__name__}.nodes")


@pytest.fixture(scope="session")
def patches(pack):
    """The modules of the pack's engine, by name."""
    return lambda name: importlib.import_module(f"{pack.__name__}.patches.{name}")


def out(node, *inputs, **more):
    """The single output of a node."""
    return node.execute(*inputs, **more).result[0]
