"""A server of our own, with the models of the ComfyUI that is there."""
import contextlib
import json
import os
from pathlib import Path

from ..environment import ROOT
from ..server import ComfyServer, packs_beside
from .painting import Painter


def add_arguments(parser):
    """What tells where to paint, and how long it may take."""
    parser.add_argument("--models", type=Path, help="a folder such as ComfyUI's models/ (default: COMFYUI_PATH's)")
    parser.add_argument("--server", metavar="URL", help="a running ComfyUI with this pack, in the place of our own")
    parser.add_argument("--cpu", action="store_true", help="leave the GPU alone")
    parser.add_argument("--patience", type=float, default=3600, help="seconds that one picture may take")


@contextlib.contextmanager
def painter(options):
    """A Painter on the server that is named or, until the end of a `with` block, on one of our own.

    options: what add_arguments() parses, and `folder`.
    """
    with contextlib.ExitStack() as stack:
        url, restart = options.server, None
        if url is None:
            print("Starting ComfyUI ...", flush=True)
            server = stack.enter_context(own_server(options))
            url, restart = server.url, restarting(server)
        yield Painter(url.rstrip("/"), options.folder, options.patience, restart)


def own_server(options):
    """A server with the models and the input pictures of the ComfyUI that COMFYUI_PATH names."""
    import torch

    comfyui, base = Path(os.environ["COMFYUI_PATH"]), ROOT / "gallery"
    models = (options.models or comfyui / "models").resolve()
    base.mkdir(parents=True, exist_ok=True)
    paths = base / "models.yaml"  # JSON is YAML
    folders = {path.name: path.name for path in models.iterdir() if path.is_dir()} if models.is_dir() else {}
    paths.write_text(json.dumps({"gallery": {"base_path": str(models), **folders}}), encoding="utf-8")
    arguments = ["--extra-model-paths-config", paths, "--input-directory", comfyui / "input"]
    has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    return ComfyServer(base, comfyui, arguments=arguments, packs=packs_beside(), cpu=options.cpu or not has_gpu)


def restarting(server):
    """A function that starts a server anew, and gives its address."""

    def restart():
        server.stop()
        server.start()
        return server.url

    return restart
