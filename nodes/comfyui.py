"""ComfyUI as it runs around our nodes: its server, and its own nodes."""
import sys

import nodes  # ComfyUI's module of this name


def running_server():
    """ComfyUI's PromptServer; None where ComfyUI is used as a library, and importing its server may fail."""
    return getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)


def category_of(node_id: str, otherwise: str) -> str:
    """The category of one of ComfyUI's own nodes, which differs between its versions."""
    return getattr(nodes.NODE_CLASS_MAPPINGS.get(node_id), "CATEGORY", otherwise)


def run(node: type, **values) -> tuple:
    """The outputs of one of ComfyUI's own nodes; which of them are of its older API and which of its newer differs."""
    result = getattr(node(), node.FUNCTION)(**values)
    return tuple(getattr(result, "result", result))
