"""Nodes that patch a transformer or guide by it, before and after NAG Model, and under NAG Conditioning."""
import pytest
import torch
from comfy.patcher_extension import WrappersMP

from dit_others import DITS, attending, cooler, every_dit, exact_dit
from oracle.equation import Nag
from oracle.sampling import guided_by
from other_nodes import by_node, cooler_override, every_order, in_turn, overriding, patched_by
from runs import Run, assert_close, difference

pytestmark = pytest.mark.usefixtures("inference_mode")


def replaced(function, *blocks):
    return in_turn(*(patched_by("set_model_patch_replace", function, "dit", *block) for block in blocks))


def changing(args, extra):
    """Other inputs for the block, and another outcome."""
    grown = {name: args[name] * factor for name, factor in (("img", 1.1), ("txt", 0.9)) if name in args}
    out = extra["original_block"]({**args, **grown})
    return {**out, "img": out["img"] * 0.95}


def skipping(args, extra):
    return args


DOUBLE, SINGLE = [("double_block", 0), ("double_block", 1)], [("single_block", i) for i in range(3)]
PERCENTS = {"start_percent": 0.0, "end_percent": 0.7}
SKIPPED = {"scale": 2.0, "rescaling_scale": 0.4, **PERCENTS}
OTHERS = {
    "double blocks changed": replaced(changing, *DOUBLE),
    "first double block skipped": replaced(skipping, DOUBLE[0]),
    "last double block skipped": replaced(skipping, DOUBLE[1]),
    "SkipLayerGuidanceDiT": by_node(
        "SkipLayerGuidanceDiT", double_layers="1", single_layers="0, 2", **SKIPPED
    ),
    "SkipLayerGuidanceSD3": by_node("SkipLayerGuidanceSD3", layers="0", scale=2.0, **PERCENTS),
    "SkipLayerGuidanceDiTSimple": by_node(
        "SkipLayerGuidanceDiTSimple", double_layers="0", single_layers="1", **PERCENTS
    ),
    "CFGZeroStar": by_node("CFGZeroStar"),
}
ONLY_IN_SINGLE_BLOCKS = {
    "single blocks changed": replaced(changing, *SINGLE),
    "first single block skipped": replaced(skipping, SINGLE[0]),
    "middle single block skipped": replaced(skipping, SINGLE[1]),
    "last single block skipped": replaced(skipping, SINGLE[2]),
    "all single blocks skipped": replaced(skipping, *SINGLE),
}
CASES = [(*dit, change) for dit in DITS for change in OTHERS]
CASES += [(*dit, change) for dit in DITS if dit[0].name == "flux_dev" for change in ONLY_IN_SINGLE_BLOCKS]


@pytest.mark.parametrize(("family", "stream", "other"), CASES, ids=str)
@every_order
def test_model_patched_by_another_node(nodes, family, stream, other, order):
    change = {**OTHERS, **ONLY_IN_SINGLE_BLOCKS}[other]
    run, patcher = Run(family, cfg=3.0, steps=2), family.patcher()
    nag = Nag(family.conditioning(11, 5), image_stream=stream)
    model, positive = order(nodes, patcher, run.positive, nag, change)
    expected = run.sample(change(exact_dit(family, patcher)), guided_by(run.positive, nag))
    assert difference(expected, run.oracle(patcher, guided_by(run.positive, nag))) > 0.001, "the other node did nothing"
    assert_close(run.sample(model, positive), expected)


def overriding_late(patcher):
    """Inside of the model call, in the place of whatever override there is."""

    def wrapper(executor, *args, **kwargs):
        options = {"optimized_attention_override": cooler_override}
        *args, last = args
        if isinstance(last, dict):
            return executor(*args, {**last, **options}, **kwargs)
        return executor(*args, last, **{**kwargs, "transformer_options": {**kwargs["transformer_options"], **options}})

    patched = patcher.clone()
    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "another node", wrapper)
    return patched


@every_dit
@every_order
@pytest.mark.parametrize("change", [overriding, overriding_late])
def test_attention_of_another_node(nodes, family, stream, order, change):
    if change is overriding_late and family.name == "sd35_large":
        pytest.skip("SD3 has no DIFFUSION_MODEL wrappers")
    run, patcher = Run(family, cfg=3.0), family.patcher()
    nag = Nag(family.conditioning(11, 5), image_stream=stream)
    model, positive = order(nodes, patcher, run.positive, nag, change)
    expected = run.oracle(patcher, guided_by(run.positive, nag), forward=attending(family.forward, cooler))
    assert_close(run.sample(model, positive), expected)


def style_tokens(inputs):
    """As USO's style reference does: tokens in front of the text."""
    style = torch.randn(1, 3, inputs["txt"].shape[2], generator=torch.Generator().manual_seed(9))
    ids = torch.zeros(inputs["txt"].shape[0], 3, inputs["txt_ids"].shape[2])
    tokens = style.to(inputs["txt"]).expand(inputs["txt"].shape[0], -1, -1)
    added = {"txt": torch.cat((tokens, inputs["txt"]), 1), "txt_ids": torch.cat((ids, inputs["txt_ids"]), 1)}
    return {**inputs, **added}


def closing_tokens(inputs):
    """The other way round."""
    styled = style_tokens(inputs)
    n_style = styled["txt"].shape[1] - inputs["txt"].shape[1]
    return {**styled, **{name: styled[name].roll(-n_style, 1) for name in ("txt", "txt_ids")}}


@pytest.mark.parametrize(("family", "stream"), [dit for dit in DITS if dit[0].name == "flux_dev"], ids=str)
@every_order
@pytest.mark.parametrize("function", [style_tokens, closing_tokens])
def test_text_patched_by_another_node(nodes, family, stream, order, function):
    """What is added belongs to the positive."""
    change = patched_by("set_model_patch", function, "post_input")
    run, patcher = Run(family, cfg=3.0, steps=2), family.patcher()
    nag = Nag(family.conditioning(11, 5), image_stream=stream)
    model, positive = order(nodes, patcher, run.positive, nag, change)
    expected = run.sample(change(exact_dit(family, patcher)), guided_by(run.positive, nag))
    assert_close(run.sample(model, positive), expected)
