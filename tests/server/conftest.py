"""A server that suffers, and one that does not."""
import functools
import json

import pytest
from host.inside import COMFYUI
from host.server import PACK, ComfyServer
from painter import Painter

FAULTY_NODES = PACK / "tests" / "server" / "faulty_nodes.py"


@pytest.fixture(scope="session")
def faulty(tmp_path_factory):
    """A server with nodes that fail on purpose beside ours."""
    with ComfyServer(tmp_path_factory.mktemp("faulty"), COMFYUI, packs=[FAULTY_NODES]) as running:
        yield running


@pytest.fixture
def painter(faulty):
    return Painter(faulty.url)


@pytest.fixture(scope="session")
def fresh(tmp_path_factory):
    """The digest of a graph's latent by a server that no fault has come to, and that takes nothing from a cache."""
    base = tmp_path_factory.mktemp("fresh")
    with ComfyServer(base, COMFYUI, packs=[FAULTY_NODES], arguments=["--cache-none"]) as running:
        painter = Painter(running.url)
        digest = functools.cache(lambda prompt: painter.paint(json.loads(prompt)))
        yield lambda graph: digest(json.dumps(graph))
