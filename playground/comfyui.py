"""Start-up for the playground's scripts: they run outside ComfyUI and borrow its modules."""
import sys


def start(path):
    """Make ComfyUI's modules importable, on the CPU and with PyTorch's attention, which has gradients.

    path: a ComfyUI checkout. To be called before anything imports `comfy`, because its options are read at import.
    """
    sys.path.insert(0, str(path))  # first: `nodes` is a module of ComfyUI and a folder of this repository
    sys.argv = [sys.argv[0], "--cpu", "--use-pytorch-cross-attention"]
    import comfy.options

    comfy.options.enable_args_parsing()
