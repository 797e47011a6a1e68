"""Puts ComfyUI under the tests: its modules, the pack as it loads it, and a server of it.

COMFYUI_PATH names the checkout (`make test` sets it). Its modules are importable from every test; `nodes` is ComfyUI's.
"""
import importlib.util
import os
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
if str(REPOSITORY) not in sys.path:
    sys.path.append(str(REPOSITORY))  # for `host`, behind everything else

from host.client import Client  # noqa: E402
from host.install import OWN_COMFYUI, ROOT  # noqa: E402
from host.server import ComfyServer  # noqa: E402

COMFYUI = Path(os.environ.get("COMFYUI_PATH") or OWN_COMFYUI).resolve()


def start_comfyui():
    """Have ComfyUI read its command line: on the CPU, with PyTorch's attention, and with its folders in ours."""
    sys.path.insert(0, str(COMFYUI))
    ours = sys.argv
    sys.argv = ["main.py", "--cpu", "--use-pytorch-cross-attention", "--base-directory", str(ROOT / "tests")]
    try:
        import comfy.options

        comfy.options.enable_args_parsing()
        import comfy.cli_args  # noqa: F401
    finally:
        sys.argv = ours


start_comfyui()  # before any test module imports a part of ComfyUI


@pytest.fixture(scope="session")
def pack():
    """The pack's package, loaded from its folder by the steps that ComfyUI takes."""
    name = str(REPOSITORY).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


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
