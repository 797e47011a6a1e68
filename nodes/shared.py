"""Names that ComfyUI-NAG's nodes have, too: where it is installed, its node does what ours can't."""
import functools
import inspect
import logging

from comfy_api.latest import io

from ..patches.checks import UnknownFamily
from . import comfyui, inputs
from .names import other_packs_node, whose_instead


def or_theirs(execute):
    """An execute() that hands over to another pack's node of the same id, if NAG here has no adapter for the model.

    That node gets the inputs that it asks for. Where one of them is missing, or there is no such node, the refusal
    stands.
    """
    signature = inspect.signature(execute)

    @functools.wraps(execute)
    def ours_or_theirs(cls, *args, **kwargs) -> io.NodeOutput:
        try:
            return execute(cls, *args, **kwargs)
        except UnknownFamily as refusal:
            node_id = cls.define_schema().node_id  # GET_SCHEMA would be for the class, of which this is a locked clone
            theirs = other_packs_node(node_id)
            given = _by_name(signature.bind(cls, *args, **kwargs))
            taken = theirs and _inputs_of(theirs, {**given, **inputs.plain_numbers(given)})
            if taken is None:
                raise
            ignored = " NAG Options has no effect on it." if "options" in given.keys() - taken.keys() else ""
            logging.warning("NAG: %s %s%s", refusal, whose_instead(node_id), ignored)
        return io.NodeOutput(*comfyui.run(theirs, **taken))

    return ours_or_theirs


def _by_name(bound):
    """The inputs of an execute() by name, without those that are None."""
    _, *given = bound.arguments.items()  # the first is the class
    inputs = {}
    for name, value in given:
        takes_rest = bound.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
        inputs.update(value if takes_rest else {name: value})
    return {name: value for name, value in inputs.items() if value is not None}


def _inputs_of(node, given):
    """Those of the inputs given that a node takes; None if one is missing that it requires."""
    declared = node.INPUT_TYPES()
    required = declared.get("required", {})
    if not given.keys() >= required.keys():
        return None
    return {name: value for name, value in given.items() if name in required or name in declared.get("optional", {})}
