"""Nodes that decide over steps and frames, for families whose negative waits at the doors."""
import dataclasses
from inspect import signature

import pytest
import torch

from door_families import BY_NAME
from doors_others import exactly
from oracle.equation import Nag
from oracle.sampling import guided_by
from other_nodes import by_conditioning, by_node, model_first, model_last
from runs import Run, assert_close, difference
from stock import stock_class
from stored import patcher_of, weights_of

pytestmark = pytest.mark.usefixtures("inference_mode")
SHIFTS = {
    "z_image": ("ModelSamplingAuraFlow", {"shift": 9.0}),
    "lumina2": ("ModelSamplingAuraFlow", {"shift": 1.5}),
    "qwen_image": ("ModelSamplingAuraFlow", {"shift": 9.0}),
    "ltxv": ("ModelSamplingLTXV", {"max_shift": 4.0, "base_shift": 3.0}),
}


@pytest.mark.parametrize("name", SHIFTS)
def test_percents_follow_a_shift(nodes, name):
    family, (node_id, inputs) = BY_NAME[name], SHIFTS[name]
    run, nag = Run(family, steps=6), Nag(family.conditioning(11, 5), start_percent=0.3, end_percent=0.7)
    change = by_node(node_id, **inputs)
    shifted = patcher_of(family, weights_of(family), torch.float32)
    shifted.model.model_sampling = change(shifted).get_model_object("model_sampling")
    expected = run.sample(exactly(family, shifted), guided_by(run.positive, nag))
    unshifted = run.sample(exactly(family, family.patcher()), guided_by(run.positive, nag))
    assert difference(expected, unshifted) > 0.001
    model, positive = model_last(nodes, family.patcher(), run.positive, nag, change)
    assert_close(run.sample(model, positive), expected)


WINDOWS = {
    "context_length": 3, "context_overlap": 1, "context_schedule": "standard_static", "dim": 2, "context_stride": 1,
    "closed_loop": False, "fuse_method": "pyramid",
}  # fmt: skip
VIDEOS = {"ltxv": (128, 7, 4, 6), "cosmos_predict2": (16, 7, 6, 8), "kandinsky5_video": (16, 7, 6, 8)}


@pytest.mark.parametrize("name", VIDEOS)
@pytest.mark.parametrize("order", [model_first, model_last, by_conditioning])
def test_context_windows(nodes, name, order):
    family = dataclasses.replace(BY_NAME[name], latent=VIDEOS[name])
    run, nag = Run(family, cfg=3.0), Nag(family.conditioning(11, 5), end_percent=0.6)
    known = signature(stock_class("ContextWindowsManual").execute).parameters
    change = by_node("ContextWindowsManual", **WINDOWS, **({"freenoise": True} if "freenoise" in known else {}))
    patcher = family.patcher()
    expected = run.sample(exactly(family, patcher, change), guided_by(run.positive, nag))
    whole = run.sample(exactly(family, patcher), guided_by(run.positive, nag))
    assert difference(expected, whole) > 0.01, "there were no windows"
    model, positive = order(nodes, patcher, run.positive, nag, change)
    assert_close(run.sample(model, positive), expected)
