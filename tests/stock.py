"""ComfyUI's own nodes, by the ids under which graphs have them."""
import asyncio
import functools

import nodes as comfy_nodes
import pytest


@functools.cache
def load_all():
    """Have all of ComfyUI's own nodes registered, by its own loader."""
    asyncio.run(comfy_nodes.init_builtin_extra_nodes())


def stock_class(node_id):
    """The class of a node; the test is skipped where this ComfyUI does not have it."""
    load_all()
    if node_id not in comfy_nodes.NODE_CLASS_MAPPINGS:
        pytest.skip(f"this ComfyUI has no {node_id}")
    return comfy_nodes.NODE_CLASS_MAPPINGS[node_id]


def stock(node_id, **inputs):
    """The outputs of a node, of ComfyUI's older API or its newer one."""
    node = stock_class(node_id)
    result = getattr(node(), node.FUNCTION)(**inputs)
    return getattr(result, "result", result)
