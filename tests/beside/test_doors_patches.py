"""Nodes that patch a model whose negative waits at the doors, before and after NAG Model, and under NAG Conditioning."""
import pytest
from comfy.patcher_extension import WrappersMP

from door_families import BY_NAME
from doors_others import every_mechanism, exactly
from oracle.equation import Nag
from oracle.sampling import guided_by
from other_nodes import by_node, cooler_override, every_order, in_turn, overriding, patched_by
from runs import Run, assert_close, difference

pytestmark = pytest.mark.usefixtures("inference_mode")


def brighter(given):
    """A patch that changes the image, in place as ControlNets do."""
    given["img"] *= 1.05
    return given


def changing(given, further):
    """A block's replacement: another image for it, and another outcome."""
    out = further["original_block"]({**given, "img": scaled(given["img"], 1.1)})
    return {**out, "img": scaled(out["img"], 0.95)}


def scaled(image, factor):
    """LTX-2's blocks have picture and sound."""
    return tuple(part * factor for part in image) if isinstance(image, tuple) else image * factor


def skipping(given, further):
    return given


def replaced(function, *blocks):
    return in_turn(*(patched_by("set_model_patch_replace", function, "dit", *block) for block in blocks))


BOTH = [(kind, i) for kind in ("double_block", "single_block") for i in range(3)]
OTHERS = {
    "post_input": patched_by("set_model_patch", brighter, "post_input"),
    "noise_refiner": patched_by("set_model_patch", brighter, "noise_refiner"),
    "double_block": patched_by("set_model_patch", brighter, "double_block"),
    "blocks changed": replaced(changing, *BOTH),
    "first block skipped": replaced(skipping, ("double_block", 0)),
    "last double block skipped": replaced(skipping, ("double_block", 1)),
    "first single block skipped": replaced(skipping, ("single_block", 0)),
    "last single block skipped": replaced(skipping, ("single_block", 1)),
    "double blocks skipped": replaced(skipping, *(("double_block", i) for i in range(3))),
    "single blocks skipped": replaced(skipping, *(("single_block", i) for i in range(3))),
    "SkipLayerGuidanceDiT": by_node(
        "SkipLayerGuidanceDiT", double_layers="1", single_layers="0", scale=2.0, start_percent=0.0, end_percent=0.7,
        rescaling_scale=0.4,
    ),
}  # fmt: skip


def check(nodes, family, order, change):
    """NAG beside another node against the oracle beside it; the test is skipped where that node does nothing."""
    run, patcher = Run(family, cfg=3.0, batch=2, steps=2), family.patcher()
    nag = Nag(family.conditioning(11, 5))
    expected = run.sample(exactly(family, patcher, change), guided_by(run.positive, nag))
    if difference(expected, run.sample(exactly(family, patcher), guided_by(run.positive, nag))) < 1e-3:
        pytest.skip("this model has no such place, or this ComfyUI lets no other node there")
    model, positive = order(nodes, patcher, run.positive, nag, change)
    assert_close(run.sample(model, positive), expected)


@pytest.mark.parametrize("other", OTHERS)
@every_mechanism
@every_order
def test_model_patched_by_another_node(nodes, family, other, order):
    try:
        check(nodes, family, order, OTHERS[other])
    except RuntimeError as error:
        # Without a block with text, there is nothing to guide.
        assert other in ("double blocks skipped",) and "no attention was guided" in str(error)


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


def cooler_query(q, k, v, **given):
    """One that changes all queries, where the image's are apart from the text."""
    return {"q": q * 0.7}


IN_ATTENTION = {
    "attn1_patch": ("joint", patched_by("set_model_attn1_patch", cooler_image)),
    "attn1_output_patch": ("joint", patched_by("set_model_attn1_output_patch", weaker_image)),
    "attn2_patch": ("cross", patched_by("set_model_attn2_patch", cooler_query)),
}


@pytest.mark.parametrize("other", IN_ATTENTION)
@every_mechanism
@every_order
def test_attention_patched_by_another_node(nodes, family, other, order):
    where, change = IN_ATTENTION[other]
    if family.tokens.cross != (where == "cross"):
        pytest.skip("for other mechanisms")
    check(nodes, family, order, change)


def overriding_late(patcher):
    """Inside of the model call, in the place of whatever override there is."""

    def wrapper(executor, *args, **kwargs):
        put = lambda value: {**value, "optimized_attention_override": cooler_override} if _is_options(value) else value
        return executor(*map(put, args), **{name: put(value) for name, value in kwargs.items()})

    patched = patcher.clone()
    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "another node", wrapper)
    return patched


def _is_options(value):
    return isinstance(value, dict) and "sigmas" in value


@every_mechanism
@every_order
@pytest.mark.parametrize("change", [overriding, overriding_late])
def test_attention_of_another_node(nodes, family, order, change):
    check(nodes, family, order, change)
