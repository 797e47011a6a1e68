"""Where NAG acts, for each NAG node of a graph: in which sampler runs, at which of their steps."""
import logging
import math
from contextlib import suppress

import torch

from ..nodes import inputs
from ..nodes.names import whose_instead
from ..patches.checks import UnknownFamily
from ..patches.sampling.notices import of_settings
from ..patches.settings import Options, single
from . import sampling
from .families import all_families, family_of
from .graph import BYPASSED, MUTED, Graph, Node, Unreadable

CARRIERS = ("MODEL", "CONDITIONING", "GUIDER")  # types that bring NAG to a sampler
RANGE = "ConditioningSetTimestepRange"  # the node that limits a conditioning to a part of the sampling
WHOLE = (0.0, 1.0)  # of the sampling, in percents as ComfyUI counts them


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
    return node.ours and _has_input(node, "nag_scale")


def _has_input(node, name):
    return name in {each.id for each in node.cls.GET_SCHEMA().inputs}


class _NodePlan:
    def __init__(self, graph: Graph, node: Node):
        self.graph, self.node = graph, node
        self.family, self.recommended, self.message = None, None, None

    def answer(self):
        settings = self._settings()
        runs = []
        if self.node.mode not in (MUTED, BYPASSED):
            for sampler, parts in self._samplers():
                with suppress(Unreadable):
                    runs.append(self._run(sampler, parts, settings))
        off = settings is not None and settings.off
        if settings is not None:
            settings = settings.completed(self.recommended)
        said = settings and of_settings(settings)
        return {
            "family": self.family,
            "recommended": self.recommended and vars(self.recommended),
            "settings": settings and self._numbers(settings),
            "off": off,
            "runs": runs,
            "message": self.message or (said[0] if said else None),
        }

    def _settings(self):
        """As the node's widgets and its NAG Options say; None if they can't be read or are wrong."""
        try:
            numbers = {name: self.graph.value(self.node, name, inputs.AUTO) for name in inputs.STRENGTH}
            has_end, has_dial = (_has_input(self.node, name) for name in ("nag_sigma_end", "strength"))
            sigma_end = self.graph.value(self.node, "nag_sigma_end", inputs.AUTO) if has_end else inputs.AUTO
            strength = self.graph.value(self.node, "strength", 1.0) if has_dial else 1.0
            return inputs.settings(**numbers, nag_sigma_end=sigma_end, options=self._options(), strength=strength)
        except Unreadable:
            return None
        except (TypeError, ValueError, OverflowError) as error:
            self.message = str(error)
            return None

    def _options(self):
        found = self.graph.source(self.node, "options")
        if found is None:
            return None
        options = found[0]
        if options.type != "NAGOptions":
            raise Unreadable("options")
        start, end = (self.graph.value(options, name) for name in ("start_percent", "end_percent"))
        statistics = self.graph.value(options, "statistics", False) is True
        unknown_models = self.graph.value(options, "unknown_models", True) is not False
        return Options(float(start), float(end), statistics=statistics, unknown_models=unknown_models)

    def _numbers(self, settings):
        options = settings.options
        numbers = {name: getattr(settings, name) for name in (*inputs.STRENGTH, "nag_sigma_end")}
        percents = {"start_percent": options.start_percent, "end_percent": options.end_percent}
        return {**numbers, **percents, "statistics": options.statistics}

    def _samplers(self):
        """The samplers that the node's NAG reaches, in the order in which they run.

        Each with the parts of the sampling to which the conditionings that bring it there are limited.
        """
        if sampling.is_sampler(self.node):
            return [(self.node, {WHOLE})]
        consumers = self.graph.consumers()
        start = (self.node, self._part_of_positive())
        found, reached, ahead = {}, {start}, [start]
        while ahead:
            origin, part = ahead.pop()
            for node, kind in consumers.get(origin.id, ()):
                if kind not in CARRIERS or (kind == "MODEL" and _guides(node)):  # the last NAG node on a model counts
                    continue
                if sampling.is_sampler(node):
                    found.setdefault(node, set()).add(part)
                    continue
                step = (node, self._part(node) if node.type == RANGE else part)
                if step not in reached and any(node.gives(carrier) for carrier in CARRIERS):
                    reached.add(step)
                    ahead.append(step)
        return sorted(found.items(), key=lambda item: len(self.graph.before(item[0])))

    def _part_of_positive(self):
        """The part of the sampling to which the positive is limited that NAG Conditioning gets."""
        found, passed = self.graph.source(self.node, "positive"), set()
        node = found and found[0]
        while node is not None and node not in passed:
            if node.type == RANGE:
                return self._part(node)
            passed.add(node)
            node = next(iter(self.graph.sources(node, "CONDITIONING")), None)
        return WHOLE

    def _part(self, node):
        """What a node of type RANGE says; None if it can't be read."""
        try:
            start, end = (float(self.graph.value(node, name)) for name in ("start", "end"))
        except (Unreadable, TypeError, ValueError, OverflowError):
            return None
        return (start, end) if 0 <= start <= 1 and 0 <= end <= 1 else None

    def _run(self, sampler, parts, settings):
        model = None
        with suppress(Unreadable):
            model = sampling.model_of(self.graph, sampler)
        if model is not None:
            self._note_family(model, settings is None or settings.options.unknown_models)
        schedule = sampling.schedule_of(self.graph, sampler, model)
        return {
            "sampler": sampler.id,
            "steps": schedule.steps,
            "sigmas": None if schedule.sigmas is None else _finite(schedule.sigmas),
            "on": self._on(settings, parts, model, schedule),
            "exact": schedule.exact,
        }

    def _note_family(self, model, unknown_models):
        try:
            self.family, self.recommended = family_of(model.patcher.model, unknown_models)
        except UnknownFamily as error:
            self.message = self.message or f"{error} {whose_instead(self.node.type)}".rstrip()
        except (ValueError, RuntimeError) as error:
            self.message = self.message or str(error)
        except Exception as error:  # a model may be of any kind; the others of the graph are to be seen all the same
            logging.debug("NAG: can't read the model of %s #%s", self.node.type, self.node.id, exc_info=True)
            self.message = self.message or f"NAG can't read this model ({type(error).__name__}: {error})."

    def _on(self, settings, parts, model, schedule):
        """Whether NAG acts at each step: by the engine's own rule where the model is known. None if nobody can know."""
        if settings is not None and settings.off or model is not None and self.family is None:
            return [False] * schedule.steps
        if settings is None or None in parts:
            return None
        options = settings.options
        if model is None or schedule.sigmas is None:
            limits = [(options.start_percent, options.end_percent)]
            return [_within(p, limits) and _within(p, parts) for p in schedule.percents]
        to_sigma = model.sampling.percent_to_sigma
        low, high = settings.completed(self.recommended).sigma_range(to_sigma)
        ranges = [(single(to_sigma(end)), single(to_sigma(start))) for start, end in parts]
        sigmas = schedule.sigmas[:-1].to(torch.float32).tolist()
        return [low <= s <= high and any(least <= s <= most for least, most in ranges) for s in sigmas]


def _within(percent, limits):
    return any(start <= percent < end for start, end in limits)


def _finite(sigmas):
    """JSON has no infinity."""
    return [sigma if math.isfinite(sigma) else None for sigma in sigmas.tolist()]
