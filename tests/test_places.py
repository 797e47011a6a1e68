"""Weights and masks of the negative's entries, by ComfyUI's own nodes."""
import pytest
import torch

from mechanisms import BY_NAME
from oracle.equation import Nag
from runs import Run, assert_close, difference
from stock import stock
from subject import model_node, out

pytestmark = pytest.mark.usefixtures("inference_mode")
EVERY = [BY_NAME[n] for n in ("sdxl", "sd35_medium", "flux_dev", "wan21_t2v", "z_image", "qwen_image", "hidream_without_experts", "mochi", "cosmos_predict2", "pixart_sigma", "ernie_image", "stable_cascade", "cosmos1")]


@pytest.mark.parametrize("family", EVERY, ids=str)
def test_one_weight_is_the_dial(nodes, family):
    run, patcher = Run(family, cfg=3.0, batch=2), family.patcher()
    nag = family.conditioning(11, 5)
    (weighed,) = stock("ConditioningSetAreaStrength", conditioning=nag, strength=0.4)
    dial = run.sample(out(nodes.NAGModel, patcher, nag_scale=4.0, nag_tau=1.3, nag_alpha=0.6, nag_negative=nag, strength=0.4))
    assert torch.equal(run.sample(out(nodes.NAGModel, patcher, nag_scale=4.0, nag_tau=1.3, nag_alpha=0.6, nag_negative=weighed)), dial)


@pytest.mark.parametrize("family", EVERY, ids=str)
def test_mask(nodes, family):
    run, patcher = Run(family, cfg=3.0, batch=2), family.patcher()
    nag = family.conditioning(11, 5)
    sizes = family.latent[-2:]
    mask = torch.zeros(1, *sizes)
    mask[..., : sizes[1] // 2] = 1
    masked = lambda m: stock("ConditioningSetMask", conditioning=nag, mask=m, strength=1.0, set_cond_area="default")[0]
    guided = lambda negative: run.sample(out(nodes.NAGModel, patcher, nag_scale=4.0, nag_tau=1.3, nag_alpha=0.6, nag_negative=negative))
    whole, plain = guided(nag), run.sample(patcher)
    assert torch.equal(guided(masked(torch.ones_like(mask))), whole)
    assert torch.equal(guided(masked(torch.zeros_like(mask))), plain)
    half = guided(masked(mask))
    assert difference(half, whole) > 1e-3 and difference(half, plain) > 1e-3
    nearly = guided(masked(torch.ones_like(mask) - 1e-5 * mask))
    assert_close(nearly, whole, 1e-4)
