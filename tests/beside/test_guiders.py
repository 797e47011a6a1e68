"""Guiders, and nodes that change how the model's answers are put together: they get the guided positive, and no other.

Each run is compared with the same run of ComfyUI's in which the oracle answers in the model's place.
"""
from functools import cache

import comfy.samplers
import pytest
import torch

from families import BY_NAME
from oracle import flux
from oracle.equation import Nag
from oracle.sampling import guided_by
from other_nodes import by_node, every_order, every_way, in_turn
from runs import Run, assert_close, custom_sample
from stock import stock
from subject import conditioning_node, model_node, options, out, strength

pytestmark = pytest.mark.usefixtures("inference_mode")

PICTURES = [BY_NAME[name] for name in ("sdxl", "flux_schnell")]
every_family = pytest.mark.parametrize("family", [*PICTURES, BY_NAME["wan21_t2v"]], ids=str)
every_picture = pytest.mark.parametrize("family", PICTURES, ids=str)


def pre_cfg(model):
    model = model.clone()
    model.set_model_sampler_pre_cfg_function(lambda args: [args["conds_out"][0] * 1.1, *args["conds_out"][1:]])
    return model


def post_cfg_that_asks_for_the_negative(model):
    """With cfg 1, too, for which ComfyUI otherwise leaves it out."""
    model = model.clone()
    add = lambda args: args["denoised"] + 0.5 * (args["cond_denoised"] - args["uncond_denoised"])
    model.set_model_sampler_post_cfg_function(add, disable_cfg1_optimization=True)
    return model


def wrapped(model):
    """As TeaCache and others do: around the model, beside what another node put there."""
    earlier = model.model_options.get("model_function_wrapper")

    def wrapper(apply_model, args):
        call = lambda x, t, **c: apply_model(x, t, **c) if earlier is None else earlier(apply_model, {**args, "c": c})
        options = {**args["c"]["transformer_options"], "another_nodes": True}
        return call(args["input"], args["timestep"], **{**args["c"], "transformer_options": options}) * 0.9

    model = model.clone()
    model.set_model_unet_function_wrapper(wrapper)
    return model


CHANGES = {
    "APG": by_node("APG", eta=0.7, norm_threshold=3.0, momentum=0.3),
    "RescaleCFG": by_node("RescaleCFG", multiplier=0.7),
    "CFGNorm": by_node("CFGNorm", strength=0.9),
    "TCFG": by_node("TCFG"),
    "CFGZeroStar": by_node("CFGZeroStar"),
    "Mahiro": by_node("Mahiro"),
    "FreSca": by_node("FreSca", scale_low=1.1, scale_high=1.4, freq_cutoff=2),
    "Epsilon Scaling": by_node("Epsilon Scaling", scaling_factor=1.02),
    "TCFG, then CFGNorm": in_turn(by_node("TCFG"), by_node("CFGNorm", strength=0.9)),
    "pre-CFG function": pre_cfg,
    "post-CFG function": post_cfg_that_asks_for_the_negative,
    "model function wrapper": wrapped,
    "two model function wrappers": in_turn(wrapped, wrapped),
}


def nag_of(run):
    return Nag(run.family.conditioning(11, 5))


@cache
def expected(run, name):
    """The run with another node's change, and the oracle in the model's place."""
    patcher = CHANGES[name](run.exact(run.family.patcher()))
    return run.sample(patcher, guided_by(run.positive, nag_of(run)))


@every_order
@pytest.mark.parametrize(("family", "cfg"), [(PICTURES[0], 3.0), (PICTURES[1], 1.0)], ids=str)
@pytest.mark.parametrize("name", CHANGES)
def test_guidance_of_another_node(nodes, family, cfg, order, name):
    run = Run(family, cfg=cfg, batch=2)
    result = run.sample(*order(nodes, family.patcher(), run.positive, nag_of(run), CHANGES[name]))
    assert_close(result, expected(run, name))


@every_family
@pytest.mark.parametrize("name", CHANGES)
def test_our_cfg_guider_with_another_nodes_guidance(nodes, family, name):
    run, patcher = Run(family, cfg=3.0), family.patcher()
    nag = nag_of(run)
    ours = out(
        nodes.NAGCFGGuider,
        *(CHANGES[name](patcher), run.positive, run.negative, nag.negative, run.cfg, *strength(nag).values(), 0.0),
        options=options(nodes, nag),
    )
    assert_close(custom_sample(run, patcher, ours), expected(run, name))


@every_family
@pytest.mark.parametrize("name", ["Epsilon Scaling", "two model function wrappers"])
def test_our_guider_with_another_nodes_guidance(nodes, family, name):
    """Without a negative, and so without CFG."""
    run, patcher = Run(family), family.patcher()
    nag = nag_of(run)
    model = CHANGES[name](patcher)
    ours = out(nodes.NAGGuider, model, run.positive, nag.negative, *strength(nag).values(), 0.0)
    assert_close(custom_sample(run, patcher, ours), expected(run, name))


@every_picture
@every_order
@pytest.mark.parametrize("node_id", ["VideoLinearCFGGuidance", "VideoTriangleCFGGuidance"])
def test_cfg_that_grows_over_the_batch(nodes, family, order, node_id):
    run, patcher, change = Run(family, cfg=3.0, batch=3), family.patcher(), by_node(node_id, min_cfg=1.0)
    nag = nag_of(run)
    result = run.sample(*order(nodes, patcher, run.positive, nag, change))
    assert_close(result, run.sample(change(run.exact(patcher)), guided_by(run.positive, nag)))


def perp_neg(model, positive, negative, empty):
    guider = {"positive": positive, "negative": negative, "empty_conditioning": empty, "cfg": 3.0, "neg_scale": 0.8}
    return stock("PerpNegGuider", model=model, **guider)[0]


def dual_cfg(style, cfg_conds, cfg_negative):
    """cond1 is the positive; cond2, which ComfyUI encodes as a negative, is not."""
    widgets = {"cfg_conds": cfg_conds, "cfg_cond2_negative": cfg_negative, "style": style}

    def make(model, positive, negative, other):
        return stock("DualCFGGuider", model=model, cond1=positive, cond2=other, negative=negative, **widgets)[0]

    return make


GUIDERS = {
    "PerpNeg": perp_neg,
    "DualCFG": dual_cfg("regular", 3.0, 2.0),
    "DualCFG without the negative": dual_cfg("regular", 3.0, 1.0),
    "nested DualCFG": dual_cfg("nested", 3.0, 2.0),
    "CFG": lambda model, positive, negative, _: stock(
        "CFGGuider", model=model, positive=positive, negative=negative, cfg=3.0
    )[0],
}


@every_family
@pytest.mark.parametrize("by", ["conditioning", "model", "the guider's negative"])
@pytest.mark.parametrize("name", GUIDERS)
def test_guider_of_comfyui(nodes, family, by, name):
    """NAG guides its positive; its negative, where NAG has none of its own, is NAG's, too."""
    run, patcher, guider = Run(family, batch=2), family.patcher(), GUIDERS[name]
    nag = Nag(run.negative if by == "the guider's negative" else family.conditioning(11, 5))
    others = nag.negative if by == "the guider's negative" else run.negative, family.conditioning(12, 3)
    if by == "conditioning":
        guided = guider(patcher, conditioning_node(nodes, run.positive, nag), *others)
    else:
        own = {} if by == "the guider's negative" else {"nag_negative": nag.negative}
        guided = guider(model_node(nodes, patcher, nag, **own), run.positive, *others)
    exact = guider(run.exact(patcher), guided_by(run.positive, nag), *others)
    assert_close(custom_sample(run, patcher, guided), custom_sample(run, patcher, exact))


@every_family
@every_way
def test_basic_guider(nodes, family, way):
    run, patcher = Run(family), family.patcher()
    nag = nag_of(run)
    model, positive = way(nodes, patcher, run.positive, nag)
    guider = stock("BasicGuider", model=model, conditioning=positive)[0]
    assert_close(custom_sample(run, patcher, guider), run.oracle(patcher, guided_by(run.positive, nag)))


class Editing(comfy.samplers.CFGGuider):
    """As FlowEdit's: each of its conditionings under a name of its own."""

    def __init__(self, model, source, target):
        super().__init__(model)
        self.inner_set_conds({"source_positive": source, "target_positive": target})

    def predict_noise(self, x, timestep, model_options=None, seed=None):
        positive = self.conds[model_options["transformer_options"]["latent_type"] + "_positive"]
        return comfy.samplers.sampling_function(
            self.inner_model, x, timestep, None, positive, 1.0, model_options=model_options, seed=seed
        )


def edit(model, x, sigmas, extra_args, **_):
    """The source is asked for first, and each by itself."""
    model_options = extra_args["model_options"]
    model_options["transformer_options"] = options = {**model_options["transformer_options"]}
    for sigma, after in zip(sigmas, sigmas[1:]):
        found = []
        for options["latent_type"] in ("source", "target"):
            found.append(model(x, sigma * x.new_ones(len(x)), **extra_args))
        x = x + (found[1] - 0.5 * found[0] - x) * (1 - after / sigma)
    return x


@pytest.mark.parametrize("name", ["sdxl", "sd35_large"])
def test_a_guider_without_a_positive(nodes, name):
    """A model's NAG has nothing to guide there; a conditioning brings its own."""
    family = BY_NAME[name]
    run, patcher, nag = Run(family), family.patcher(), nag_of(Run(family))
    source, sampler = family.conditioning(12, 5), comfy.samplers.KSAMPLER(edit)
    edited = lambda model, target: custom_sample(run, patcher, Editing(model, source, target), sampler)
    guided = model_node(nodes, patcher, nag, nag_negative=nag.negative)
    with pytest.raises(ValueError, match="none of that name, but source_positive and target_positive. Put NAG Cond"):
        edited(guided, run.positive)
    expected = edited(run.exact(patcher), guided_by(run.positive, nag))
    for model in (patcher, guided):
        assert_close(edited(model, conditioning_node(nodes, run.positive, nag)), expected)


@every_picture
@every_order
def test_old_perp_neg(nodes, family, order):
    """A model patch, which asks the model for an answer to the empty prompt by itself: that is not guided."""
    run, patcher = Run(family, cfg=3.0), family.patcher()
    change = by_node("PerpNeg", empty_conditioning=family.conditioning(12, 3), neg_scale=0.8)
    nag = Nag(family.conditioning(11, 5))
    result = run.sample(*order(nodes, patcher, run.positive, nag, change))
    assert_close(result, run.sample(change(run.exact(patcher)), guided_by(run.positive, nag)))


@every_order
def test_scaled_positions(nodes, monkeypatch, order):
    """ScaleROPE moves the image's tokens, away from the text of both prompts."""
    family = BY_NAME["flux_schnell"]
    run, patcher = Run(family), family.patcher()
    scales, shifts = {"t": 1.0, "y": 1.5, "x": 2.0}, {"t": 0.0, "y": 3.0, "x": -1.0}
    widgets = {f"scale_{axis}": scales[axis] for axis in "xyt"} | {f"shift_{axis}": shifts[axis] for axis in "xyt"}
    nag = nag_of(run)
    result = run.sample(*order(nodes, patcher, run.positive, nag, by_node("ScaleROPE", **widgets)))
    of_image = flux.positions
    scaled = lambda *of: of_image(*of) * torch.tensor([*scales.values()]) + torch.tensor([*shifts.values()])
    monkeypatch.setattr(flux, "positions", scaled)
    assert_close(result, run.oracle(patcher, guided_by(run.positive, nag)))
