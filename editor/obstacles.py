"""What keeps NAG from acting in a sampler run, or from doing anything of use there: as the run itself will say it."""
from collections.abc import Iterable

import comfy.model_base

from ..nodes.prompt import NEGATIVES, Entry, entries, is_link, negatives_of
from ..patches.models import Adapter, find_adapter
from ..patches.sampling.negative import misplaced, unequal
from ..patches.sampling.notices import (
    BLANK,
    NEGATIVE_IS_GUIDED,
    NO_NEGATIVE,
    NOT_CONNECTED,
    NOTHING_GIVEN,
    NOWHERE,
    OTHER_NAG,
    REPLACED,
    SAME,
    THE_MODELS,
    TWO_NAGS,
    ZEROED,
)
from . import sampling
from .graph import Graph, Node

CONDITIONING = "CONDITIONING"
COMFYUIS = "NAGuidance"  # ComfyUI's own node
OTHERS = ("LTX2_NAG", "WanVideoNAG", "WanVideoNAGSecure")  # KJNodes', with a forward() of their own in the model


def of_inputs(graph: Graph, node: Node) -> str | None:
    """Of what must be connected to a NAG node beside the negative; None if it is."""
    prompt = CONDITIONING, "a prompt"
    for name, kind, what in (("model", "MODEL", "a model"), ("positive", *prompt), ("conditioning", *prompt)):
        if _is_required(node, name) and _lacks(graph, node, name, kind):
            return NOTHING_GIVEN.format(_label(node, name), what)
    return None


def of_model(graph: Graph, sampler: Node, model: sampling.Model | None) -> str | None:
    """Of other NAG nodes on the model that a sampler gets; None if there are none."""
    for node in sampling.way_of(graph, sampler):
        if node.type in OTHERS and graph.prompt[node.id]["inputs"].get("nag_scale") != 0:
            return OTHER_NAG.format(node.named)
        if node.type == COMFYUIS and model is not None and not find_adapter(model.patcher.model).mixes_rows:
            return TWO_NAGS
    return None


def of_prompts(graph: Graph, node: Node, sampler: Node, silent: Iterable[str]) -> str | None:
    """Of the positive and the negative that a node's NAG works with in a sampler run; None if they are as they should.

    silent: see entries.
    """
    silent = frozenset(silent)
    if _negative_is_guided(graph, _end(graph, sampler), silent):
        return NEGATIVE_IS_GUIDED
    positives = positives_for(graph, node, sampler, silent)
    by = () if positives else {entry.guided_by for entry in _positives(graph, sampler, silent)}
    if by:
        named = " and ".join(graph.nodes[each].named for each in sorted(by))
        return REPLACED.format(f"{named} on the positive", THE_MODELS)
    own = [name for name in NEGATIVES if node.takes(name)]
    required = next((name for name in own if _is_required(node, name)), None)
    if required and _lacks(graph, node, required, CONDITIONING):
        return NOT_CONNECTED.format(_label(node, required))
    negatives = negatives_for(graph, node, sampler, silent)
    if not negatives:
        return NO_NEGATIVE if _has_none(_end(graph, sampler)) and not graph.may_be_sent(CONDITIONING) else None
    return _of_negative(negatives, positives)


def names_its_positive(graph: Graph, node: Node, sampler: Node) -> bool:
    """Whether it can be read which of a sampler's conditionings a node's NAG guides, if any.

    Another pack's guider may call all of its own something else, and then it guides none.
    """
    end = _end(graph, sampler)
    has_any = any(graph.source_type(end, name) == CONDITIONING for name in end.inputs)
    return node.type == "NAGConditioning" or not has_any or _positive_of(graph, end) is not None


def of_entries(adapter: Adapter, model: comfy.model_base.BaseModel, negatives: Iterable[Entry]) -> str | None:
    """Of the weights, the masks and the areas of a negative with a model; None if they are as they should."""
    net, n_axes = model.diffusion_model, model.latent_format.latent_dimensions
    counting = [entry for entry in negatives if entry.weight != 0]
    whys = (misplaced(adapter, net, n_axes, entry.masked) for entry in counting if entry.placed)
    known = [entry for entry in counting if None not in (entry.weight, entry.part)]
    return next(filter(None, whys), None) or unequal(adapter, [(*e.part, e.weight, e.placed) for e in known])


def positives_for(graph: Graph, node: Node, sampler: Node, silent: Iterable[str] = ()) -> list[Entry]:
    """The entries of the positive that a node's NAG guides in a sampler run, as they come to the sampler.

    silent: see entries.
    """
    silent, end = frozenset(silent), _end(graph, sampler)
    if node.type != "NAGConditioning":
        return [entry for entry in _positives(graph, sampler, silent) if entry.guided_by is None]
    found = (entry for name in _but_negatives(graph, end) for entry in _entries(graph, end, name, silent))
    # Another pack's node on the way may be one that no entry is seen through.
    return [entry for entry in found if entry.guided_by == node.id] or _entries(graph, node, "positive", silent)


def negatives_for(graph: Graph, node: Node, sampler: Node, silent: Iterable[str] = ()) -> list[Entry]:
    """The entries of the negative that a node's NAG works with in a sampler run; none if none is connected.

    silent: see entries.
    """
    links = negatives_of(graph.prompt, node.id) or negatives_of(graph.prompt, sampler.id)
    return entries(graph.prompt, links[0], frozenset(silent)) if links else []


def _of_negative(negatives, positives):
    if all(entry.weight == 0 for entry in negatives):
        return NOWHERE
    if all(entry.zeroed for entry in negatives):
        return ZEROED
    if all(entry.names_nothing for entry in negatives):
        return BLANK
    same = [entry.identity for entry in negatives] == [entry.identity for entry in positives]
    return SAME if same else None


def _negative_is_guided(graph, node, silent):
    """Whether the negative of a sampler or a guider brings a NAG that no positive brings, which ends the run."""
    names = _but_negatives(graph, node)
    by = {entry.guided_by for name in names for entry in _entries(graph, node, name, silent)} | {None}
    return not by.issuperset(entry.guided_by for entry in _entries(graph, node, "negative", silent))


def _end(graph, sampler):
    """The node at which the conditionings of a sampler run come in: its guider, or itself."""
    found = graph.source(sampler, "guider")
    return found[0] if found else sampler


def _but_negatives(graph, node):
    """The inputs of a sampler or a guider with conditionings that NAG may guide."""
    return [name for name in node.inputs if graph.source_type(node, name) == CONDITIONING and name not in NEGATIVES]


def _positive_of(graph, node):
    """The input of a sampler or a guider that is the positive for a model's NAG."""
    names = _but_negatives(graph, node)
    return next((name for name in ("positive", "conditioning", "cond1") if name in names), None)


def _positives(graph, sampler, silent):
    """The entries of what is the positive for a model's NAG."""
    end = _end(graph, sampler)
    name = _positive_of(graph, end)
    return _entries(graph, end, name, silent) if name else []


def _entries(graph, node, name, silent):
    link = graph.prompt[node.id]["inputs"].get(name)
    return entries(graph.prompt, link, silent) if is_link(link) else []


def _lacks(graph, node, name, kind):
    return not (is_link(graph.prompt[node.id]["inputs"].get(name)) or graph.may_be_sent(kind))


def _is_required(node, name):
    return name in node.cls.INPUT_TYPES().get("required", {})


def _label(node, name):
    """What people see of an input that a node requires."""
    _, options = node.cls.INPUT_TYPES()["required"][name]
    return options.get("display_name") or name


def _has_none(node):
    """Whether a sampler or a guider that has no negative connected has none: another pack's may call it otherwise."""
    if node.stock or node.ours:
        return True
    return bool(node.declared) and not any("neg" in name.lower() for name in node.declared)
