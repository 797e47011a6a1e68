"""Families whose attention no override reaches: what their prompts bring, and what they cost."""
import dataclasses
import warnings
from types import SimpleNamespace

import pytest
import torch

from door_families import BY_NAME
from door_families import projected as table
from oracle.equation import Nag
from oracle.sampling import guided_by
from runs import Run, assert_close, difference
from stock import stock
from subject import model_node, out

pytestmark = pytest.mark.usefixtures("inference_mode")
ACE = BY_NAME["ace_step15"]


@pytest.mark.parametrize("zeroed", ["negative", "positive"])
def test_a_zeroed_text_of_ace_step_15(nodes, zeroed):
    """The model puts a vector of its own in the place of each token, lyrics and timbre too."""
    run, patcher = Run(ACE, batch=2, negative_tokens=9), ACE.patcher()
    texts = {"positive": run.positive, "negative": run.negative}
    (texts[zeroed],) = stock("ConditioningZeroOut", conditioning=texts[zeroed])
    nag = Nag(texts["negative"])
    expected = run.sample(ACE.lockstep(), guided_by(texts["positive"], nag))
    result = run.sample(model_node(nodes, patcher, nag, nag_negative=texts["negative"]), texts["positive"])
    assert_close(result, expected)
    assert difference(run.sample(patcher, texts["positive"]), expected) > 1e-3
    assert difference(run.sample(model_node(nodes, patcher, Nag(run.negative)), run.positive), expected) > 1e-3


@pytest.mark.parametrize("of_negative", [table.with_lyrics, table.with_timbre], ids=["no codes", "a timbre"])
def test_music_keeps_what_the_positive_brings(nodes, of_negative):
    """The codes that it follows, while the negative has a timbre of its own, or none."""
    run, patcher = Run(ACE), ACE.patcher()
    negative = dataclasses.replace(ACE, of_text=of_negative).conditioning(2, 4)
    expected = run.sample(ACE.lockstep(), guided_by(run.positive, Nag(negative)))
    assert_close(run.sample(model_node(nodes, patcher, Nag(negative), nag_negative=negative)), expected)


def test_stable_cascade_with_a_picture_in_the_prompt(nodes):
    """It is the positive's for both."""
    see = lambda: SimpleNamespace(image_embeds=torch.randn(1, 768))
    family = dataclasses.replace(
        BY_NAME["stable_cascade"],
        inputs=lambda: {"unclip_conditioning": [{"strength": 0.8, "clip_vision_output": see()}]},
    )
    run, patcher = Run(family, batch=2), family.patcher()
    nag = Nag(run.negative)
    expected = run.sample(family.lockstep(), guided_by(run.positive, nag))
    assert_close(run.sample(model_node(nodes, patcher, nag)), expected)


def test_the_percents_of_stable_cascade(patches):
    """Its sampling makes tensors of them, to which PyTorch has something to say if one is copied as a number."""
    settings, sampling = patches("settings"), BY_NAME["stable_cascade"].patcher().model.model_sampling
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        options = settings.Options(start_percent=0.2, end_percent=0.7)
        low, high = settings.Settings(options=options).sigma_range(sampling.percent_to_sigma)
    assert (low, high) == (sampling.percent_to_sigma(0.7).item(), sampling.percent_to_sigma(0.2).item())


def test_stable_cascade_whose_blocks_have_lost_their_text(nodes, monkeypatch):
    family = BY_NAME["stable_cascade"]
    block = family.patcher().model.diffusion_model.down_blocks[0][2]
    monkeypatch.setattr(type(block), "forward", lambda self, other: None)
    with pytest.raises(RuntimeError, match="lacks down_blocks in StageC"):
        out(nodes.NAGModel, family.patcher())


def test_the_negative_of_ace_step_15_is_encoded_once_a_run(nodes):
    run, patcher, calls = Run(ACE, steps=4, cfg=3.0), ACE.patcher(), []
    both = ACE.conditioning(12, 3) + ACE.conditioning(13, 5)
    hook = patcher.model.diffusion_model.encoder.register_forward_hook(lambda *_: calls.append(1))
    run.sample(patcher)
    plain = len(calls)
    for negative in (run.negative, both):
        calls.clear()
        run.sample(model_node(nodes, patcher, Nag(negative), nag_negative=negative))
        assert len(calls) == plain + len(negative)
    hook.remove()


@pytest.mark.parametrize("name", ["pixart_sigma", "sana"])
def test_entries_of_a_negative_are_one_text_in_each_row(nodes, name):
    """Also where all rows come in one. The two models make something of each token by itself."""
    family = BY_NAME[name]
    run, patcher = Run(family, batch=2), family.patcher()
    entries = family.conditioning(12, 3) + family.conditioning(13, 5)
    texts = [tokens[..., :n, :] for (tokens, _), n in zip(entries, (3, 5))]
    whole = torch.zeros_like(entries[0][0]) if name == "sana" else torch.zeros(1, 8, family.width)
    whole[..., :8, :] = torch.cat(texts, -2)
    guided = lambda negative: run.sample(model_node(nodes, patcher, Nag(negative), nag_negative=negative))
    assert_close(guided(entries), guided([[whole, {}]]))


@pytest.mark.parametrize(("name", "module"), [("pixart_sigma", "cross_attn"), ("ernie_image", "self_attention")])
def test_nothing_of_the_image_is_projected_twice(nodes, patches, name, module):
    family = BY_NAME[name]
    run, patcher, seen = Run(family, steps=1), family.patcher(), {}
    net = patcher.model.diffusion_model
    (door,) = patches("models").find_adapter(patcher.model).doors.kinds

    def count(path):
        return lambda layer, args, made: seen.setdefault(path, []).append(made.shape[1])

    attention = door.find(net)[-1].get_submodule(module)
    layers = (*door.projection.once, door.projection.path)
    hooks = [attention.get_submodule(path).register_forward_hook(count(path)) for path in layers]
    run.sample(model_node(nodes, patcher, Nag(run.negative)))
    for hook in hooks:
        hook.remove()
    n_image = family.tokens.of_image(family.latent)
    joined = 0 if family.tokens.cross else run.positive_tokens + run.negative_tokens
    for path, counts in seen.items():
        assert len(counts) == 2 and n_image + joined <= sum(counts) <= n_image + joined + 1, path


def test_sana_that_takes_two_prompts_only_is_refused(nodes, monkeypatch):
    family = BY_NAME["sana"]
    patcher = family.patcher()
    monkeypatch.delattr(type(patcher.model.diffusion_model), "cfg_embedder")
    with pytest.raises(ValueError, match="SanaMS.*, and NAG can't guide it: .*two prompts at a time.*Efficient-Large"):
        out(nodes.NAGModel, patcher)
