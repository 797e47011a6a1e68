"""Models that derive from Wan's and attend to more texts, or remember them, against the model with its cross-attention
written out."""
from types import SimpleNamespace

import comfy.model_base
import comfy.samplers
import pytest
import torch
from comfy.patcher_extension import WrappersMP

from families import VIDEO, Family, _first_frame_and_clip_vision, _patcher, _wan
from oracle.dit import Stream
from oracle.equation import Nag
from oracle.wan import cross_attention
from runs import Run, assert_close, custom_sample, difference
from stock import stock
from subject import model_node, options

pytestmark = pytest.mark.usefixtures("inference_mode")
WINDOWS = {"always": (0.0, 1.0), "stops early": (0.0, 0.5), "starts late": (0.5, 1.0)}
every_window = pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)


def family_of(base_name, image_to_video=False, **config):
    """Of a class that not every ComfyUI has."""
    base = getattr(comfy.model_base, base_name, None)
    if base is None:
        pytest.skip(f"this ComfyUI has no {base_name}")
    inputs = _first_frame_and_clip_vision if image_to_video else dict
    build = _wan(lambda settings, image_to_video: base(settings), **config)
    return Family(base_name, build, None, (11.0, 2.5, 0.25), VIDEO, inputs=inputs)


class Guided(torch.nn.Module):
    """In the place of a cross-attention: guided away from a negative where `state` says so."""

    def __init__(self, layer, negative, nag, state):
        super().__init__()
        self.layer, self.negative, self.nag, self.state = layer, negative, nag, state

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.layer, name)

    def forward(self, x, context, context_img_len=None, **_):
        n_image = context_img_len if hasattr(self.layer, "k_img") else 0
        picture, texts = context[:, :n_image], [Stream(context[:, n_image:])]
        if self.state.on and not self.state.posing and self.nag is not None:
            texts.append(Stream(self.negative))
        return cross_attention(self.layer, x, texts, picture if n_image else None, self.nag)


class Forgetful(dict):
    """A cache that never has what was put in."""

    def get(self, key, default=None):
        return default


def exact(family, nag):
    """A ModelPatcher of the family's model, whose cross-attention is guided by the written-out equation."""
    made = _patcher.__wrapped__(family, torch.float32)  # a new one, of the same weights
    model = made.model
    net, state = model.diffusion_model, SimpleNamespace(on=False, posing=False)
    negative = net.text_embedding(nag.negative[0][0])
    for number, block in enumerate(net.blocks):
        block.cross_attn = Guided(block.cross_attn, negative, nag.within("blocks", number), state)
        if hasattr(block, "forward_pose"):
            block.forward_pose = posing(block.forward_pose, state)
    if hasattr(net, "init_crossattn_caches"):
        net.init_crossattn_caches = lambda *_: [Forgetful() for _ in net.blocks]
    to_sigma = model.model_sampling.percent_to_sigma
    high = to_sigma(nag.start_percent) if nag.start_percent else torch.inf

    def switch(executor, x, t, *args, **kwargs):
        state.on = to_sigma(nag.end_percent) <= t[0] <= high
        return executor(x, t, *args, **kwargs)

    made.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "exact", switch)
    return made


def posing(forward_pose, state):
    def call(*args, **kwargs):
        state.posing = True
        try:
            return forward_pose(*args, **kwargs)
        finally:
            state.posing = False

    return call


def guider_of(run, model, positive):
    return stock("CFGGuider", model=model, positive=positive, negative=run.negative, cfg=1.0)[0]


@every_window
@pytest.mark.parametrize("lengths", [(6, 4), (5, 5), (4, 9)], ids=str)
def test_text_that_is_remembered_from_call_to_call(nodes, window, lengths):
    """Causal Wan paints a video some frames at a time, and keeps the text's keys and values meanwhile."""
    family = family_of("WAN21_CausalAR")
    run = Run(family, steps=4, positive_tokens=lengths[0], negative_tokens=lengths[1])
    patcher, nag = family.patcher(), Nag(run.negative, start_percent=window[0], end_percent=window[1])
    sampler = comfy.samplers.ksampler("ar_video", {"num_frame_per_block": 1})
    sample = lambda model: custom_sample(run, patcher, guider_of(run, model, run.positive), sampler)
    plain, expected = sample(patcher), sample(exact(family, nag))
    assert difference(plain, expected) > 1e-3
    assert_close(sample(model_node(nodes, patcher, nag)), expected)
    assert torch.equal(sample(patcher), plain)


def animated(pose_tokens):
    """WanAnimate2, and what its positive brings."""
    family = family_of("WAN_Animate2", image_to_video=True, in_dim=36)
    channels, frames, *size = VIDEO
    torch.manual_seed(30)
    given = {"pose_video_latent": torch.randn(1, channels, frames - 1, *size)}
    if pose_tokens is not None:
        given["cross_attn_pose"] = torch.randn(1, pose_tokens, family.conditioning(1, 1)[0][0].shape[-1])
    return family, given


@every_window
@pytest.mark.parametrize("pose_tokens", [None, 5, 6, 10], ids=["none", "another", "as the positive", "as both prompts"])
def test_a_text_for_the_pose_video(nodes, window, pose_tokens):
    """WanAnimate2 attends to it from the video that drives the picture, which stays as it is."""
    family, given = animated(pose_tokens)
    run = Run(family, steps=3)
    positive = family.conditioning(1, run.positive_tokens, **given)
    patcher, nag = family.patcher(), Nag(run.negative, start_percent=window[0], end_percent=window[1])
    sample = lambda model: custom_sample(run, patcher, guider_of(run, model, positive))
    plain, expected = sample(patcher), sample(exact(family, nag))
    assert difference(plain, expected) > 1e-3
    assert_close(sample(model_node(nodes, patcher, nag)), expected)
    assert torch.equal(sample(patcher), plain)


@pytest.mark.parametrize("number", [0, 1])
def test_in_one_block(nodes, number):
    family, given = animated(5)
    run = Run(family, steps=2)
    positive, patcher = family.conditioning(1, run.positive_tokens, **given), family.patcher()
    nag = Nag(run.negative, blocks=frozenset({("blocks", number)}))
    sample = lambda model: custom_sample(run, patcher, guider_of(run, model, positive))
    expected = sample(exact(family, nag))
    assert difference(sample(patcher), expected) > 1e-4
    assert_close(sample(model_node(nodes, patcher, nag, options=options(nodes, nag, blocks=str(number)))), expected)
