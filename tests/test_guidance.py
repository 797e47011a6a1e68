"""The nodes against the oracle, through ComfyUI's samplers, for every family."""
from itertools import chain

import node_helpers
import pytest
import torch

from families import BY_NAME, FAMILIES, FAMILY_AND_STREAM
from oracle.equation import Nag
from oracle.sampling import guided_by
from runs import Run, assert_close, custom_sample
from subject import conditioning_node, model_node, out, strength

pytestmark = pytest.mark.usefixtures("inference_mode")

PLAIN = {}
EQUAL_LENGTHS = {"positive_tokens": 6, "negative_tokens": 6}
IMAGE_TO_IMAGE = {"cfg": 3.0, "batch": 3, "denoise": 0.6, "negative_tokens": 9}
every_family = pytest.mark.parametrize("family", FAMILIES, ids=str)
every_stream = pytest.mark.parametrize(("family", "stream"), FAMILY_AND_STREAM, ids=str)


def two_negatives(family, **of_second):
    """As Conditioning (Combine) gives them."""
    return family.conditioning(12, 3) + family.conditioning(13, 5, **of_second)


@every_stream
@pytest.mark.parametrize(
    "changes",
    [PLAIN, EQUAL_LENGTHS, IMAGE_TO_IMAGE | EQUAL_LENGTHS, IMAGE_TO_IMAGE],
    ids=["text-to-image", "equal lengths", "equal lengths, image-to-image at cfg 3", "image-to-image at cfg 3"],
)
def test_model_with_the_samplers_negative(nodes, family, stream, changes):
    run, patcher = Run(family, **changes), family.patcher()
    nag = Nag(run.negative, image_stream=stream)
    result = run.sample(model_node(nodes, patcher, nag))
    assert_close(result, run.oracle(patcher, guided_by(run.positive, nag)))


@every_family
@pytest.mark.parametrize("changes", [{"batch": 3}, {"cfg": 3.0, "positive_tokens": 4}], ids=["batch 3", "cfg 3"])
def test_model_with_a_negative_of_its_own(nodes, family, changes):
    run, patcher = Run(family, **changes), family.patcher()
    nag = Nag(family.conditioning(11, 9))
    result = run.sample(model_node(nodes, patcher, nag, nag_negative=nag.negative))
    assert_close(result, run.oracle(patcher, guided_by(run.positive, nag)))


def test_as_many_text_tokens_as_video_tokens(nodes):
    """Their number does not tell text from video."""
    family = BY_NAME["wan21_t2v"]
    frames, height, width = family.latent[1:]
    tokens = frames * height * width // 4 // 2
    run, patcher = Run(family, positive_tokens=tokens, negative_tokens=tokens), family.patcher()
    nag = Nag(run.negative)
    assert_close(run.sample(model_node(nodes, patcher, nag)), run.oracle(patcher, guided_by(run.positive, nag)))


@every_stream
def test_two_negatives(nodes, family, stream):
    run, patcher = Run(family, cfg=3.0), family.patcher()
    nag = Nag(two_negatives(family), image_stream=stream)
    result = run.sample(model_node(nodes, patcher, nag, nag_negative=nag.negative))
    assert_close(result, run.oracle(patcher, guided_by(run.positive, nag)))


@every_family
def test_two_negatives_one_of_which_comes_later(nodes, family):
    run, patcher = Run(family, steps=4), family.patcher()
    nag = Nag(two_negatives(family, start_percent=0.5, end_percent=1.0))
    result = run.sample(model_node(nodes, patcher, nag, nag_negative=nag.negative))
    assert_close(result, run.oracle(patcher, guided_by(run.positive, nag)))


@every_stream
@pytest.mark.parametrize("window", [(0.0, 0.5), (0.5, 1.0)], ids=["stops early", "starts late"])
def test_part_of_the_steps(nodes, family, stream, window):
    run, patcher = Run(family, steps=4, cfg=3.0), family.patcher()
    nag = Nag(run.negative, start_percent=window[0], end_percent=window[1], image_stream=stream)
    result = run.sample(model_node(nodes, patcher, nag))
    assert_close(result, run.oracle(patcher, guided_by(run.positive, nag)))


@every_stream
@pytest.mark.parametrize("changes", [PLAIN, IMAGE_TO_IMAGE], ids=["text-to-image", "image-to-image at cfg 3"])
def test_conditioning(nodes, family, stream, changes):
    run, patcher = Run(family, **changes), family.patcher()
    nag = Nag(family.conditioning(11, 5), image_stream=stream)
    result = run.sample(patcher, conditioning_node(nodes, run.positive, nag))
    assert_close(result, run.oracle(patcher, guided_by(run.positive, nag)))


def combined(node, positives, nags):
    """The positives, each guided by `node` if it has a Nag, as Conditioning (Combine) gives them."""
    parts = (positive if nag is None else node(positive, nag) for positive, nag in zip(positives, nags))
    return list(chain.from_iterable(parts))


@every_stream
def test_regions_with_a_negative_each(nodes, family, stream):
    run, patcher = Run(family, cfg=3.0, batch=2), family.patcher()
    mask = torch.zeros(1, *family.latent[1:])
    mask[..., :5] = 1.0
    everywhere, left, right = (family.conditioning(seed, 6) for seed in (21, 22, 23))
    left = node_helpers.conditioning_set_values(left, {"mask": mask, "mask_strength": 1.5})
    right = node_helpers.conditioning_set_values(right, {"mask": 1 - mask, "mask_strength": 0.8})
    nags = [
        None,
        Nag(family.conditioning(24, 3), image_stream=stream),
        Nag(family.conditioning(25, 8), scale=2.5, image_stream=stream),
    ]
    positives = [everywhere, left, right]
    result = run.sample(patcher, combined(lambda *given: conditioning_node(nodes, *given), positives, nags))
    assert_close(result, run.oracle(patcher, combined(guided_by, positives, nags)))


ALIKE = {"alike": [{}, {}], "two strengths": [{}, {"scale": 2.5}], "two times": [{}, {"end_percent": 0.5}]}


@every_family
@pytest.mark.parametrize("settings", ALIKE.values(), ids=ALIKE.keys())
def test_regions_of_equal_shape(nodes, family, settings):
    """These can share a model call, and must not share their negatives, their strengths or their times."""
    run, patcher = Run(family, cfg=3.0, batch=2, negative_tokens=6), family.patcher()
    mask = torch.zeros(1, *family.latent[1:])
    mask[..., :5] = 1.0
    positives = [family.conditioning(20, 6)]
    positives += [family.conditioning(seed, 6, mask=area) for seed, area in ((21, mask), (22, 1 - mask))]
    nags = [None, *(Nag(family.conditioning(seed, 5), **values) for seed, values in zip((24, 25), settings))]
    result = run.sample(patcher, combined(lambda *given: conditioning_node(nodes, *given), positives, nags))
    assert_close(result, run.oracle(patcher, combined(guided_by, positives, nags)))


@every_family
def test_time_ranges_with_a_negative_each(nodes, family):
    run, patcher = Run(family, cfg=3.0, steps=4), family.patcher()
    first = family.conditioning(21, 6, start_percent=0.0, end_percent=0.5)
    second = family.conditioning(22, 6, start_percent=0.5, end_percent=1.0)
    nags = [Nag(family.conditioning(24, 3)), Nag(family.conditioning(25, 6))]
    positives = [first, second]
    result = run.sample(patcher, combined(lambda *given: conditioning_node(nodes, *given), positives, nags))
    assert_close(result, run.oracle(patcher, combined(guided_by, positives, nags)))


PICTURES = [family for family in FAMILIES if len(family.latent) == 3 and family.name != "flux_kontext"]


@pytest.mark.parametrize("family", PICTURES, ids=str)
@pytest.mark.parametrize("by_conditioning", [True, False], ids=["conditioning", "model"])
def test_areas(nodes, family, by_conditioning):
    """ComfyUI gives the positive's area to the negative of CFG too, which must stay unguided."""
    run, patcher = Run(family, cfg=3.0), family.patcher()
    height = family.latent[1]
    background = family.conditioning(21, 6)
    corner = family.conditioning(22, 6, area=(height - 1, 6, 1, 4), strength=1.3)
    nag = Nag(family.conditioning(24, 5))
    if by_conditioning:
        guided = [background, corner], [None, nag]
        result = run.sample(patcher, combined(lambda *given: conditioning_node(nodes, *given), *guided))
    else:
        guided = [background, corner], [nag, nag]
        result = run.sample(model_node(nodes, patcher, nag, nag_negative=nag.negative), background + corner)
    assert_close(result, run.oracle(patcher, combined(guided_by, *guided)))


@pytest.mark.parametrize("family", PICTURES, ids=str)
def test_area_of_the_negative_of_cfg(nodes, family):
    """ComfyUI gives it to the positive too, with the positive's text and so with its NAG."""
    run, patcher = Run(family, cfg=3.0), family.patcher()
    negative = run.negative + family.conditioning(23, 4, area=(family.latent[1] - 1, 6, 1, 4))
    nag = Nag(family.conditioning(24, 5))
    result = run.sample(patcher, conditioning_node(nodes, run.positive, nag), negative)
    assert_close(result, run.oracle(patcher, guided_by(run.positive, nag), negative))


@every_family
def test_conditioning_goes_before_model(nodes, family):
    """A positive with a NAG of its own keeps it on a model that has another; the model's takes the rest."""
    run, patcher = Run(family), family.patcher()
    own, models = Nag(family.conditioning(24, 5)), Nag(run.negative, scale=2.5)
    positives = [family.conditioning(21, 6), family.conditioning(22, 6)]
    with_own = conditioning_node(nodes, positives[0], own) + positives[1]
    result = run.sample(model_node(nodes, patcher, models), with_own)
    assert_close(result, run.oracle(patcher, combined(guided_by, positives, [own, models])))


@every_family
def test_guider(nodes, family):
    run, patcher = Run(family), family.patcher()
    nag = Nag(family.conditioning(11, 5))
    guider = out(nodes.NAGGuider, patcher, run.positive, nag.negative, *strength(nag).values(), 0.0)
    assert_close(custom_sample(run, patcher, guider), run.oracle(patcher, guided_by(run.positive, nag)))


@every_family
def test_cfg_guider(nodes, family):
    run, patcher = Run(family, cfg=3.0), family.patcher()
    nag = Nag(family.conditioning(11, 5))
    given = (patcher, run.positive, run.negative, nag.negative, run.cfg, *strength(nag).values(), 0.0)
    guider = out(nodes.NAGCFGGuider, *given)
    assert_close(custom_sample(run, patcher, guider), run.oracle(patcher, guided_by(run.positive, nag)))


@every_family
def test_guider_stops_at_sigma(nodes, family):
    run, patcher = Run(family, steps=4), family.patcher()
    nag = Nag(family.conditioning(11, 5), sigma_end=float(run.sigmas(patcher)[1]))  # holds for two of the four steps
    guider = out(nodes.NAGGuider, patcher, run.positive, nag.negative, *strength(nag).values(), nag.sigma_end)
    assert_close(custom_sample(run, patcher, guider), run.oracle(patcher, guided_by(run.positive, nag)))


@every_family
@pytest.mark.parametrize("own_negative", [True, False], ids=["nag_negative", "negative"])
def test_sampler(nodes, family, own_negative):
    run, patcher = Run(family, cfg=3.0, denoise=0.6), family.patcher()
    nag = Nag(family.conditioning(11, 5) if own_negative else run.negative)
    result = out(
        nodes.NAGSampler,
        *(patcher, run.seed, run.steps, run.cfg, "euler", "simple", run.positive, run.negative),
        *({"samples": run.latent()}, run.denoise),
        nag_negative=nag.negative if own_negative else None,
        **strength(nag),
    )
    assert_close(result["samples"], run.oracle(patcher, guided_by(run.positive, nag)))


@every_family
def test_auto_is_the_papers_table(nodes, family):
    run, patcher = Run(family), family.patcher()
    scale, tau, alpha = family.recommended
    auto = run.sample(out(nodes.NAGModel, patcher))
    numbers = run.sample(out(nodes.NAGModel, patcher, nag_scale=scale, nag_tau=tau, nag_alpha=alpha))
    assert torch.equal(auto, numbers)
    nag = Nag(run.negative, scale, tau, alpha)
    assert_close(auto, run.oracle(patcher, guided_by(run.positive, nag)))


@pytest.mark.parametrize("stream", ["shared", "separate"])
def test_flux_attention_mask(nodes, stream):
    """As style models give it: a bias on some of the positive's tokens."""
    family = BY_NAME["flux_schnell"]
    tokens, rows, columns = 6, 4, 6
    size = tokens + rows * columns
    bias = torch.randn(1, size, size, generator=torch.Generator().manual_seed(31))
    run, patcher = Run(family, positive_tokens=tokens, cfg=3.0), family.patcher()
    masked = {"attention_mask": bias, "attention_mask_img_shape": (rows, columns)}
    positive = node_helpers.conditioning_set_values(run.positive, masked)
    nag = Nag(run.negative, image_stream=stream)
    result = run.sample(model_node(nodes, patcher, nag), positive)
    assert_close(result, run.oracle(patcher, guided_by(positive, nag)))
