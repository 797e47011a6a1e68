"""Puts ComfyUI under the tests: its modules, the pack as it loads it, and a server of it.

COMFYUI_PATH names the checkout (`make test` sets it). Its modules are importable from every test; `nodes` is ComfyUI's.
"""
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
if str(REPOSITORY) not in sys.path:
    sys.path.append(str(REPOSITORY))  # for `host`, behind everything else

from host.client import Client  # noqa: E402
from host.inside import COMFYUI, load_pack, start_comfyui  # noqa: E402
from host.install import ROOT  # noqa: E402
from host.server import ComfyServer  # noqa: E402

start_comfyui(COMFYUI, "--base-directory", str(ROOT / "tests"))  # before any test module imports a part of ComfyUI


@pytest.fixture(scope="session")
def pack():
    """The pack's package, loaded from its folder by the steps that ComfyUI takes."""
    return load_pack()


@pytest.fixture
def inference_mode():
    """The mode that ComfyUI runs nodes in."""
    import torch

    with torch.inference_mode():
        yield


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A ComfyUI server with the pack, in folders of its own."""
    with ComfyServer(tmp_path_factory.mktemp("comfyui"), COMFYUI) as running:
        yield running


@pytest.fixture
def client(server):
    return Client(server.url)
