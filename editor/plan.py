"""Where NAG acts, for each NAG node of a graph: in which sampler runs, at which of their steps."""
import logging
import math
from contextlib import suppress

import torch

from ..nodes import inputs
from ..nodes.names import whose_instead
from ..patches.checks import UnknownFamily
from ..patches.models import acting_blocks, find_adapter
from ..patches.sampling.notices import NO_STEP, of_settings
from ..patches.sampling.schedule import factors
from ..patches.settings import CAPPED, RANGES, Options, Strength, single
from . import sampling
from .families import VARIANTS, all_families
from .graph import BYPASSED, MUTED, Graph, Node, Unreadable
from .models import Broken
from .obstacles import (
    names_its_positive,
    negatives_for,
    of_entries,
    of_inputs,
    of_model,
    of_prompts,
    positives_for,
)
from .ways import guides, reached

_, MOST = RANGES["strength"]
WHOLE = (0.0, 1.0)  # of the sampling, in percents as ComfyUI counts them
CHOSEN = ("image_stream", "statistics", "unknown_models", "equation", "schedule", "blocks")  # in NAG Options
DEFAULTS = {**vars(Options()), "end_percent": inputs.AUTO, "strengths": ""}


def plan(graph: Graph) -> dict:
    """What the editor shows, as JSON has it: of each NAG node by its id, and the families with their settings.

    Of a node:
        family, recommended: of the model that it guides; None if that is not known.
        settings: in effect, "auto" resolved. A number is None where it is not known, or not used; "strength" is the
            node's own; "capped", whether the equation uses nag_tau and nag_alpha.
        off: whether they leave the picture as it is.
        runs: the sampler runs that it takes part in, in their order: "sampler", a node id; "steps"; "sigmas", one more
            than steps, or None; "on", whether NAG acts at each step, or None if nobody can know; "strengths", how
            strong at each, 0 where it does not act, or None; "exact", whether that is certain or a guess; "why", a
            sentence if it acts at none for a reason other than when it is to act.
        blocks: {"acting", "of"}, of how many blocks it acts in how many; None if in all, or not known.
        negative: {"weights", "placed"}, the weights of its entries, each None if it can't be read; None if all are 1;
            and whether one of them is for a part of the picture.
        reached: whether its NAG comes to any sampler, of which the steps may not be known.
        message: why NAG acts nowhere, and what to do; None if it acts.
    """
    # The paper's first: by the first of those with the same numbers the editor calls them.
    known = sorted(all_families().items(), key=lambda each: each[1].whose != Strength.whose)
    families = [{"name": name, "variant_of": VARIANTS.get(name), **vars(strength)} for name, strength in known]
    nodes = {node.id: _NodePlan(graph, node) for node in graph.nodes.values() if guides(node)}
    silent = {node_id for node_id, each in nodes.items() if each.settings is not None and each.settings.off}
    return {"nodes": {node_id: each.answer(silent) for node_id, each in nodes.items()}, "families": families}


class _NodePlan:
    def __init__(self, graph: Graph, node: Node):
        self.graph, self.node = graph, node
        self.family, self.recommended, self.message = None, None, None
        self.blocks = None
        self.negatives = []  # entries, of all sampler runs
        self.whys = []  # of each sampler that its NAG reaches: why it does not act there, or None
        self.settings = self._settings()

    def answer(self, silent):
        """silent: ids of the nodes that are off."""
        settings, runs = self.settings, []
        asleep = self.node.mode in (MUTED, BYPASSED)
        for reach in [] if asleep else reached(self.graph, self.node, silent):
            if reach.why:
                self.whys.append(reach.why)
                continue
            with suppress(Unreadable):
                runs.append(self._run(reach, settings, silent))
        off, said = False, []
        if settings is not None:
            off, said = settings.off, of_settings(settings)
            settings = settings.completed(self.recommended)
            off, said = off or settings.off, said or of_settings(settings)
        if said:
            runs = [{**run, "on": [False] * run["steps"], "strengths": [0.0] * run["steps"]} for run in runs]
        whys = self.whys if all(self.whys) else []
        nowhere = [NO_STEP] if len(runs) == len(self.whys) and runs and all(map(_acts_nowhere, runs)) else []
        message = next(filter(None, [self.message, *said, *whys, *nowhere]), None)
        return {
            "family": self.family,
            "recommended": self.recommended and vars(self.recommended),
            "settings": settings and _told(settings, self.settings.strength),
            "off": off,
            "runs": runs,
            "blocks": self.blocks,
            "negative": _said_of(self.negatives),
            "reached": bool(self.whys),
            "message": None if asleep else message,
        }

    def _settings(self):
        """As the node's widgets and its NAG Options say; None if they can't be read or are wrong."""
        try:
            numbers = {name: self.graph.value(self.node, name, inputs.AUTO) for name in inputs.STRENGTH}
            has_end, has_dial = (self.node.takes(name) for name in ("nag_sigma_end", "strength"))
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
        read = lambda name: self.graph.value(options, name, DEFAULTS[name])
        given = {name: float(read(name)) for name in ("start_percent", "vsf_offset")}
        given |= {name: read(name) for name in ("end_percent", *CHOSEN)}
        if given["schedule"] == "list":
            given["strengths"] = read("strengths")
        return inputs.options(**given)

    def _run(self, reach, settings, silent):
        sampler, model, why = reach.sampler, None, of_inputs(self.graph, self.node)
        try:
            model = sampling.model_of(self.graph, sampler)
        except Broken as broken:
            why = why or str(broken)
        except Unreadable:
            pass
        negatives = negatives_for(self.graph, self.node, sampler, silent)
        self.negatives += negatives
        if model is not None:
            options = Options() if settings is None else settings.options
            unguided = self._note_model(model.patcher.model, options, negatives)
            why = why or unguided
        why = why or of_model(self.graph, sampler, model) or of_prompts(self.graph, self.node, sampler, silent)
        self.whys.append(why)
        schedule = sampling.schedule_of(self.graph, sampler, model)
        positives = positives_for(self.graph, self.node, sampler, silent)
        parts = [{entry.part for entry in negatives if entry.weight != 0}, {entry.part for entry in positives}]
        if not names_its_positive(self.graph, self.node, sampler):
            parts.append({None})
        strengths = [0.0] * schedule.steps if why else self._strengths(settings, parts, model, schedule)
        return {
            "sampler": sampler.id,
            "steps": schedule.steps,
            "sigmas": None if schedule.sigmas is None else _finite(schedule.sigmas),
            "on": strengths and [strength > 0 for strength in strengths],
            "strengths": strengths,
            "exact": schedule.exact,
            "why": why,
        }

    def _note_model(self, model, options, negatives):
        """Why NAG can't guide the model by these negatives; None if it can."""
        try:
            adapter = find_adapter(model, options.unknown_models)
            self.family, self.recommended = adapter.family(model), adapter.recommended(model)
            acting, count = acting_blocks(adapter, model, options.blocks)
            self.blocks = None if acting == count else {"acting": acting, "of": count}
            return adapter.unfit(options, {}) or of_entries(adapter, model, negatives)
        except UnknownFamily as error:
            return f"{error} {whose_instead(self.node.type)}".rstrip()
        except (ValueError, RuntimeError) as error:
            return str(error)
        except Exception as error:  # a model may be of any kind; the others of the graph are to be seen all the same
            logging.debug("NAG: can't read the model of %s #%s", self.node.type, self.node.id, exc_info=True)
            return f"NAG can't read this model ({type(error).__name__}: {error})."

    def _strengths(self, settings, parts, model, schedule):
        """How strong NAG is at each step, 0 where it does not act: by the engine's own rule where the model is known.
        None if nobody can know.

        parts: of the sampling, sets, None for one that can't be read; NAG acts where one of each is. None is all.
        """
        parts = [each for each in parts if each and WHOLE not in each]
        if settings is not None and settings.off:
            return [0.0] * schedule.steps
        if settings is None or any(None in each for each in parts):
            return None
        options = settings.options
        if model is None or schedule.sigmas is None:
            sigmas, low, high = _as_sigmas(schedule.percents, options)
            within = [all(_within(percent, each) for each in parts) for percent in schedule.percents]
        else:
            to_sigma = model.sampling.percent_to_sigma
            sigmas = schedule.sigmas.to(torch.float32).tolist()
            low, high = settings.completed(self.recommended).sigma_range(to_sigma)
            ranges = [[(single(to_sigma(end)), single(to_sigma(start))) for start, end in each] for each in parts]
            is_in = lambda sigma, each: any(least <= sigma <= most for least, most in each)
            within = [all(is_in(sigma, each) for each in ranges) for sigma in sigmas[:-1]]
        strengths = [settings.strength * factor for factor in factors(options, sigmas, low, high)]
        return [min(each, MOST) if inside else 0.0 for each, inside in zip(strengths, within)]


def _as_sigmas(percents, options):
    """Numbers that fall as sigmas do, for steps of which only the percents are known; the range in which NAG acts."""
    acting = [1 - percent for percent in percents if _within(percent, [(options.start_percent, options.end)])]
    low, high = (single(acting[-1]), single(acting[0])) if acting else (math.inf, -math.inf)
    return [*(1 - percent for percent in percents), 0.0], low, high


def _told(settings, strength):
    """Of settings in effect, what the editor is told. strength: the node's own."""
    options, capped = settings.options, settings.options.equation in CAPPED
    numbers = {name: getattr(settings, name) for name in (*inputs.STRENGTH, "nag_sigma_end")}
    if not capped:
        numbers |= {"nag_tau": None, "nag_alpha": None}
    percents = {"start_percent": options.start_percent, "end_percent": options.end}
    chosen = {name: getattr(options, name) for name in (*CHOSEN, "vsf_offset")}
    return {**numbers, **percents, **chosen, "strength": strength, "capped": capped}


def _said_of(negatives):
    weights = list(dict.fromkeys(entry.weight for entry in negatives))
    return {
        "weights": None if weights in ([], [1.0]) else weights,
        "placed": any(entry.placed for entry in negatives),
    }


def _acts_nowhere(run):
    """Whether NAG certainly acts at none of its steps."""
    return run["exact"] and run["on"] is not None and not any(run["on"])


def _within(percent, limits):
    return any(start <= percent < end for start, end in limits)


def _finite(sigmas):
    """JSON has no infinity."""
    return [sigma if math.isfinite(sigma) else None for sigma in sigmas.tolist()]
