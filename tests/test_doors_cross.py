"""Families whose text meets the image in cross-attention, through ComfyUI's samplers, against the model in lockstep."""
import dataclasses
from itertools import chain

import node_helpers
import pytest
import torch

from door_families import BY_NAME, CROSS
from oracle.equation import Nag
from oracle.sampling import guided_by
from runs import Run, assert_close, difference
from subject import conditioning_node, model_node, out

pytestmark = pytest.mark.usefixtures("inference_mode")
every_family = pytest.mark.parametrize("family", CROSS, ids=str)
with_sound = pytest.mark.parametrize("family", [family for family in CROSS if family.sound], ids=str)


@every_family
def test_a_negative_for_each_part_of_the_picture_or_of_the_steps(nodes, family):
    run, patcher = Run(family, cfg=3.0, batch=2, steps=4), family.patcher()
    everything, one, other = (family.conditioning(seed, 6) for seed in (21, 22, 23))
    if family.sound:  # ComfyUI has no areas in a latent that is packed
        parts = {"start_percent": 0.0, "end_percent": 0.5}, {"start_percent": 0.5, "end_percent": 1.0}
    else:
        mask = torch.zeros(1, *family.latent[1:])
        mask[..., :5] = 1.0
        parts = {"mask": mask, "mask_strength": 1.5}, {"mask": 1 - mask, "mask_strength": 0.8}
    one, other = (node_helpers.conditioning_set_values(given, part) for given, part in zip((one, other), parts))
    nags = Nag(family.conditioning(24, 3)), Nag(family.conditioning(25, 8), scale=2.5)

    def positives(node):
        return everything + list(chain.from_iterable(map(node, (one, other), nags)))

    result = run.sample(patcher, positives(lambda *given: conditioning_node(nodes, *given)))
    assert_close(result, run.sample(family.lockstep(), positives(guided_by)))


# Kandinsky 5's video model does not take a mask from ComfyUI, which gives it as many channels as the latent has.
@pytest.mark.parametrize("family", [family for family in CROSS if family.name != "kandinsky5_video"], ids=str)
def test_a_part_of_the_latent_is_kept(nodes, family):
    run, patcher = Run(family, steps=4), family.patcher()
    nag, mask = Nag(run.negative), torch.ones(1, 1, *family.latent[1:])
    mask[..., :3] = 0
    latent = {"samples": run.latent(), "noise_mask": mask}
    expected = run.sample(family.lockstep(), guided_by(run.positive, nag), latent=latent)
    assert_close(run.sample(model_node(nodes, patcher, nag), latent=latent), expected)


HIDDEN = {"in the positive": (2, 0), "in the negative": (0, 3), "in both": (4, 1)}


@pytest.mark.parametrize("hidden", HIDDEN.values(), ids=HIDDEN)
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("family", [BY_NAME["ltxv"], BY_NAME["ltx2"]], ids=str)
def test_hidden_tokens(nodes, family, hidden, batch):
    run, patcher = Run(family, cfg=3.0, batch=batch), family.patcher()
    positive, negative = (with_hidden(family.conditioning(*text), n) for text, n in zip(((1, 6), (11, 9)), hidden))
    nag = Nag(negative)
    result = run.sample(patcher, conditioning_node(nodes, positive, nag))
    assert_close(result, run.sample(family.lockstep(), guided_by(positive, nag)))
    others = with_other_hidden_tokens(positive), Nag(with_other_hidden_tokens(negative))
    assert_close(run.sample(patcher, conditioning_node(nodes, *others)), result)
    seen = with_hidden(positive, 0), Nag(with_hidden(negative, 0))
    assert difference(run.sample(patcher, conditioning_node(nodes, *seen)), result) > 1e-3


def with_hidden(conditioning, n):
    """The first n tokens hidden."""
    ((tokens, values),) = conditioning
    mask = torch.ones(1, tokens.shape[1], dtype=torch.int64)
    mask[:, :n] = 0
    return [[tokens, {**values, "attention_mask": mask}]]


def with_other_hidden_tokens(conditioning):
    ((tokens, values),) = conditioning
    return [[tokens * values["attention_mask"][..., None], values]]


@with_sound
@pytest.mark.parametrize("modality", ["both", "picture", "sound"])
def test_modality(nodes, family, modality):
    run, patcher = Run(family, batch=2), family.patcher()
    nag = Nag(run.negative, modality=modality)
    expected = run.sample(family.lockstep(), guided_by(run.positive, nag))
    assert_close(run.sample(model_node(nodes, patcher, nag)), expected)
    other = Nag(run.negative, modality="sound" if modality == "picture" else "picture")
    assert difference(run.sample(model_node(nodes, patcher, other)), expected) > 1e-4


@with_sound
@pytest.mark.parametrize("modality", ["picture", "sound"])
def test_statistics_of_one_modality(patches, family, modality):
    """What is not guided does not count."""
    run, patcher, ratios = Run(family, steps=1), family.patcher(), []
    for chosen in ("both", modality):
        options = patches("settings").Options(statistics=True, modality=chosen)
        settings, reports = patches("settings").Settings(4.0, 1.3, 0.6, options=options), []
        request = patches("sampling.request").Request(settings, run.negative, reports.append)
        run.sample(patches("sampling.entry").guide_model(patcher, request))
        ratios.append(reports[0].ratio)
    assert ratios[0] != pytest.approx(ratios[1], rel=1e-5)


@with_sound
def test_a_video_without_sound(nodes, family):
    family = dataclasses.replace(family, sound=None)
    run, patcher = Run(family), family.patcher()
    nag = Nag(run.negative)
    expected = run.sample(family.lockstep(), guided_by(run.positive, nag))
    for modality in ("both", "picture"):
        assert_close(run.sample(model_node(nodes, patcher, Nag(run.negative, modality=modality))), expected)
    with pytest.raises(RuntimeError, match="no attention was guided"):
        run.sample(model_node(nodes, patcher, Nag(run.negative, modality="sound")))


def test_modality_where_there_is_one(nodes):
    family = BY_NAME["ltxv"]
    run, patcher = Run(family), family.patcher()
    both, sound = (run.sample(model_node(nodes, patcher, Nag(run.negative, modality=m))) for m in ("both", "sound"))
    assert torch.equal(both, sound)


# Texts of one length share a model call at cfg 3 where no NAG is on the model.
OFF = {
    "scale 1": (Nag([], scale=1.0), 3.0),
    "alpha 0": (Nag([], alpha=0.0), 3.0),
    "never": (Nag([], start_percent=1.0), 1.0),
}


@every_family
@pytest.mark.parametrize(("nag", "cfg"), OFF.values(), ids=OFF)
def test_off(nodes, family, nag, cfg):
    run, patcher = Run(family, cfg=cfg), family.patcher()
    assert torch.equal(run.sample(model_node(nodes, patcher, nag)), run.sample(patcher))


@every_family
def test_nothing_is_left_on_the_model(nodes, family):
    run, patcher = Run(family), family.patcher()
    plain, before = run.sample(patcher), attached(patcher)
    run.sample(model_node(nodes, patcher, Nag(run.negative)))
    assert attached(patcher) == before
    assert torch.equal(run.sample(patcher), plain)


def attached(patcher):
    """What hangs on each module, by name, tensors by their shape."""
    shape = lambda value: tuple(value.shape) if torch.is_tensor(value) else None
    of = lambda module: {name: shape(value) for name, value in vars(module).items()}
    hooks = lambda module: (len(module._forward_pre_hooks), len(module._forward_hooks))
    return {name: (of(module), hooks(module)) for name, module in patcher.model.named_modules()}


def test_blocks_compiled_one_by_one(nodes, monkeypatch, nothing_compiled):
    family = BY_NAME["ltxv"]
    run, patcher = Run(family), family.patcher()
    nag, blocks = Nag(run.negative), patcher.model.diffusion_model.transformer_blocks
    expected = run.sample(family.lockstep(), guided_by(run.positive, nag))
    compiled = torch.nn.ModuleList([torch.compile(block, backend="eager") for block in blocks])
    monkeypatch.setitem(patcher.model.diffusion_model._modules, "transformer_blocks", compiled)
    assert_close(run.sample(model_node(nodes, patcher, nag)), expected)


@every_family
def test_a_negative_of_another_encoder(nodes, patches, family):
    patcher = family.patcher()
    adapter = patches("models").find_adapter(patcher.model)
    with pytest.raises(ValueError) as error:
        out(nodes.NAGModel, patcher, [[torch.zeros(1, 4, 17), {"pooled_output": torch.zeros(1, 20)}]])
    assert all(said in str(error.value) for said in ("17 wide", adapter.name, adapter.text_encoder))


@pytest.mark.parametrize("family", [family for family in CROSS if "kandinsky" in family.name], ids=str)
def test_a_negative_without_a_pooled_output(nodes, family):
    with pytest.raises(ValueError, match="pooled output is missing.*Kandinsky 5.*takes 20"):
        out(nodes.NAGModel, family.patcher(), [[torch.zeros(1, 4, family.width), {}]])


@every_family
def test_whose_values(patches, family):
    model = family.patcher().model
    adapter = patches("models").find_adapter(model)
    says = adapter.recommended(model)
    assert (says.nag_scale, says.nag_tau, says.nag_alpha) == family.recommended
    squeezed = adapter.family(model).lower().replace("-", "").replace(".", "").replace(" ", "").replace("ideo", "")
    assert family.name.replace("_", "").startswith(squeezed)
