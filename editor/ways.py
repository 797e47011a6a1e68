"""How the NAG of a node comes to the samplers, and what comes in its way."""
from collections.abc import Iterable
from dataclasses import dataclass

from ..nodes.prompt import NEGATIVES, RANGE, paired
from ..patches.sampling.notices import LEFT_BEHIND, NEGATIVE_IS_GUIDED, REPLACED, THIS_NODES
from . import sampling
from .graph import Graph, Node, Unreadable

CARRIERS = ("MODEL", "CONDITIONING", "GUIDER")  # types that bring NAG to a sampler
WHOLE = (0.0, 1.0)  # of the sampling, in percents as ComfyUI counts them
BEHIND = "{} behind it"


@dataclass
class Reach:
    """A sampler to which a node's NAG comes.

    Args:
        parts: of the sampling, to which the conditionings that bring it there are limited; None in it can't be read.
        why: it does not act there, a sentence; None if it does.
    """

    sampler: Node
    parts: set[tuple[float, float] | None]
    why: str | None


def guides(node: Node) -> bool:
    """Whether it is a node with NAG settings."""
    return node.ours and node.takes("nag_scale")


def reached(graph: Graph, node: Node, silent: Iterable[str] = ()) -> list[Reach]:
    """The samplers to which a node's NAG comes, in the order in which they run.

    silent: ids of the NAG Conditionings that are off, and so replace nothing.
    """
    if sampling.is_sampler(node):
        return [Reach(node, {WHOLE}, None)]
    start = (node, None, _part_of_positive(graph, node), None)
    found, passed, ahead = {}, {start}, [start]
    while ahead:
        origin, slots, part, why = ahead.pop()
        for each, name, slot in graph.consumers.get(origin.id, ()):
            kind = graph.source_type(each, name)
            if kind not in CARRIERS or slots is not None and slot not in slots:
                continue
            now = why or _what_stops(graph, each, name, kind, silent)
            if sampling.is_sampler(each):
                found.setdefault(each, []).append((part, now))
                continue
            step = (each, _outputs(graph, each, name, kind), _part(graph, each) if each.type == RANGE else part, now)
            if step not in passed:
                passed.add(step)
                ahead.append(step)
    ordered = sorted(found, key=lambda sampler: len(graph.before(sampler)))
    return [_reach(sampler, found[sampler]) for sampler in ordered]


def _reach(sampler, ways):
    acting = [part for part, why in ways if why is None]
    whys = [why for _, why in ways]
    return Reach(sampler, set(acting or (part for part, _ in ways)), None if acting else whys[0])


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


def _part_of_positive(graph, node):
    """The part of the sampling to which the positive is limited that NAG Conditioning gets."""
    found, passed = graph.source(node, "positive"), set()
    node = found and found[0]
    while node is not None and node not in passed:
        if node.type == RANGE:
            return _part(graph, node)
        passed.add(node)
        node = next(iter(graph.sources(node, "CONDITIONING")), None)
    return WHOLE


def _part(graph, node):
    """What a node of type RANGE says; None if it can't be read."""
    try:
        start, end = (float(graph.value(node, name)) for name in ("start", "end"))
    except (Unreadable, TypeError, ValueError, OverflowError):
        return None
    return (start, end) if 0 <= start <= 1 and 0 <= end <= 1 else None
