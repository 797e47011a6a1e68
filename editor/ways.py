"""How the NAG of a node comes to the samplers, and what comes in its way."""
from collections.abc import Iterable
from dataclasses import dataclass

from ..nodes.prompt import NEGATIVES, paired
from ..patches.sampling.notices import LEFT_BEHIND, NEGATIVE_IS_GUIDED, REPLACED, THIS_NODES
from . import sampling
from .graph import Graph, Node

CARRIERS = ("MODEL", "CONDITIONING", "GUIDER")  # types that bring NAG to a sampler
BEHIND = "{} behind it"


@dataclass
class Reach:
    """A sampler to which a node's NAG comes.

    Args:
        why: it does not act there, a sentence; None if it does.
    """

    sampler: Node
    why: str | None


def guides(node: Node) -> bool:
    """Whether it is a node with NAG settings."""
    return node.ours and node.takes("nag_scale")


def reached(graph: Graph, node: Node, silent: Iterable[str] = ()) -> list[Reach]:
    """The samplers to which a node's NAG comes, in the order in which they run.

    silent: ids of the NAG Conditionings that are off, and so replace nothing.
    """
    if sampling.is_sampler(node):
        return [Reach(node, None)]
    start = (node, None, None)
    found, passed, ahead = {}, {start}, [start]
    while ahead:
        origin, slots, why = ahead.pop()
        for each, name, slot in graph.consumers.get(origin.id, ()):
            kind = graph.source_type(each, name)
            if kind not in CARRIERS or slots is not None and slot not in slots:
                continue
            now = why or _what_stops(graph, each, name, kind, silent)
            if sampling.is_sampler(each):
                found.setdefault(each, []).append(now)
                continue
            step = (each, _outputs(graph, each, name, kind), now)
            if step not in passed:
                passed.add(step)
                ahead.append(step)
    ordered = sorted(found, key=lambda sampler: len(graph.before(sampler)))
    return [Reach(sampler, None if None in found[sampler] else found[sampler][0]) for sampler in ordered]


def _what_stops(graph, node, name, kind, silent):
    """Why NAG does not act that comes to this input, or behind it."""
    takes_negative = guides(node) or sampling.is_sampler(node) or node.gives("GUIDER")
    if kind == "CONDITIONING" and name in NEGATIVES and takes_negative:
        return NEGATIVE_IS_GUIDED
    if kind == "MODEL":
        replaced = node.ours  # NAG Grid, too, guides it anew
    else:
        replaced = node.type == "NAGConditioning" and node.id not in silent
    if replaced:
        return REPLACED.format(BEHIND.format(node.named), THIS_NODES)
    kept = _kept(graph, node, kind)
    return None if kept in (None, name) else LEFT_BEHIND.format(node.named, kept, THIS_NODES)


def _kept(graph, node, kind):
    """Where a node of ComfyUI's makes one model, or one conditioning, of several: the input with which it goes on, and
    with what is on it. None: with all."""
    if not node.stock or "Combine" in node.type or node.output_types.count(kind) != 1:
        return None
    return next((name for name in node.declared if graph.source_type(node, name) == kind), None)


def _outputs(graph, node, name, kind):
    """The numbers of the outputs that carry on what comes to an input."""
    slots = tuple(i for i, given in enumerate(node.output_types) if given in (*CARRIERS, "*"))
    if kind != "CONDITIONING":
        return slots
    names = [each for each in node.inputs if graph.source_type(node, each) == "CONDITIONING"]
    conditionings = [i for i in slots if node.output_types[i] == "CONDITIONING"]
    return tuple(i for i in slots if i not in conditionings or name in paired(names, node.output_types, i))
