"""Weights and masks of the negative's entries, by ComfyUI's own nodes, against the oracles."""
import dataclasses
import inspect

import pytest
import torch
from comfy.patcher_extension import WrappersMP
from torch._dynamo.utils import counters

import door_families
from compiling import compiled
from mechanisms import BY_NAME
from oracle.equation import Nag
from oracle.places import Places
from oracle.sampling import guided_by
from runs import Run, assert_close, difference
from stock import stock, stock_class
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


@pytest.mark.parametrize("name", ["sdxl", "flux_dev", "wan21_t2v", "pixart_sigma"])
def test_one_weight_is_the_dial(nodes, name):
    family = BY_NAME[name]
    run, patcher = Run(family, cfg=3.0, batch=2), family.patcher()
    negative = family.conditioning(11, 5)
    dial = run.sample(guided(nodes, patcher, negative, strength=0.6 * 0.4))
    assert torch.equal(run.sample(guided(nodes, patcher, weighed(negative, 0.4), strength=0.6)), dial)
    most = run.sample(guided(nodes, patcher, negative, strength=2.0))
    assert torch.equal(run.sample(guided(nodes, patcher, weighed(negative, 7.0))), most)
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


TWO = {"sdxl": None, "sd35_medium": (2, 2), "flux_dev": (2, 2), "wan21_t2v": (1, 2, 2)}


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


@pytest.mark.parametrize("family", [*door_families.BY_NAME.values()], ids=str)
def test_where_the_tokens_lie(patches, family):
    """What a place of the latent changes most, in front of the first block, is the token that the layout says."""
    if family.name in NO_LAYOUT or family.sound:
        pytest.skip("nobody knows")
    patcher, sizes = family.patcher(), family.latent[1:]
    adapter = patches("models").find_adapter(patcher.model)
    layout, n = adapter.layout(patcher.model.diffusion_model, len(sizes)), family.tokens.of_image(family.latent)
    for place in (tuple(size // 3 for size in sizes), tuple(size - 1 for size in sizes)):
        mask = torch.zeros(1, 1, *sizes)
        mask[(0, 0, *place)] = 1
        expected = layout.tokens(mask, n, None, torch.zeros(1)).argmax().item()
        assert most_changed(family, patcher, adapter, place, n) == expected


NO_LAYOUT = ("minimax_h3", "hidream_e1", "stable_cascade")  # ... whose blocks are not handed tokens


def most_changed(family, patcher, adapter, place, n):
    """Which of n tokens of the image."""
    changed = max(
        (difference(*each), *each) for each in zip(*(handed_over(family, patcher, adapter, at) for at in (None, place)))
    )[1:]
    tokens = [t.reshape(-1, t.shape[-1]) for t in changed]
    start = 0 if adapter.doors.image_first(patcher.model.diffusion_model) else len(tokens[0]) - n
    by = (tokens[1] - tokens[0]).abs().sum(1)[start : start + n]
    return by.argmax().item()


def handed_over(family, patcher, adapter, place):
    """What of the tensors that the first block is handed can be tokens of the image."""
    found = []

    def note(block, args, kwargs):
        found.append([t for t in (*args, *kwargs.values()) if torch.is_tensor(t) and t.ndim > 2])

    def moved(executor, x, *args, **more):
        x = x.clone()
        if place is not None:
            x[(slice(None), slice(None), *place)] += 0.1
        return executor(x, *args, **more)

    model = patcher.clone()
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "moved", moved)
    door = adapter.doors.kinds[0]
    hook = door.find(patcher.model.diffusion_model)[0].register_forward_pre_hook(note, with_kwargs=True)
    try:
        Run(family, steps=1).sample(model)
    finally:
        hook.remove()
    n = family.tokens.of_image(family.latent)
    return [t for t in found[0] if t.numel() // t.shape[-1] >= n]


def test_windows_of_a_video(nodes):
    """ComfyUI's context windows cut the latent along its frames; the mask's are cut alike."""
    family = dataclasses.replace(BY_NAME["wan21_t2v"], latent=(16, 7, 4, 6))
    run, patcher = Run(family), family.patcher()
    negative, sizes = family.conditioning(11, 5), family.latent[1:]
    mask = some_mask(sizes[1:], rows=25)  # of the frames that the latent stands for
    frames = torch.cat((mask[:1], mask[1:].unflatten(0, (6, 4)).mean(1)))
    nag = nags(negative, frames[None], patch=(1, 2, 2), lengths=(5,))
    given = {
        "context_length": 13, "context_overlap": 5, "context_schedule": "standard_static", "context_stride": 1,
        "closed_loop": False, "fuse_method": "flat", "freenoise": False,
    }  # fmt: skip
    taken = inspect.signature(stock_class("WanContextWindowsManual").execute).parameters
    given = {name: value for name, value in given.items() if name in taken}
    windows = lambda model: stock("WanContextWindowsManual", model=model, **given)[0]
    result = run.sample(windows(guided(nodes, patcher, masked(negative, mask))))
    assert_close(result, run.sample(windows(run.exact(patcher)), guided_by(run.positive, nag)))
    assert difference(result, run.sample(guided(nodes, patcher, masked(negative, mask)))) > 1e-3


@pytest.mark.parametrize("anchored", [False, True])
@pytest.mark.parametrize("retained", [[], [0]], ids=str)
def test_frames_that_a_window_adds(patches, retained, anchored):
    """Those that guide it, are kept in each window, or stand in front: as ComfyUI cuts the latent itself."""
    windows, region = pytest.importorskip("comfy.context_windows"), patches("sampling.region")
    if not hasattr(windows, "WindowingState"):
        pytest.skip("this ComfyUI adds none")
    mask, n = some_mask((4, 6), rows=9)[None], 7  # two of the frames guide, the first and the sixth
    starts = torch.tensor([0, 5]).repeat_interleave(24)
    state = windows.WindowingState(
        latents=[mask[:, None, :n]], guide_latents=[mask[:, None, n:]], latent_shapes=None, dim=2,
        guide_entries=[[{"latent_shape": (1, 4, 6), "pre_filter_count": 24}] * 2],
        keyframe_idxs=[starts.expand(1, 3, -1)[..., None].expand(-1, -1, -1, 2)],
    )  # fmt: skip
    window = windows.IndexListContextWindow([3, 4, 5, 6], dim=2, total_frames=n)
    if anchored:
        window.causal_anchor_index = 2
    (latent,), _ = state.slice_for_window(window, retained)
    assert latent.shape[2] == 5 + anchored
    regions, shown = [region.Region(1, None, (mask,))], tuple(latent.shape[2:])
    found = region.masks_of_call(regions, (1.0,), shown, region.window_of({"context_window": window}, retained))
    assert torch.equal(found[0], latent[:, 0])


class Tile:
    """A model_function_wrapper that shows the model the left half only."""

    def __call__(self, apply_model, args):
        x, c = args["input"], args["c"]
        half = apply_model(x[..., : x.shape[-1] // 2].contiguous(), args["timestep"], **c)
        return torch.cat((half, half), -1)


def test_a_tile_of_which_nobody_says_where_it_is(nodes):
    family = BY_NAME["flux_schnell"]
    run, patcher = Run(family), family.patcher().clone()
    patcher.set_model_unet_function_wrapper(Tile())
    negative = family.conditioning(11, 5)
    run.sample(guided(nodes, patcher, weighed(negative, 0.5)))
    with pytest.raises(ValueError, match="8 x 6 of the latent, where the sampler has 8 x 12"):
        run.sample(guided(nodes, patcher, masked(negative, some_mask((8, 12)))))


def test_picture_and_sound(nodes):
    """A mask is of the picture; the sound goes by the plain weight."""
    family = BY_NAME["ltx2"]
    run, patcher = Run(family), family.patcher()
    negative, mask = family.conditioning(11, 5), torch.ones(1, 4, 6)
    mask[..., :3] = 0
    result = run.sample(guided(nodes, patcher, masked(negative, mask)))
    plain, whole = run.sample(patcher), run.sample(guided(nodes, patcher, negative))
    assert min(difference(result, each) for each in (plain, whole)) > 1e-4
    nearly = run.sample(guided(nodes, patcher, masked(negative, 1 - 1e-6 * mask)))
    assert_close(nearly, whole, 1e-4)


def test_a_sound_has_times_and_no_masks(nodes):
    family = BY_NAME["stable_audio1"]
    run, patcher = Run(family), family.patcher()
    negative = family.conditioning(11, 5)
    with pytest.raises(ValueError, match="sound alone"):
        run.sample(guided(nodes, patcher, masked(negative, torch.rand(1, 4, 4))))
    share = {"width": 1.0, "height": 0.5, "x": 0.0, "y": 0.5, "strength": 1.0}
    (later,) = stock("ConditioningSetAreaPercentage", conditioning=negative, **share)
    result = run.sample(guided(nodes, patcher, later))
    assert min(difference(result, run.sample(m)) for m in (patcher, guided(nodes, patcher, negative))) > 1e-4


@pytest.mark.parametrize("name", ["pixart_sigma", "stable_cascade"])
def test_two_weights_where_attention_takes_none(nodes, name):
    family = BY_NAME[name]
    run, patcher = Run(family), family.patcher()
    both = family.conditioning(11, 5), family.conditioning(12, 3)
    with pytest.raises(ValueError, match="unequal weights or masks"):
        run.sample(guided(nodes, patcher, combined(weighed(both[0], 0.4), both[1])))
    run.sample(guided(nodes, patcher, weighed(combined(*both), 0.4)))


def test_a_mask_where_nobody_knows_the_layout(nodes):
    family = BY_NAME["minimax_h3"]
    run, patcher = Run(family), family.patcher()
    negative = family.conditioning(11, 5)
    with pytest.raises(ValueError, match="which token shows which part"):
        run.sample(guided(nodes, patcher, masked(negative, some_mask(family.latent[-2:]))))


@pytest.mark.parametrize("name", ["sdxl", "flux_dev", "wan21_t2v"])
def test_half_precision(nodes, name):
    family = BY_NAME[name]
    run = Run(family, steps=2)
    both, mask = (family.conditioning(11, 5), family.conditioning(12, 3)), some_mask(family.latent[-2:])
    negative = combined(masked(both[0], mask), weighed(both[1], 0.3))
    exact, half = family.patcher(), family.patcher(torch.bfloat16)
    off_by = lambda change: difference(run.sample(change(half)), run.sample(change(exact)))
    assert off_by(lambda model: guided(nodes, model, negative)) < max(0.06, 2 * off_by(lambda model: model))


@pytest.mark.parametrize("name", ["sdxl", "flux_schnell"])
def test_by_triton(nodes, interpreter, name):
    family = BY_NAME[name]
    run, patcher = Run(family, steps=1), family.patcher()
    negative, mask = family.conditioning(11, 5), some_mask(family.latent[-2:])
    nag = nags(negative, mask, patch=ONE_MASK.get(name, (2, 2)), lengths=(5,))
    expected = run.sample(run.exact(patcher), guided_by(run.positive, nag))
    assert_close(run.sample(guided(nodes, patcher, masked(negative, mask))), expected)


@pytest.mark.parametrize("name", ["sdxl", "flux_dev", "wan21_t2v"])
def test_compiled(nodes, nothing_compiled, name):
    """One graph for all masks, weights and strengths."""
    family, graphs = BY_NAME[name], []
    run, patcher = Run(family, steps=2), family.patcher()
    for strength, seed in ((1.0, 5), (0.7, 6), (0.4, 7)):
        both, mask = (family.conditioning(11, 5), family.conditioning(12, 3)), some_mask(family.latent[-2:], seed=seed)
        negative = combined(masked(both[0], mask, strength), weighed(both[1], strength / 2))
        model = guided(nodes, patcher, negative, strength=strength)
        assert_close(run.sample(compiled(model)), run.sample(model))
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] > 0 and graphs[1] == graphs[2]


def test_statistics_of_the_guided_half(patches):
    """Tokens at which NAG does not act do not count."""
    measure = patches("sampling.statistics").measure
    z_pos, z_neg = torch.randn(2, 1, 6, 8)
    alpha = torch.tensor([0.0, 0.5, 0.5, 0.0, 0.5, 0.0]).view(1, 6, 1)
    acting = alpha[0, :, 0] > 0
    some = measure(z_pos[:, acting], z_neg[:, acting], 4.0, 1.3, 0.5)
    assert torch.allclose(measure(z_pos, z_neg, 4.0, 1.3, alpha), some)
    assert some[0] == 3
