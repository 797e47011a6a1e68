"""Nodes that patch a model whose negative waits at the doors, before and after NAG Model and NAG Conditioning."""
import dataclasses

import pytest
import torch
from comfy.patcher_extension import WrappersMP

from door_families import BY_NAME
from doors_others import CROSS, JOINT, ONE_BEHIND_TWO, TWO_STREAMS, exactly
from oracle.equation import Nag
from oracle.lockstep import OVERRIDE
from oracle.sampling import guided_by
from other_nodes import (
    by_conditioning,
    by_node,
    in_turn,
    model_first,
    model_last,
    patched_by,
)
from runs import Run, assert_close, difference

pytestmark = pytest.mark.usefixtures("inference_mode")
N_IMAGE = 24  # tokens, in those that join it to the text
REPLACEABLE = [*ONE_BEHIND_TWO, *TWO_STREAMS, "ltxv", "ltx2"]  # blocks


def brighter(given):
    """A patch that changes the image, in place as ControlNets do."""
    given["img"] *= 1.05
    return given


def changing(given, further):
    """A block's replacement: another image for it, and another outcome."""
    out = further["original_block"]({**given, "img": scaled(given["img"], 1.1)})
    return {**out, "img": scaled(out["img"], 0.95)}


def scaled(image, factor):
    """Of picture and sound, as LTX-2's blocks have them; of the end of a sequence, where the text comes first."""
    if isinstance(image, tuple):
        return tuple(part * factor for part in image)
    n_text = max(image.shape[1] - N_IMAGE, 0)
    return torch.cat((image[:, :n_text], image[:, n_text:] * factor), 1)


def skipping(given, further):
    return given


def replaced(function, *blocks):
    return in_turn(*(patched_by("set_model_patch_replace", function, "dit", *block) for block in blocks))


DOUBLE, SINGLE = ([(kind, i) for i in range(3)] for kind in ("double_block", "single_block"))
SKIPPED = {"scale": 2.0, "start_percent": 0.0, "end_percent": 0.7, "rescaling_scale": 0.4}
OTHERS = {  # what another node does, and in which families
    "post_input": (patched_by("set_model_patch", brighter, "post_input"), ["krea2", "flux2_klein", "qwen_image"]),
    "noise_refiner": (patched_by("set_model_patch", brighter, "noise_refiner"), ["z_image"]),
    "double_block": (patched_by("set_model_patch", brighter, "double_block"), ["z_image", "qwen_image"]),
    "blocks changed": (replaced(changing, *DOUBLE, *SINGLE), REPLACEABLE),
    "first block skipped": (replaced(skipping, DOUBLE[0]), REPLACEABLE),
    "last double block skipped": (replaced(skipping, DOUBLE[1]), ONE_BEHIND_TWO),
    "first single block skipped": (replaced(skipping, SINGLE[0]), ONE_BEHIND_TWO),
    "last single block skipped": (replaced(skipping, SINGLE[1]), ONE_BEHIND_TWO),
    "double blocks skipped": (replaced(skipping, *DOUBLE), ONE_BEHIND_TWO),
    "single blocks skipped": (replaced(skipping, *SINGLE), ONE_BEHIND_TWO),
    "ScaleROPE": (
        by_node("ScaleROPE", scale_x=1.5, shift_x=3.0, scale_y=0.7, shift_y=2.0, scale_t=1.3, shift_t=4.0),
        ["lumina2", "z_image", "flux2_klein"],
    ),
    "LTXVSpatioTemporalGuidance": (
        by_node("LTXVSpatioTemporalGuidance", scale=1.5, blocks="1", start_percent=0.0, end_percent=0.7),
        ["ltxv", "ltx2"],
    ),
    "LTXVModalityGuidance": (
        by_node("LTXVModalityGuidance", modality_scale=3.0, start_percent=0.0, end_percent=0.7), ["ltx2"]
    ),
    "SkipLayerGuidanceDiT": (
        by_node("SkipLayerGuidanceDiT", double_layers="1", single_layers="0", **SKIPPED), REPLACEABLE
    ),
}  # fmt: skip
CASES = [(name, other) for other, (_, names) in OTHERS.items() for name in names]


def check(nodes, name, order, change, of_oracle=None):
    """NAG beside another node against the oracle beside it; the test is skipped where that node does nothing."""
    family = BY_NAME[name]
    run, patcher = Run(family, cfg=3.0, batch=2, steps=2), family.patcher()
    nag = Nag(family.conditioning(11, 5))
    expected = run.sample(exactly(family, patcher, of_oracle or change), guided_by(run.positive, nag))
    if difference(expected, run.sample(exactly(family, patcher), guided_by(run.positive, nag))) < 1e-3:
        pytest.skip("this ComfyUI lets no other node there")
    model, positive = order(nodes, patcher, run.positive, nag, change)
    assert_close(run.sample(model, positive), expected)


@pytest.mark.parametrize(("name", "other"), CASES)
def test_model_patched_by_another_node(nodes, name, other):
    check(nodes, name, model_last, OTHERS[other][0])


@pytest.mark.parametrize("name", REPLACEABLE)
@pytest.mark.parametrize("order", [model_first, by_conditioning])
def test_order_of_the_nodes(nodes, name, order):
    check(nodes, name, order, OTHERS["blocks changed"][0])


def image_of(options):
    """Where a patch of attention is told that the image lies."""
    return slice(*options["img_slice"])


def cooler_image(q, k, v, extra_options, **given):
    """A patch of attention that changes what the image asks for, which it finds by `img_slice`."""
    if "img_slice" in extra_options:
        q = q.clone()
        q[:, :, image_of(extra_options)] *= 0.7
    return {"q": q}


def weaker_image(out, extra_options):
    if "img_slice" in extra_options:
        out = out.clone()
        out[:, image_of(extra_options)] *= 0.8
    return out


def other_query(q, k, v, **given):
    """One that changes all queries, where the image's are apart from the text; a norm would undo a factor."""
    return {"q": q.roll(1, -1)}


IN_ATTENTION = {
    "attn1_patch": (patched_by("set_model_attn1_patch", cooler_image), [*REPLACEABLE[:3], "krea2"]),
    "attn1_output_patch": (patched_by("set_model_attn1_output_patch", weaker_image), [*ONE_BEHIND_TWO, "krea2"]),
    "attn2_patch": (patched_by("set_model_attn2_patch", other_query), ["cosmos_predict2"]),
}


@pytest.mark.parametrize(
    ("name", "other"), [(name, other) for other, (_, names) in IN_ATTENTION.items() for name in names]
)
def test_attention_patched_by_another_node(nodes, name, other):
    check(nodes, name, model_last, IN_ATTENTION[other][0])


def cooler_blocks(func, q, *args, **kwargs):
    """Not where a text attends to itself: the negative's is made by the model alone, without other nodes."""
    return func(q * 0.7 if max(q.shape[1], q.shape[-2]) >= N_IMAGE else q, *args, **kwargs)


def overriding(patcher):
    """Where other nodes put an attention of their own."""
    patched = patcher.clone()
    patched.model_options["transformer_options"][OVERRIDE] = cooler_blocks
    return patched


def overriding_late(patcher):
    """Inside of the model call, in the place of whatever override there is."""

    def wrapper(executor, *args, **kwargs):
        put = lambda value: {**value, OVERRIDE: cooler_blocks} if _is_options(value) else value
        return executor(*map(put, args), **{name: put(value) for name, value in kwargs.items()})

    patched = patcher.clone()
    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "another node", wrapper)
    return patched


def _is_options(value):
    return isinstance(value, dict) and "sigmas" in value


@pytest.mark.parametrize("name", [*JOINT, *CROSS])
@pytest.mark.parametrize("change", [overriding, overriding_late])
def test_attention_of_another_node(nodes, name, change):
    check(nodes, name, model_last, change, overriding)


def style_tokens(given):
    """As USO's style reference does: tokens in front of the text, but of the positive's alone, for the oracle."""
    text = given["txt"]
    if text.shape[1] != N_POSITIVE:
        return given
    style = torch.randn(1, N_STYLE, text.shape[2], generator=torch.Generator().manual_seed(9))
    added = {"txt": style.expand(text.shape[0], -1, -1), "txt_ids": torch.zeros_like(given["txt_ids"][:, :N_STYLE])}
    return {**given, **{name: torch.cat((more, given[name]), 1) for name, more in added.items()}}


N_POSITIVE, N_STYLE = 6, 3


@pytest.mark.parametrize("name", ["qwen_image", "longcat", "ovis"])
def test_text_patched_by_another_node(nodes, name):
    """What is added belongs to the positive."""
    family = BY_NAME[name]
    tokens = dataclasses.replace(family.tokens, of_text=lambda n: n + N_STYLE if n == N_POSITIVE else n)
    run, patcher = Run(family, positive_tokens=N_POSITIVE), family.patcher()
    nag, change = Nag(family.conditioning(11, 9)), patched_by("set_model_patch", style_tokens, "post_input")
    plain = run.sample(exactly(family, patcher), guided_by(run.positive, nag))
    if torch.equal(run.sample(change(patcher)), run.sample(patcher)):
        pytest.skip("this ComfyUI lets no other node there")
    expected = run.sample(
        exactly(dataclasses.replace(family, tokens=tokens), change(patcher)), guided_by(run.positive, nag)
    )
    assert difference(expected, plain) > 0.001
    model, positive = model_last(nodes, patcher, run.positive, nag, change)
    assert_close(run.sample(model, positive), expected)
