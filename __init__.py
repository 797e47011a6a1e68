"""Normalized Attention Guidance for ComfyUI."""
import logging

from .nodes import NAGExtension, extension
from .patches.travelling import be_found

be_found()
WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> NAGExtension:
    """What ComfyUI calls when it has loaded the pack, and before it registers the nodes."""
    nodes = extension()
    try:
        from .editor import route  # it builds on the nodes, and on more of ComfyUI than they do

        route.serve()
    except Exception:
        logging.warning("NAG: the nodes work, but the editor does not show where NAG acts.", exc_info=True)
    return nodes


__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
