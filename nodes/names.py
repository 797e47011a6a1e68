"""Whose node an id is, when another pack registers it, too."""
import logging

import nodes  # ComfyUI's module of this name
from comfy_api.latest import io

from .comfyui import running_server

_replaced: dict[str, type] = {}  # by id, the other packs' nodes in whose place ours are; not changed once ComfyUI runs
PACKS = "custom_nodes."  # how the origin of a pack's node starts; ComfyUI's own ids stay its own


def keep_ids(node_list: list[type[io.ComfyNode]]) -> None:
    """Have these nodes under their ids once the server starts, and log a line if another pack has some of them, too.
    Its nodes can be had by other_packs_node.

    ComfyUI gives an id to the pack that it loads last, and it loads them as the file system happens to list them.
    Graphs made with ComfyUI-NAG run on our nodes of its names, but ours do not run on its: so ours it is, in any order.
    To be called while the pack is loaded, before ComfyUI registers its nodes.
    """
    server = running_server()
    if server is None:
        return
    ours = {node.GET_SCHEMA().node_id: node for node in node_list}
    before = _of_other_packs(ours)

    async def settle(_):
        others = before | _of_other_packs(ours)
        _replaced.update(others)
        for node_id in others:
            nodes.NODE_CLASS_MAPPINGS[node_id] = ours[node_id]
            nodes.NODE_DISPLAY_NAME_MAPPINGS[node_id] = ours[node_id].GET_SCHEMA().display_name
        if others:
            logging.warning(
                "NAG: %s, too, has the nodes %s. Those of %s are used.",
                " and ".join(sorted(set(map(_pack_of, others.values())))),
                ", ".join(sorted(others)),
                _pack_of(node_list[0]),
            )

    server.app.on_startup.append(settle)


def other_packs_node(node_id: str) -> type | None:
    """The node of another pack that would have this id, were it not ours."""
    return _replaced.get(node_id)


def whose_instead(node_id: str) -> str:
    """A sentence on whose node of this id does what ours can't; empty where there is none."""
    theirs = other_packs_node(node_id)
    return "" if theirs is None else f"{_pack_of(theirs)}'s {node_id} does it instead."


def _pack_of(node):
    """The folder under custom_nodes that a node comes from; empty for ComfyUI's own and for none."""
    origin = getattr(node, "RELATIVE_PYTHON_MODULE", None) or ""
    return origin.removeprefix(PACKS) if origin.startswith(PACKS) else ""


def _of_other_packs(ours):
    """{id: the node that has it now}, for those of our ids that another pack has."""
    registered = {node_id: nodes.NODE_CLASS_MAPPINGS.get(node_id) for node_id in ours}
    return {node_id: node for node_id, node in registered.items() if node is not ours[node_id] and _pack_of(node)}
