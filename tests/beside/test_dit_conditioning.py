"""Nodes that change a transformer's conditionings, before and after NAG Conditioning, and under NAG Model."""
import pytest
import torch

from dit_others import FoldingVAE, random, style
from families import BY_NAME, SIZE
from oracle.equation import Nag
from oracle.sampling import guided_by
from other_nodes import PLACES
from runs import Run, assert_close, difference
from stock import stock

pytestmark = pytest.mark.usefixtures("inference_mode")


def reference_latents(method=None):
    def change(conditioning):
        for shape in ((6, 4), (3, 10), (5, 7)):
            latent = {"samples": random(1, 16, *shape)}
            (conditioning,) = stock("ReferenceLatent", conditioning=conditioning, latent=latent)
        if method is not None:
            (conditioning,) = stock(
                "FluxKontextMultiReferenceLatentMethod", conditioning=conditioning, reference_latents_method=method
            )
        return conditioning

    return change


def of_picture(node_id, **inputs):
    """A node for both conditionings, of which either may be had by itself."""

    def change(conditioning):
        pixels = random(1, SIZE[0] * 8, SIZE[1] * 8, 3).sigmoid()
        given = {"positive": conditioning, "negative": conditioning, "vae": FoldingVAE(), "pixels": pixels, **inputs}
        return stock(node_id, **given)[0]

    return change


MASK = torch.zeros(1, SIZE[0] * 8, SIZE[1] * 8)
MASK[:, :24] = 1.0
OTHERS = {
    "ReferenceLatent": ("flux_dev", reference_latents()),
    **{f"ReferenceLatent, {way}": ("flux_dev", reference_latents(way)) for way in ("offset", "index", "uxo/uno")},
    "FluxGuidance": ("flux_dev", lambda given: stock("FluxGuidance", conditioning=given, guidance=2.0)[0]),
    "FluxDisableGuidance": ("flux_dev", lambda given: stock("FluxDisableGuidance", conditioning=given)[0]),
    "InpaintModelConditioning": ("flux_fill", of_picture("InpaintModelConditioning", mask=MASK, noise_mask=False)),
    "InstructPixToPixConditioning": ("flux_fill", of_picture("InstructPixToPixConditioning")),
    "StyleModelApply": ("flux_dev", style(0.8, "multiply")),
    "StyleModelApply with a bias": ("flux_dev", style(0.5, "attn_bias")),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("stream", ["shared", "separate"])
def test_conditioning_changed_by_another_node(nodes, other, place, stream):
    name, change = OTHERS[other]
    family = BY_NAME[name]
    run, patcher = Run(family, cfg=3.0), family.patcher()
    nag = Nag(family.conditioning(11, 5), image_stream=stream)
    expected = run.oracle(patcher, guided_by(change(run.positive), nag), change(run.negative))
    assert difference(expected, run.oracle(patcher, guided_by(run.positive, nag))) > 0.001, "the other node did nothing"
    model, positive = PLACES[place](nodes, patcher, run.positive, nag, change)
    assert_close(run.sample(model, positive, change(run.negative)), expected)
