"""ComfyUI inside this process, without a server: its modules, and the pack as it loads it."""
import importlib.util
import os
import sys
from pathlib import Path

from .environment import OWN_COMFYUI
from .server import PACK

COMFYUI = Path(os.environ.get("COMFYUI_PATH") or OWN_COMFYUI).resolve()  # the checkout to use unless another is named


def start_comfyui(checkout, *arguments):
    """Make ComfyUI's modules importable, on the CPU and with PyTorch's attention, which has gradients.

    checkout: a ComfyUI's folder. arguments: further ones of its command line. To be called before anything imports a
    part of ComfyUI, which reads its command line once.
    """
    sys.path.insert(0, str(checkout))  # first: `nodes` is a module of ComfyUI and a folder of this repository
    ours = sys.argv
    sys.argv = ["main.py", "--cpu", "--use-pytorch-cross-attention", *arguments]
    try:
        import comfy.options

        comfy.options.enable_args_parsing()
        import comfy.cli_args  # noqa: F401
    finally:
        sys.argv = ours


def load_pack(folder=PACK):
    """The pack's package, loaded from a folder by the steps that ComfyUI takes."""
    name = str(folder).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, Path(folder) / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
