"""What the tests call of the pack. It is loaded under a name that only the fixture `pack` knows."""
import importlib

import pytest


@pytest.fixture(name="nodes", scope="session")
def nodes_fixture(pack):
    """The pack's nodes; not to be confused with ComfyUI's module of this name."""
    return importlib.import_module(f"{pack.__name__}.nodes")


@pytest.fixture(name="patches", scope="session")
def patches_fixture(pack):
    """The modules of the pack's engine, by name."""
    return lambda name: importlib.import_module(f"{pack.__name__}.patches.{name}")


def out(node, *inputs, **more):
    """The single output of a node."""
    return node.execute(*inputs, **more).result[0]
