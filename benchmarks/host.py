"""ComfyUI in this process, with as few packages as sampling needs: no server, no nodes."""
import ctypes
import importlib.util
import logging
import os
import sys
import types

import torch
from host.inside import COMFYUI, start_comfyui


def start(on_gpu):
    """To be called before anything imports a part of ComfyUI."""
    if importlib.util.find_spec("torchsde") is None:
        sys.modules["torchsde"] = types.ModuleType("torchsde")  # imported with the samplers; euler does not call it
    start_comfyui(COMFYUI)
    from comfy.cli_args import args

    args.cpu, args.highvram = not on_gpu, on_gpu  # the rest of ComfyUI, not imported yet, goes by them
    if not on_gpu:
        torch.set_num_threads(1)  # of which timing.Stopwatch knows how long it has worked
        keep_memory()
    logging.disable(logging.INFO)


def keep_memory():
    """Let glibc keep what is freed, as PyTorch does on a GPU: to fetch it again takes time, now and then."""
    libc = ctypes.CDLL(None) if os.name == "posix" else None
    if hasattr(libc, "mallopt"):
        for parameter in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD: bytes
            libc.mallopt(parameter, 2**30)
