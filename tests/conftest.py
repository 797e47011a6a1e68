"""Puts ComfyUI under the tests: its modules, the pack as it loads it, and a server of it.

COMFYUI_PATH names the checkout (`make test` sets it). Its modules are importable from every test; `nodes` is ComfyUI's.
"""
import importlib
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
if str(REPOSITORY) not in sys.path:
    sys.path.append(str(REPOSITORY))  # for `host`, behind everything else

from host.client import Client  # noqa: E402
from host.environment import ROOT  # noqa: E402
from host.inside import COMFYUI, load_pack, start_comfyui  # noqa: E402
from host.server import ComfyServer, packs_beside  # noqa: E402

start_comfyui(COMFYUI, "--base-directory", str(ROOT / "tests"))  # before any test module imports a part of ComfyUI


@pytest.fixture(scope="session")
def pack():
    """The pack's package, loaded from its folder by the steps that ComfyUI takes."""
    return load_pack()


@pytest.fixture(scope="session", name="part")
def part_fixture(pack):
    """The pack's modules, by name."""
    return lambda name: importlib.import_module(f"{pack.__name__}.{name}")


@pytest.fixture(scope="session")
def nodes(part):
    """The pack's nodes; not to be confused with ComfyUI's module of this name."""
    return part("nodes")


@pytest.fixture(scope="session")
def patches(part):
    """The modules of the pack's engine, by name."""
    return lambda name: part(f"patches.{name}")


@pytest.fixture
def inference_mode():
    """The mode that ComfyUI runs nodes in."""
    import torch

    with torch.inference_mode():
        yield


@pytest.fixture
def nothing_compiled():
    """Dynamo with no graphs and nothing counted; what the test leaves is forgotten."""
    import torch
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.fixture
def interpreter(patches, monkeypatch):
    """Makes Triton's kernels run on CPU tensors: they are imported anew, for Triton's interpreter, and forgotten."""
    import torch

    equation = patches("arithmetic.equation")
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # `triton.jit` asks for it
    triton = pytest.importorskip("triton", reason="Triton is not installed")
    for function, value in list(vars(triton.language).items()):
        if isinstance(value, triton.JITFunction):  # Triton was imported before, so they are not for the interpreter
            monkeypatch.setattr(triton.language, function, triton.jit(value.fn))
    name = equation.__package__ + ".triton_kernels"
    monkeypatch.delitem(sys.modules, name, raising=False)
    equation.load_kernels.cache_clear()
    kernels = equation.load_kernels(torch.device("cpu"), torch.float32)
    assert kernels is not None, "the kernels do not run under Triton's interpreter"
    yield kernels
    equation.load_kernels.cache_clear()
    sys.modules.pop(name, None)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A ComfyUI server with the pack, and with that which EXTRA_MODELS names, in folders of its own."""
    with ComfyServer(tmp_path_factory.mktemp("comfyui"), COMFYUI, packs=packs_beside()) as running:
        yield running


@pytest.fixture
def client(server):
    return Client(server.url)
