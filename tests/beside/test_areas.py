"""Conditionings that ComfyUI's nodes cut up, join, weigh and repeat, each with its own NAG or with the model's.

Each run is compared with the same run of ComfyUI's in which the oracle answers in the model's place.
"""
from functools import partial

import comfy.sampler_helpers
import comfy.samplers
import pytest
import torch

from families import BY_NAME
from oracle.equation import Nag
from oracle.places import Places
from oracle.sampling import guided_by, window_of
from other_nodes import by_node, every_way, in_turn, unchanged
from runs import Run, assert_close, custom_sample, difference
from stock import stock
from subject import conditioning_node, model_node, out, strength

pytestmark = pytest.mark.usefixtures("inference_mode")

UNET, DIT, VIDEO = (BY_NAME[name] for name in ("sdxl", "flux_schnell", "wan21_t2v"))
every_picture = pytest.mark.parametrize("family", [UNET, DIT], ids=str)
every_family = pytest.mark.parametrize("family", [UNET, DIT, VIDEO], ids=str)
changed_by = partial(by_node, of="conditioning")


def in_mask(kind, left, strength=1.0):
    """The left or the right part of the picture; the two meet at a third of its width."""
    mask = torch.zeros(1, 48, 72)
    mask[..., :24] = 1.0
    return changed_by("ConditioningSetMask", mask=mask if left else 1 - mask, strength=strength, set_cond_area=kind)


def steps(start, end):
    return changed_by("ConditioningSetTimestepRange", start=start, end=end)


def area(width, height, x, y, strength=1.0):
    return changed_by("ConditioningSetArea", width=width, height=height, x=x, y=y, strength=strength)


def share(width, height, x, y, strength=1.0):
    return changed_by("ConditioningSetAreaPercentage", width=width, height=height, x=x, y=y, strength=strength)


# What is done to each of the positives before they are combined.
REGIONS = {
    "areas of unequal size": (area(64, 64, 0, 0), area(32, 32, 0, 16, 1.3), unchanged),
    "areas of equal size": (area(32, 32, 0, 0), area(32, 32, 32, 16)),
    "percentages": (share(1.0, 1.0, 0.0, 0.0), share(0.5, 0.7, 0.25, 0.3, 0.8)),
    "masks": (in_mask("default", True), in_mask("default", False, 0.7)),
    "masks, by their bounds": (in_mask("mask bounds", True), in_mask("mask bounds", False, 0.7)),
    "strengths": (changed_by("ConditioningSetAreaStrength", strength=0.6), unchanged),
    "steps": (steps(0.0, 0.5), steps(0.5, 1.0)),
    "an area in some steps": (unchanged, in_turn(area(32, 32, 16, 0), steps(0.3, 1.0))),
}


def combined(conditionings):
    first, *others = conditionings
    for other in others:
        (first,) = stock("ConditioningCombine", conditioning_1=first, conditioning_2=other)
    return first


def prompts(family, count):
    return [family.conditioning(21 + i, 6 + 2 * (i == 1)) for i in range(count)]


def nags(family, count):
    """One for each but the first; of unequal lengths and strengths."""
    given = [Nag(family.conditioning(31 + i, 3 + i), scale=2.5 + i) for i in range(count - 1)]
    return [None, *given]


def guided(guide, positive, nag):
    return positive if nag is None else guide(positive, nag)


@every_picture
@pytest.mark.parametrize("nag_first", [True, False], ids=["NAG, then the region", "the region, then NAG"])
@pytest.mark.parametrize("name", REGIONS)
def test_regions_with_a_nag_each(nodes, family, name, nag_first):
    run, patcher, regions = Run(family, cfg=3.0, steps=4, batch=2), family.patcher(), REGIONS[name]
    ours, exact = [], []
    for positive, nag, region in zip(prompts(family, 3), nags(family, len(regions)), regions):
        guide = lambda *given: conditioning_node(nodes, *given)
        exact.append(guided(guided_by, region(positive), nag))
        ours.append(region(guided(guide, positive, nag)) if nag_first else guided(guide, region(positive), nag))
    expected = run.sample(run.exact(patcher), combined(exact))
    assert_close(run.sample(patcher, combined(ours)), expected)


@every_picture
@pytest.mark.parametrize("by", ["model", "guider"])
@pytest.mark.parametrize("name", REGIONS)
def test_regions_with_one_nag(nodes, family, name, by):
    run, patcher = Run(family, cfg=3.0, steps=4, batch=2), family.patcher()
    positive = combined([region(prompt) for region, prompt in zip(REGIONS[name], prompts(family, 3))])
    nag = Nag(run.negative)
    expected = run.sample(run.exact(patcher), guided_by(positive, nag))
    if by == "model":
        result = run.sample(model_node(nodes, patcher, nag), positive)
    else:
        given = (patcher, positive, run.negative, nag.negative, run.cfg, *strength(nag).values(), 0.0)
        result = custom_sample(run, patcher, out(nodes.NAGCFGGuider, *given))
    assert_close(result, expected)


def test_texts_of_unequal_length_in_an_area(nodes):
    """ComfyUI makes of the positive's entry one of the negative for its area, which must not batch with it by vsf."""
    run, patcher = Run(UNET, cfg=3.0, steps=2, positive_tokens=4, negative_tokens=6), UNET.patcher()
    positive, nag = area(32, 32, 16, 0)(run.positive), Nag(UNET.conditioning(11, 4), scale=1.4, equation="vsf")
    expected = run.sample(run.exact(patcher), guided_by(positive, nag))
    assert_close(run.sample(patcher, conditioning_node(nodes, positive, nag)), expected)


@every_picture
@pytest.mark.parametrize("name", REGIONS)
def test_negative_in_regions(nodes, family, name):
    """Its parts act together, each as strong as ComfyUI has it in each place, and in their steps."""
    run, patcher = Run(family, cfg=3.0, steps=4), family.patcher()
    negative = combined([region(prompt) for region, prompt in zip(REGIONS[name], prompts(family, 3))])
    nag = Nag(negative, places=places_of(negative, family))
    expected = run.sample(run.exact(patcher), guided_by(run.positive, nag), negative)
    assert_close(run.sample(model_node(nodes, patcher, nag), negative=negative), expected)


def places_of(negative, family):
    """By the multipliers that ComfyUI has for these conditionings."""
    entries, x = comfy.sampler_helpers.convert_cond(negative), torch.ones(1, 1, *family.latent[1:])
    comfy.samplers.resolve_areas_and_cond_masks_multidim(entries, x.shape[2:], x.device)
    masks, weights = [], []
    for entry in entries:
        entry = {name: value for name, value in entry.items() if "percent" not in name}
        part, mask = comfy.samplers.get_area_and_mult({**entry, "model_conds": {}}, x, None), torch.zeros_like(x)
        mask[(slice(None), slice(None), *window_of(part.area))] = part.mult
        masks.append(mask[:, 0])
        weights.append(entry.get("strength", 1.0) * entry.get("mask_strength", 1.0))
    return Places(tuple(masks), None if family is UNET else (2, 2), tuple(weights))


@every_picture
def test_default_conditioning(nodes, family):
    """It fills what the masks of the others leave."""
    run, patcher = Run(family, cfg=3.0), family.patcher()
    part, rest = prompts(family, 2)

    def joined(guide):
        left = in_mask("default", True)(guide(part, Nag(family.conditioning(31, 5))))
        default = guide(rest, Nag(family.conditioning(32, 4), scale=2.5))
        return stock("ConditioningSetDefaultCombine", cond=left, cond_DEFAULT=default)[0]

    expected = run.sample(run.exact(patcher), joined(guided_by))
    assert_close(run.sample(patcher, joined(lambda *given: conditioning_node(nodes, *given))), expected)


@pytest.mark.parametrize("nag_first", [True, False], ids=["NAG, then the region", "the region, then NAG"])
def test_areas_of_a_video(nodes, nag_first):
    run, patcher = Run(VIDEO, cfg=3.0), VIDEO.patcher()
    sizes = {"width": 0.5, "height": 1.0, "temporal": 0.67, "x": 0.5, "y": 0.0, "z": 0.34, "strength": 1.2}
    region = changed_by("ConditioningSetAreaPercentageVideo", **sizes)
    whole, part = prompts(VIDEO, 2)
    nag = Nag(VIDEO.conditioning(31, 5))
    guide = lambda positive: conditioning_node(nodes, positive, nag)
    ours = region(guide(part)) if nag_first else guide(region(part))
    expected = run.sample(run.exact(patcher), combined([whole, guided_by(region(part), nag)]))
    assert_close(run.sample(patcher, combined([whole, ours])), expected)


def concat(to, from_):
    return stock("ConditioningConcat", conditioning_to=to, conditioning_from=from_)[0]


def average(to, from_):
    return stock("ConditioningAverage", conditioning_to=to, conditioning_from=from_, conditioning_to_strength=0.3)[0]


@every_family
@pytest.mark.parametrize("node", [concat, average])
def test_text_joined_with_another(nodes, family, node):
    """NAG stays with conditioning_to, whose values ComfyUI's nodes keep, and may come after them."""
    run, patcher = Run(family, cfg=3.0), family.patcher()
    first, second = prompts(family, 2)
    nag = Nag(node(family.conditioning(31, 3), family.conditioning(32, 5)))
    expected = run.sample(run.exact(patcher), guided_by(node(first, second), nag))
    assert_close(run.sample(patcher, node(conditioning_node(nodes, first, nag), second)), expected)
    assert_close(run.sample(patcher, conditioning_node(nodes, node(first, second), nag)), expected)


@every_family
@every_way
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_zeroed_negative(nodes, family, way, cfg):
    """ConditioningZeroOut, as many workflows for Flux and SD3.5 have it in the place of a negative."""
    run, patcher = Run(family, cfg=cfg), family.patcher()
    (zero,) = stock("ConditioningZeroOut", conditioning=run.positive)
    nag = Nag(zero)
    model, positive = way(nodes, patcher, run.positive, nag)
    expected = run.sample(run.exact(patcher), guided_by(run.positive, nag), zero)
    assert_close(run.sample(model, positive, zero), expected)
    assert difference(expected, run.sample(patcher, negative=zero)) > 0.01


def test_zeroed_negative_made_of_a_guided_positive(nodes):
    """NAG goes with the text that ConditioningZeroOut makes a negative of; CFG's negative is not to be guided."""
    run, patcher = Run(DIT, cfg=3.0), DIT.patcher()
    nag = Nag(DIT.conditioning(11, 5))
    guided_positive = conditioning_node(nodes, run.positive, nag)
    ours, zero = (stock("ConditioningZeroOut", conditioning=text)[0] for text in (guided_positive, run.positive))
    expected = run.sample(run.exact(patcher), guided_by(run.positive, nag), zero)
    assert_close(run.sample(patcher, guided_positive, ours), expected)


# Of the positive, the negative of CFG, and NAG's. Wan's text has at most as many tokens as its model is told to take.
LENGTHS = [(231, 77, 77), (77, 231, 77), (77, 77, 231), (154, 231, 77), (5, 7, 3)]
LENGTHS = [(family, lengths) for family in (UNET, DIT) for lengths in LENGTHS] + [(VIDEO, (5, 7, 3))]


@every_way
@pytest.mark.parametrize(("family", "lengths"), LENGTHS, ids=str)
def test_prompts_of_unequal_length(nodes, family, way, lengths):
    """ComfyUI repeats tokens to batch UNets' prompts."""
    positive_tokens, negative_tokens, nag_tokens = lengths
    run = Run(family, cfg=3.0, steps=2, positive_tokens=positive_tokens, negative_tokens=negative_tokens)
    patcher, nag = family.patcher(), Nag(family.conditioning(11, nag_tokens))
    model, positive = way(nodes, patcher, run.positive, nag)
    expected = run.sample(run.exact(patcher), guided_by(run.positive, nag))
    assert_close(run.sample(model, positive), expected)


def batch_of(family, seed, tokens, count):
    """A conditioning with a text for each picture of the batch."""
    each = [family.conditioning(seed + i, tokens)[0] for i in range(count)]
    pooled = torch.cat([values["pooled_output"] for _, values in each])
    return [[torch.cat([text for text, _ in each]), {**each[0][1], "pooled_output": pooled}]]


@every_family
@every_way
@pytest.mark.parametrize("batch", [2, 3])
@pytest.mark.parametrize("whose", ["positive", "NAG's negative", "both"])
def test_a_text_for_each_picture(nodes, family, way, batch, whose):
    """Two texts and three pictures: the third gets the first text again."""
    run, patcher = Run(family, cfg=3.0, batch=batch), family.patcher()
    positive = run.positive if whose == "NAG's negative" else batch_of(family, 41, 6, 2)
    nag = Nag(family.conditioning(11, 5) if whose == "positive" else batch_of(family, 51, 5, 2))
    model, guided_positive = way(nodes, patcher, positive, nag)
    expected = run.sample(run.exact(patcher), guided_by(positive, nag))
    assert_close(run.sample(model, guided_positive), expected)


def repeated(latent):
    return stock("RepeatLatentBatch", samples=latent, amount=3)[0]


def joined(latent):
    return stock("LatentBatch", samples1=latent, samples2={"samples": latent["samples"] + 0.5})[0]


def picked(latent):
    """The noise of a picture goes by its place in the batch that it was taken from."""
    return stock("LatentFromBatch", samples=repeated(latent), batch_index=1, length=2)[0]


def rebatched(latent):
    """Of a list of batches, the last."""
    return stock("RebatchLatents", latents=[repeated(latent)], batch_size=[2])[0][-1]


@every_picture
@every_way
@pytest.mark.parametrize("make", [repeated, joined, picked, rebatched])
def test_latent_batches(nodes, family, way, make):
    run, patcher = Run(family, cfg=3.0, denoise=0.6), family.patcher()
    latent = make({"samples": run.latent()})
    nag = Nag(family.conditioning(11, 5))
    model, positive = way(nodes, patcher, run.positive, nag)
    expected = run.sample(run.exact(patcher), guided_by(run.positive, nag), latent=latent)
    assert_close(run.sample(model, positive, latent=latent), expected)
