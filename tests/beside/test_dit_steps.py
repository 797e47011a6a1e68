"""Nodes that decide over steps and frames: shifts of the schedule, a model for each half, context windows."""
import dataclasses
from inspect import signature

import pytest

from dit_others import other_weights, own_patcher
from families import BY_NAME
from oracle.equation import Nag
from oracle.sampling import exact_model, guided_by
from other_nodes import by_node, every_order
from runs import Run, assert_close, difference
from stock import stock, stock_class
from subject import conditioning_node, model_node

pytestmark = pytest.mark.usefixtures("inference_mode")
WAN = BY_NAME["wan21_t2v"]
SHIFTS = {
    "ModelSamplingFlux": ("flux_dev", {"max_shift": 2.5, "base_shift": 2.0, "width": 1024, "height": 1024}),
    "ModelSamplingSD3": ("sd35_large", {"shift": 9.0}),
    "ModelSamplingSD3, Wan": ("wan21_t2v", {"shift": 1.5}),
    "ModelSamplingAuraFlow": ("flux_dev", {"shift": 9.0}),
}


def guided_steps(sigmas, sampling, nag):
    low, high = (sampling.percent_to_sigma(percent) for percent in (nag.end_percent, nag.start_percent))
    return [low <= sigma <= high for sigma in sigmas[:-1].tolist()]


@pytest.mark.parametrize("shift", SHIFTS)
@every_order
def test_percents_follow_a_shift(nodes, shift, order):
    name, inputs = SHIFTS[shift]
    family = BY_NAME[name]
    run, nag = Run(family, steps=6), Nag(family.conditioning(11, 5), start_percent=0.3, end_percent=0.7)

    change = by_node(shift.split(",")[0], **inputs)
    shifted = own_patcher(family)
    unshifted = shifted.model.model_sampling
    shifted.model.model_sampling = change(shifted).get_model_object("model_sampling")
    sigmas = run.sigmas(shifted)
    guided = guided_steps(sigmas, shifted.model.model_sampling, nag)
    assert any(guided) and guided != guided_steps(sigmas, unshifted, nag)
    expected = run.oracle(shifted, guided_by(run.positive, nag))
    model, positive = order(nodes, own_patcher(family), run.positive, nag, change)
    assert_close(run.sample(model, positive), expected)


@pytest.mark.parametrize("percents", [(0.0, 1.0), (0.0, 0.8), (0.6, 1.0)], ids=str)
@pytest.mark.parametrize("by_conditioning", [True, False], ids=["one NAG Conditioning", "NAG Model on each"])
def test_a_model_for_high_noise_and_one_for_low(nodes, percents, by_conditioning):
    """As with Wan 2.2: two samplers, each with half of the steps."""
    run = Run(WAN, cfg=3.0, steps=4)
    nag = Nag(WAN.conditioning(11, 5), start_percent=percents[0], end_percent=percents[1])
    models = own_patcher(WAN), own_patcher(WAN, other_weights)
    expected = in_two_halves(run, [exact_model(WAN.forward, model) for model in models], guided_by(run.positive, nag))
    assert difference(expected, in_two_halves(run, models, run.positive)) > 0.01
    if by_conditioning:
        result = in_two_halves(run, models, conditioning_node(nodes, run.positive, nag))
    else:
        guided = [model_node(nodes, model, nag, nag_negative=nag.negative) for model in models]
        result = in_two_halves(run, guided, run.positive)
    assert_close(result, expected)


def in_two_halves(run, models, positive):
    latent, half = {"samples": run.latent()}, run.steps // 2
    for i, model in enumerate(models):
        (latent,) = stock(
            "KSamplerAdvanced", model=model, add_noise="disable" if i else "enable", noise_seed=run.seed,
            steps=run.steps, cfg=run.cfg, sampler_name="euler", scheduler="simple", positive=positive,
            negative=run.negative, latent_image=latent, start_at_step=i * half, end_at_step=(i + 1) * half,
            return_with_leftover_noise="disable" if i else "enable",
        )  # fmt: skip
    return latent["samples"]


WINDOWS = {"context_stride": 1, "closed_loop": False, "fuse_method": "pyramid"}
CONTEXTS = {
    "WanContextWindowsManual": {"context_length": 13, "context_overlap": 5, "context_schedule": "standard_static"},
    "WanContextWindowsManual, looped": {
        "context_length": 13, "context_overlap": 5, "context_schedule": "looped_uniform"
    },
    "ContextWindowsManual": {"context_length": 3, "context_overlap": 1, "context_schedule": "batched", "dim": 2},
}  # fmt: skip


@pytest.mark.parametrize("context", CONTEXTS)
@every_order
def test_context_windows(nodes, context, order):
    family = dataclasses.replace(WAN, latent=(16, 7, 4, 6))
    run, nag = Run(family, cfg=3.0), Nag(family.conditioning(11, 5), end_percent=0.6)

    node_id = context.split(",")[0]
    shuffled = {"freenoise": True} if "freenoise" in signature(stock_class(node_id).execute).parameters else {}
    change = by_node(node_id, **WINDOWS, **CONTEXTS[context], **shuffled)
    patcher = own_patcher(family)
    expected = run.sample(change(exact_model(family.forward, patcher)), guided_by(run.positive, nag))
    assert difference(expected, run.oracle(patcher, guided_by(run.positive, nag))) > 0.01, "there were no windows"
    model, positive = order(nodes, patcher, run.positive, nag, change)
    assert_close(run.sample(model, positive), expected)
