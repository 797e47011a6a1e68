"""Prompts with our nodes in them, whose inputs have been changed at random."""
import copy
import json
import math
from dataclasses import dataclass

from graphs import node
from host.environment import ROOT
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from painter import NAG_NEGATIVE, PROMPTS, SAMPLING, STRENGTH, custom_sampler, sources

set_hypothesis_home_dir(ROOT / "hypothesis")  # for the tables that it makes

FAMILIES = ("flux_dev", "sd15")
WRONG_TEXTS = (
    "several entries", "a batch", "float16", "no entries", "no text", "no values", "no pooled output",
    "narrow pooled output", "no tokens", "too wide", "too narrow", "a dimension less", "a dimension more",
    "not a number", "infinite", "whole numbers", "text alone", "a list of numbers", "an object", "a string", "nothing",
)  # fmt: skip
SOMETHINGS = (
    "nothing", "a number", "not a number", "text", "an empty list", "an object", "a tensor",
    "a latent without samples",
)  # fmt: skip
NOT_FINITE = {"not a number", "infinite"}
AUTO = {"nag_scale": "auto", "nag_tau": "auto", "nag_alpha": "auto", "strength": 1.0}
OPTIONS = {"options": ["options", 0]}
ONE_STEP = {**SAMPLING, "steps": 1}
COMMON = {"model": ["model", 0], **PROMPTS, **NAG_NEGATIVE, **OPTIONS, "latent_image": ["latent", 0]}
UNUSED_LATENT = {"latent_image": ["latent", 0]}


def _by_ksampler(**nag):
    wires = {"model": ["model", 0], **PROMPTS, "latent_image": ["latent", 0]}
    positive_or_model = "positive" if nag["nag"]["class_type"] == "NAGConditioning" else "model"
    return nag | {"sampler": node("KSampler", **wires | {positive_or_model: ["nag", 0]}, **ONE_STEP)}


def _by_guider(class_type, **prompts):
    inputs = {"model": ["model", 0], **NAG_NEGATIVE, **STRENGTH, **OPTIONS, **UNUSED_LATENT, **prompts}
    return {"guider": node(class_type, **inputs), **custom_sampler(["model", 0], steps=1)}


def _without(inputs, *names):
    return {name: value for name, value in inputs.items() if name not in names}


STEP_RANGE = {"noise_seed": 0, "add_noise": "enable", "start_at_step": 0, "end_at_step": 10000,
              "return_with_leftover_noise": "disable"}  # fmt: skip
CUSTOM = {"noise_seed": 0, "add_noise": True, "cfg": 1.0, "sampler": ["euler", 0], "sigmas": ["sigmas", 0]}
WAYS = {
    "NAGModel": _by_ksampler(nag=node("NAGModel", model=["model", 0], **NAG_NEGATIVE, **AUTO, **OPTIONS)),
    "NAGConditioning": _by_ksampler(nag=node("NAGConditioning", **PROMPTS, **AUTO, **OPTIONS)),
    "NAGSampler": {"sampler": node("NAGSampler", **COMMON, **AUTO, **ONE_STEP)},
    "NAGGuider": _by_guider("NAGGuider", conditioning=["positive", 0]),
    "NAGCFGGuider": _by_guider("NAGCFGGuider", **PROMPTS, cfg=1.0),
    "KSamplerWithNAG": {"sampler": node("KSamplerWithNAG", **COMMON, **STRENGTH, **ONE_STEP)},
    "KSamplerWithNAG (Advanced)": {
        "sampler": node(
            "KSamplerWithNAG (Advanced)", **COMMON, **STRENGTH, **_without(ONE_STEP, "seed", "denoise"), **STEP_RANGE
        )
    },
    "SamplerCustomWithNAG": {
        **_without(custom_sampler(["model", 0], steps=1), "noise"),
        "sampler": node("SamplerCustomWithNAG", **COMMON, **STRENGTH, **CUSTOM),
    },
}
UNKNOWN = "unknown"  # an input that none of them has
OURS = (*WAYS, "NAGOptions")  # of NAGPlaygroundLoader all that are there but the first may be absent
def valid(way, family):
    """A prompt that samples for one step, with all that a link may be turned to."""
    other = FAMILIES[family == FAMILIES[0]]
    return {
        **sources(family),
        "options": node("NAGOptions", start_percent=0.0, end_percent=1.0, image_stream="shared", statistics=True),
        **copy.deepcopy(WAYS[way]),
        "report": node("Report", latent=["sampler", 0]),
        "other model": node("TinyModel", family=other),
        "other latent": node("TinyLatent", family=other),
        "playground": node("NAGPlaygroundLoader"),
        "words": node("CLIPTextEncode", clip=["playground", 1], text="a circle"),
        **{wrong: node("TinyText", family=family, seed=2, wrong=wrong) for wrong in WRONG_TEXTS},
        **{f"{kind} of any type": node("Something", kind=kind) for kind in SOMETHINGS},
    }


@dataclass(frozen=True)
class Mutation:
    """A changed prompt.

    Args:
        way: which of WAYS it was.
        graph: the prompt.
        changed: (node id, input) of what was changed.
    """

    way: str
    graph: dict
    changed: tuple

    @property
    def finite(self):
        """Whether nothing that was put in is infinite or no number."""
        put_in = json.dumps([self.graph[n]["inputs"].get(name) for n, name in self.changed]).lower()
        return not any(word in put_in for word in ("nan", "inf", *NOT_FINITE))

    def unguided(self):
        """The same with NAG as it should be, and off."""
        graph = copy.deepcopy(self.graph)
        for node_id, original in valid(self.way, self.graph["model"]["inputs"]["family"]).items():
            for name, value in original["inputs"].items():
                if name.startswith("nag_") or name == "options" or node_id == "options":
                    graph[node_id]["inputs"][name] = value
            if "nag_scale" in original["inputs"]:
                graph[node_id]["inputs"]["nag_scale"] = 1.0
        return graph


NUMBERS = [
    0, 1, 2, 3, -1, 0.5, 0.25, 2.5, 1.0, 5.0, -0.0, 1e-30, -1e-30, 1e30, 1e308, 2**31, 2**53 + 1, 2**63, 2**64,
    -(2**63), 10**400, math.nan, math.inf, -math.inf, True, False,
]  # fmt: skip
TEXTS = [
    "", " ", "auto", " AUTO ", "3", "3.0", "1e1", "1_0", "٣", "nan", "-inf", "0x10", "None", "null", "[]", "{}",
    "ö\u0000☃\U0001f600", "shared", "separate", "enable", "disable", "euler", "dpmpp_2m", "simple", "karras",
    "a" * 5000, "%s", "../..",
]  # fmt: skip
plain = st.none() | st.floats(0, 10) | st.integers(-5, 3) | st.text(max_size=5)
scalars = st.sampled_from(NUMBERS) | st.sampled_from(TEXTS) | plain
boxes = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["", "__value__", "__type__", "a", "content"]), inner, max_size=2),
    max_leaves=4,
)
values = scalars | boxes


def _links(graph):
    """Links to any node, also to itself, to none, and to outputs that are not there."""
    ids = st.sampled_from([*graph, "nowhere", "", 3])
    slots = st.sampled_from([0, 0, 0, 0, 0, 0, 1, 2, -1, 99, 0.0, "0", None, True])
    return st.tuples(ids, slots).map(list)


ANYTHING = [f"{kind} of any type" for kind in SOMETHINGS]


def _fitting(name):
    """The nodes that ComfyUI lets one link to an input."""
    if "positive" in name or "negative" in name or name == "conditioning":
        return [*WRONG_TEXTS, "words", *ANYTHING]
    return {"model": ["other model", *ANYTHING], "latent_image": ["other latent", *ANYTHING]}.get(name, ANYTHING)


def _takes_too_long(name, value):
    """Where ComfyUI does as told: ten thousand steps, or one of which a billionth is left to do."""
    if isinstance(value, dict):
        return any(_takes_too_long(name, inner) for inner in value.values())
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return (name == "steps" and 3 < number < 10_001) or (name == "denoise" and 0 < abs(number) < 0.2)


def _values_for(name):
    return values.filter(lambda value: not _takes_too_long(name, value))


@st.composite
def mutations(draw):
    """A prompt with one to three changes to the inputs of our nodes."""
    way = draw(st.sampled_from(list(WAYS)))
    graph = valid(way, draw(st.sampled_from(FAMILIES)))
    ours = [node_id for node_id, each in graph.items() if each["class_type"] in OURS]
    changed = []
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        node_id = draw(st.sampled_from(ours))
        inputs = graph[node_id]["inputs"]
        name = draw(st.sampled_from([*valid(way, "sd15")[node_id]["inputs"], UNKNOWN]))
        what = draw(st.sampled_from(["value", "value", "link", "fitting link", "nothing"]))
        if what == "nothing":
            inputs.pop(name, None)
        elif what == "value" or name == UNKNOWN:  # of a link in such an input ComfyUI's queue may die
            inputs[name] = draw(_values_for(name))
        elif what == "link":
            inputs[name] = draw(_links(graph))
        else:
            inputs[name] = [draw(st.sampled_from(_fitting(name))), 0]
        changed.append((node_id, name))
    return Mutation(way, graph, tuple(changed))
