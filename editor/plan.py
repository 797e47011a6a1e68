"""Where NAG acts, for each NAG node of a graph: in which sampler runs, at which of their steps."""
import math
from contextlib import suppress

import torch

from ..nodes import inputs
from ..patches.settings import Options
from . import sampling
from .families import all_families, family_of
from .graph import BYPASSED, MUTED, Graph, Node, Unreadable

CARRIERS = ("MODEL", "CONDITIONING", "GUIDER")  # types that bring NAG to a sampler
STRENGTH = ("nag_scale", "nag_tau", "nag_alpha")


def plan(graph: Graph) -> dict:
    """What the editor shows, as JSON has it: of each NAG node by its id, and the families with their settings.

    Of a node:
        family, recommended: of the model that it guides; None if that is not known.
        settings: in effect, "auto" resolved. A number is None where it is not known.
        off: whether they leave the picture as it is.
        runs: the sampler runs that it takes part in, in their order: "sampler", a node id; "steps"; "sigmas", one more
            than steps, or None; "on", whether NAG acts at each step, or None if nobody can know; "exact", whether that
            is certain or a guess.
        message: what is wrong with the node or its model; None if nothing is.
    """
    families = [{"name": name, **vars(strength)} for name, strength in all_families().items()]
    guides = [node for node in graph.nodes.values() if _guides(node)]
    return {"nodes": {node.id: _NodePlan(graph, node).answer() for node in guides}, "families": families}


def _guides(node):
    """Whether it is a node with NAG settings."""
    return node.ours and "nag_scale" in {each.id for each in node.cls.GET_SCHEMA().inputs}


class _NodePlan:
    def __init__(self, graph: Graph, node: Node):
        self.graph, self.node = graph, node
        self.family, self.recommended, self.message = None, None, None

    def answer(self):
        settings = self._settings()
        runs = []
        if self.node.mode not in (MUTED, BYPASSED):
            for sampler in self._samplers():
                with suppress(Unreadable):
                    runs.append(self._run(sampler, settings))
        if settings is not None and self.recommended is not None:
            settings = settings.completed(self.recommended)
        return {
            "family": self.family,
            "recommended": self.recommended and vars(self.recommended),
            "settings": settings and self._numbers(settings),
            "off": settings is not None and settings.off,
            "runs": runs,
            "message": self.message,
        }

    def _settings(self):
        """As the node's widgets and its NAG Options say; None if they can't be read or are wrong."""
        try:
            numbers = {name: self.graph.value(self.node, name, inputs.AUTO) for name in STRENGTH}
            sigma_end = self.graph.value(self.node, "nag_sigma_end", 0.0)
            return inputs.settings(**numbers, nag_sigma_end=float(sigma_end), options=self._options())
        except Unreadable:
            return None
        except (TypeError, ValueError) as error:
            self.message = str(error)
            return None

    def _options(self):
        found = self.graph.source(self.node, "options")
        if found is None:
            return Options()
        options = found[0]
        if options.type != "NAGOptions":
            raise Unreadable("options")
        start, end = (self.graph.value(options, name) for name in ("start_percent", "end_percent"))
        return Options(float(start), float(end), statistics=self.graph.value(options, "statistics", False) is True)

    def _numbers(self, settings):
        options = settings.options
        numbers = {name: getattr(settings, name) for name in (*STRENGTH, "nag_sigma_end")}
        percents = {"start_percent": options.start_percent, "end_percent": options.end_percent}
        return {**numbers, **percents, "statistics": options.statistics}

    def _samplers(self):
        """The samplers that the node's NAG reaches, in the order in which they run."""
        if sampling.is_sampler(self.node):
            return [self.node]
        consumers = self.graph.consumers()
        found, reached, ahead = {}, {self.node.id}, [self.node]
        while ahead:
            for node, kind in consumers.get(ahead.pop().id, ()):
                if kind not in CARRIERS or (kind == "MODEL" and _guides(node)):  # the last NAG node on a model counts
                    continue
                if sampling.is_sampler(node):
                    found[node.id] = node
                elif node.id not in reached and any(node.gives(carrier) for carrier in CARRIERS):
                    reached.add(node.id)
                    ahead.append(node)
        return sorted(found.values(), key=lambda node: len(self.graph.before(node)))

    def _run(self, sampler, settings):
        model = None
        with suppress(Unreadable):
            model = sampling.model_of(self.graph, sampler)
        if model is not None:
            self._note_family(model)
        schedule = sampling.schedule_of(self.graph, sampler, model)
        steps = len(schedule.percents)
        return {
            "sampler": sampler.id,
            "steps": steps,
            "sigmas": None if schedule.sigmas is None else _finite(schedule.sigmas),
            "on": settings and self._on(settings, model, schedule, steps),
            "exact": schedule.exact,
        }

    def _note_family(self, model):
        try:
            self.family, self.recommended = family_of(model.patcher.model.diffusion_model)
        except ValueError as error:
            self.message = self.message or str(error)

    def _on(self, settings, model, schedule, steps):
        """Whether NAG acts at each step: by the engine's own rule where the model is known."""
        if settings.off:
            return [False] * steps
        if model is None or schedule.sigmas is None:
            options = settings.options
            return [options.start_percent <= percent < options.end_percent for percent in schedule.percents]
        low, high = settings.sigma_range(model.sampling.percent_to_sigma)
        return [low <= sigma <= high for sigma in schedule.sigmas[:-1].to(torch.float32).tolist()]


def _finite(sigmas):
    """JSON has no infinity."""
    return [sigma if math.isfinite(sigma) else None for sigma in sigmas.tolist()]
