"""What a sampler node will do: with which model, at which sigmas.

Whatever ComfyUI computes is asked of ComfyUI's own nodes, with models that have no weights.
"""
from contextlib import suppress
from dataclasses import dataclass

import comfy.model_patcher
import comfy.samplers
import torch

from ..nodes import comfyui
from . import models
from .graph import Graph, Node, Unreadable

SAMPLERS = ("KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced", "NAGSampler", "KSamplerWithNAG",
            "KSamplerWithNAG (Advanced)", "SamplerCustomWithNAG")  # fmt: skip
MOST_SIGMAS = 10_001  # as many as ComfyUI's own widgets allow
LEAST_DENOISE = 0.001  # the schedule that is cut short has steps / denoise steps


@dataclass(frozen=True)
class Model:
    """A model where it enters a node. `exact`: nothing on the way may have changed its sampling unseen."""

    patcher: comfy.model_patcher.ModelPatcher
    exact: bool

    @property
    def sampling(self):
        return self.patcher.get_model_object("model_sampling")


@dataclass(frozen=True)
class Schedule:
    """The steps of one sampler run.

    Args:
        percents: where in the sampling each lies, evenly in time: 0 to 1; for want of sigmas, a guess of any schedule.
        sigmas: one more than there are steps; None where they are not known.
        exact: whether these are certain.
    """

    percents: list[float]
    sigmas: torch.Tensor | None
    exact: bool

    @property
    def steps(self) -> int:
        return len(self.percents) if self.sigmas is None else max(len(self.sigmas) - 1, 0)


def is_sampler(node: Node) -> bool:
    """Whether a node samples, of any pack: it can be read like KSampler, or like one of the custom samplers."""
    if node.type in SAMPLERS:  # also before its sigmas are connected
        return True
    return {"sampler_name", "scheduler", "steps"} <= node.inputs.keys() or (
        "sigmas" in node.inputs and not {"model", "guider"}.isdisjoint(node.inputs) and not node.gives("SIGMAS")
    )


def model_of(graph: Graph, sampler: Node) -> Model:
    """The model that a sampler gets, by itself or in a guider. Raises Unreadable."""
    guider = graph.source(sampler, "guider")
    return model_into(graph, guider[0] if guider else sampler)


def way_of(graph: Graph, sampler: Node) -> list[Node]:
    """The nodes through which a sampler's model comes, the last one first; none where they go in circles."""
    guider = graph.source(sampler, "guider")
    try:
        return _way(graph, guider[0] if guider else sampler)
    except Unreadable:
        return []


def model_into(graph: Graph, node: Node) -> Model:
    """The model that a node gets. Raises Unreadable."""
    way = _way(graph, node)
    if not way:
        raise Unreadable("an input without a model")
    loader, *nodes = reversed(way)
    model = Model(models.load(loader, graph), exact=True)
    for each in nodes:
        model = _through(graph, each, model)
    return model


def _way(graph, node):
    way, passed = [], {node.id}
    while origins := graph.sources(node, "MODEL"):
        node = origins[0]
        if node.id in passed:
            raise Unreadable("a graph that goes in circles")
        passed.add(node.id)
        way.append(node)
    return way


def _through(graph, node, model):
    """The model behind a node that changes it."""
    if node.stock and node.type.startswith("ModelSampling"):
        try:
            return Model(run(graph, node, model.patcher), model.exact)
        except Unreadable:
            return Model(model.patcher, exact=False)
    return Model(model.patcher, model.exact and (node.stock or node.ours))


def run(graph: Graph, node: Node, patcher, slot: int = 0):
    """The output of a stock node whose other inputs are sigmas and widgets. Raises Unreadable where they are not."""
    values = {}
    if "steps" in node.inputs:
        _numbers(graph, node)
    for group in ("required", "optional"):
        for name, (kind, *_) in node.cls.INPUT_TYPES().get(group, {}).items():
            if kind == "MODEL":
                values[name] = patcher
            elif kind == "SIGMAS":
                values[name] = sigmas_into(graph, node, name)
            elif name in node.inputs or group == "required":
                values[name] = graph.value(node, name)
    try:
        return comfyui.run(node.cls, **values)[slot]
    except Exception as error:  # whatever a node says to values that are not right
        raise Unreadable(f"what {node.type} #{node.id} makes") from error


def sigmas_into(graph: Graph, node: Node, name: str = "sigmas") -> torch.Tensor:
    """The sigmas that a node gets. Raises Unreadable."""
    found = graph.source(node, name)
    if found is None or not found[0].stock:
        raise Unreadable(f"the sigmas of {node.type} #{node.id}")
    scheduler, slot = found
    model = model_into(graph, scheduler) if graph.sources(scheduler, "MODEL") else None
    sigmas = run(graph, scheduler, model and model.patcher, slot)
    if not isinstance(sigmas, torch.Tensor) or len(sigmas) > MOST_SIGMAS or model and not model.exact:
        raise Unreadable(f"the sigmas of {scheduler.type} #{scheduler.id}")
    return sigmas


def schedule_of(graph: Graph, sampler: Node, model: Model | None) -> Schedule:
    """The steps of a sampler node. Raises Unreadable if not even their number can be known.

    model: what it samples with; None if that is not known.
    """
    if "sigmas" not in sampler.inputs:
        return _ksampler(graph, sampler, model)
    try:
        sigmas = sigmas_into(graph, sampler)
    except (Unreadable, RecursionError):  # a graph may go in circles
        found = graph.source(sampler, "sigmas")
        if found is None or "steps" not in found[0].inputs:
            raise Unreadable(f"the sigmas of {sampler.type} #{sampler.id}") from None
        return Schedule(_percents(*_numbers(graph, found[0])), None, exact=False)
    steps = max(len(sigmas) - 1, 0)
    return Schedule(_percents(steps, 1.0), sigmas, sampler.type in SAMPLERS and model is not None and model.exact)


def _ksampler(graph, node, model):
    steps, denoise = _numbers(graph, node)
    percents, sigmas, exact = _percents(steps, denoise), None, False
    sampler, scheduler = graph.value(node, "sampler_name"), graph.value(node, "scheduler")
    stock = comfy.samplers.KSampler
    if model is not None and sampler in stock.SAMPLERS and scheduler in stock.SCHEDULERS:
        with suppress(Exception):  # not every model has every schedule
            sigmas = stock(model.patcher, steps, models.CPU, sampler, scheduler, denoise).sigmas
            exact = model.exact and node.type in SAMPLERS
    if "end_at_step" in node.inputs:
        first, last = (_whole_number(graph, node, name) for name in ("start_at_step", "end_at_step"))
        whole = graph.value(node, "return_with_leftover_noise", "disable") == "disable"
        percents, sigmas = percents[first:last], _part(sigmas, first, last, whole)
    return Schedule(percents, sigmas, exact)


def _part(sigmas, first, last, to_the_end):
    """The steps from `first` to before `last`, as comfy.samplers.KSampler.sample takes them."""
    if sigmas is None:
        return None
    if last < len(sigmas) - 1:
        sigmas = sigmas[: last + 1].clone()
        if to_the_end:
            sigmas[-1] = 0
    return sigmas[first:] if first < len(sigmas) - 1 else sigmas[:0]


def _numbers(graph, node):
    """Its steps and its denoise."""
    steps, denoise = _whole_number(graph, node, "steps"), graph.value(node, "denoise", 1.0)
    fits = isinstance(denoise, (int, float)) and (denoise == 0 or LEAST_DENOISE <= denoise <= 1)
    if not fits or not 0 < steps < MOST_SIGMAS:
        raise Unreadable(f"the steps of {node.type} #{node.id}")
    return steps, denoise


def _whole_number(graph, node, name):
    value = graph.value(node, name)
    if type(value) is not int or value < 0:
        raise Unreadable(f"{name} of {node.type} #{node.id}")
    return value


def _percents(steps, denoise):
    if denoise <= 0:
        return []
    total = steps if denoise > 0.9999 else int(steps / denoise)
    return [(total - steps + step) / total for step in range(steps)]
