"""Another NAG on the same model: it is said where one of the two would do nothing, or work on what is not its own."""
import types

import pytest

from dit_others import own_patcher
from families import BY_NAME
from oracle.equation import Nag
from oracle.sampling import guided_by
from other_nodes import by_node, every_order
from runs import Run, assert_close, difference

pytestmark = pytest.mark.usefixtures("inference_mode")


def comfyuis(**widgets):
    widgets = {"nag_scale": 5.0, "nag_alpha": 0.5, "nag_tau": 1.5, **widgets}
    return by_node("NAGuidance", **widgets)


@every_order
@pytest.mark.parametrize("family", [BY_NAME[name] for name in ("flux_schnell", "sd35_large", "wan21_t2v")], ids=str)
def test_comfyuis_own_on_a_transformer(nodes, family, order):
    """It needs positive and negative in one model call, and is silent where it does not get them."""
    run, patcher = Run(family), family.patcher()
    with pytest.raises(ValueError, match="ComfyUI's own.*Normalized Attention Guidance.*Take one"):  # in front, at once
        model, positive = order(nodes, patcher, run.positive, Nag(family.conditioning(11, 5)), comfyuis())
        run.sample(model, positive)


@every_order
def test_comfyuis_own_on_a_unet(nodes, order):
    """There it guides self-attention, and ours guides cross-attention: with one of the two off, the other is left."""
    family = BY_NAME["sdxl"]
    run, patcher = Run(family, cfg=3.0, negative_tokens=6), family.patcher()
    nag = Nag(family.conditioning(11, 5))
    with_both = lambda nag, change: run.sample(*order(nodes, patcher, run.positive, nag, change))
    theirs_off = with_both(nag, comfyuis(nag_alpha=0.0))
    assert_close(theirs_off, run.oracle(patcher, guided_by(run.positive, nag)))
    ours_off = with_both(Nag(run.positive), comfyuis())  # a negative that is the positive moves nothing
    assert_close(ours_off, run.sample(comfyuis()(patcher)))
    assert min(difference(with_both(nag, comfyuis()), other) for other in (theirs_off, ours_off)) > 0.05


def with_a_forward_of_its_own(model):
    """As the WanVideoNAG of another pack does it: in the cross-attention's place, and by the model's object patches."""

    def forward(module, x, context, transformer_options=None, **_):
        return type(module).forward(module, x, context, transformer_options=transformer_options or {})

    model = model.clone()
    for name, module in model.model.named_modules():
        if name.endswith(".cross_attn"):
            model.add_object_patch(f"{name}.forward", types.MethodType(forward, module))
    return model


@every_order
def test_replaced_cross_attention(nodes, order):
    family = BY_NAME["wan21_t2v"]
    patcher = own_patcher(family)  # a new one: ComfyUI leaves a forward on the modules
    run, nag = Run(family), Nag(family.conditioning(11, 5))
    model, positive = order(nodes, patcher, run.positive, nag, with_a_forward_of_its_own)
    with pytest.raises(ValueError, match="Another node has put its own.*in the place of.*cross_attn.*Take"):
        run.sample(model, positive)
    guided = run.sample(*order(nodes, patcher, run.positive, nag))
    assert_close(guided, run.oracle(patcher, guided_by(run.positive, nag)))  # by forward() as ComfyUI has put it back
