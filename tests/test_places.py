"""Weights and masks of the negative's entries, by ComfyUI's own nodes, against the oracles."""

import pytest
import torch

from mechanisms import BY_NAME
from oracle.equation import Nag
from oracle.places import Places
from oracle.sampling import guided_by
from runs import Run, assert_close, difference
from stock import stock
from subject import options, out

pytestmark = pytest.mark.usefixtures("inference_mode")
# A family of each mechanism: how much of the latent a token shows, and whether other tokens come before the picture's.
ONE_MASK = {
    "sd15": None,
    "sdxl": None,
    "sd35_medium": (2, 2),
    "flux_dev": (2, 2),
    "flux_kontext": (2, 2),
    "wan21_t2v": (1, 2, 2),
    "wan21_vace": (1, 2, 2),
    "z_image": (2, 2),
    "qwen_image_edit": (1, 2, 2),
    "omnigen2_edit": (2, 2),
    "hunyuan_video": (1, 2, 2),
    "mochi": (1, 2, 2),
    "cosmos_predict2": (1, 2, 2),
    "cosmos1": (1, 2, 2),
    "ltxv": (1, 1, 1),
    "cogvideox_i2v": (2, 2, 2),
    "pixart_sigma": (2, 2),
    "stable_cascade": (1, 1),
    "ernie_image": (1, 1),
}
REFERENCES_FIRST = ("omnigen2_edit",)
NUMBERS = {"nag_scale": 4.0, "nag_tau": 1.3, "nag_alpha": 0.6}


def guided(nodes, patcher, negative, **more):
    more = {"options": options(nodes, Nag([])), **more}
    return out(nodes.NAGModel, patcher, nag_negative=negative, **NUMBERS, **more)


def weighed(conditioning, strength):
    return stock("ConditioningSetAreaStrength", conditioning=conditioning, strength=strength)[0]


def masked(conditioning, mask, strength=1.0, bounds=False):
    kind = "mask bounds" if bounds else "default"
    return stock("ConditioningSetMask", conditioning=conditioning, mask=mask, strength=strength, set_cond_area=kind)[0]


def combined(first, second):
    return stock("ConditioningCombine", conditioning_1=first, conditioning_2=second)[0]


def some_mask(sizes, rows=1, seed=5):
    """Of a picture's size, or a video's frames; zero in a corner."""
    mask = torch.rand(rows, *sizes, generator=torch.Generator().manual_seed(seed))
    mask[..., : sizes[-2] // 2, : sizes[-1] // 2] = 0
    return mask


def nags(negative, *masks, plain=(1.0,), patch=None, **more):
    return Nag(negative, places=Places(masks, patch, plain, **more))


@pytest.mark.parametrize("family", [BY_NAME[name] for name in ("sdxl", "flux_dev", "wan21_t2v", "pixart_sigma")], ids=str)
def test_one_weight_is_the_dial(nodes, family):
    run, patcher = Run(family, cfg=3.0, batch=2), family.patcher()
    negative = family.conditioning(11, 5)
    dial = run.sample(guided(nodes, patcher, negative, strength=0.6 * 0.4))
    assert torch.equal(run.sample(guided(nodes, patcher, weighed(negative, 0.4), strength=0.6)), dial)
    assert torch.equal(run.sample(guided(nodes, patcher, weighed(negative, 7.0))),
                       run.sample(guided(nodes, patcher, negative, strength=2.0)))
    assert torch.equal(run.sample(guided(nodes, patcher, weighed(negative, 0.0))), run.sample(patcher))
    both = combined(negative, family.conditioning(12, 3))
    assert torch.equal(run.sample(guided(nodes, patcher, weighed(both, 1.0))), run.sample(guided(nodes, patcher, both)))


@pytest.mark.parametrize("name", ONE_MASK)
def test_a_mask(nodes, name):
    family = BY_NAME[name]
    run, patcher, patch = Run(family, cfg=1.0, batch=2), family.patcher(), ONE_MASK[name]
    negative, sizes = family.conditioning(11, 5), family.latent[1:]
    mask = some_mask(sizes[-2:], rows=2 if len(sizes) == 2 else 1)
    places = mask.unsqueeze(1).expand(-1, *sizes) if len(sizes) > 2 else mask
    nag = nags(negative, 0.8 * places, plain=(0.8,), patch=patch, before=name in REFERENCES_FIRST, lengths=(5,))
    expected = run.sample(run.exact(patcher), guided_by(run.positive, nag))
    result = run.sample(guided(nodes, patcher, masked(negative, mask, 0.8)))
    assert_close(result, expected)
    whole, plain = run.sample(guided(nodes, patcher, negative)), run.sample(patcher)
    assert min(difference(result, whole), difference(result, plain)) > 1e-3


def test_masks_that_say_nothing(nodes):
    family = BY_NAME["flux_dev"]
    run, patcher = Run(family, batch=2), family.patcher()
    negative, ones = family.conditioning(11, 5), torch.ones(1, 30, 40)
    whole = run.sample(guided(nodes, patcher, negative))
    assert torch.equal(run.sample(guided(nodes, patcher, masked(negative, ones))), whole)
    for mask in (torch.zeros_like(ones), ones):
        nothing = masked(negative, mask, strength=0.0 if mask.any() else 1.0)
        assert torch.equal(run.sample(guided(nodes, patcher, nothing)), run.sample(patcher))


TWO = {"sdxl": None, "flux_dev": (2, 2), "wan21_t2v": (1, 2, 2)}


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize("weights", [(1.0, 0.4), (0.7, 0.0), (0.3, 1.6)], ids=str)
def test_two_weights(nodes, name, weights):
    """Each counts by its share of the largest, which is the strength."""
    family = BY_NAME[name]
    run, patcher = Run(family, batch=2), family.patcher()
    both = family.conditioning(11, 5), family.conditioning(12, 3)
    whole = torch.ones(1, *family.latent[1:])
    nag = nags(both[0] + both[1], *(whole * w for w in weights), plain=weights, patch=TWO[name], lengths=(5, 3))
    expected = run.sample(run.exact(patcher), guided_by(run.positive, nag))
    negative = combined(*(weighed(each, w) for each, w in zip(both, weights)))
    assert_close(run.sample(guided(nodes, patcher, negative)), expected)


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize("rows", [1, 2])
def test_two_masks(nodes, name, rows):
    """Of which one may be 0 where the other is not, and both where NAG does not act."""
    family = BY_NAME[name]
    run, patcher = Run(family, batch=2), family.patcher()
    both, sizes = (family.conditioning(11, 5), family.conditioning(12, 3)), family.latent[1:]
    rows = rows if len(sizes) == 2 else 1
    masks = [some_mask(sizes[-2:], rows, seed) for seed in (5, 6)]
    masks[1][..., -1] = 0
    places = [mask.unsqueeze(1).expand(-1, *sizes) if len(sizes) > 2 else mask for mask in masks]
    places = places[0], 0.5 * places[1]
    nag = nags(both[0] + both[1], *places, plain=(1.0, 0.5), patch=TWO[name], lengths=(5, 3))
    expected = run.sample(run.exact(patcher), guided_by(run.positive, nag))
    negative = combined(masked(both[0], masks[0]), masked(both[1], masks[1], 0.5))
    assert_close(run.sample(guided(nodes, patcher, negative)), expected)
