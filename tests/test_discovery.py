"""Models with their declarations taken away: what is found of them by itself, against the model itself in lockstep."""
import contextlib
import dataclasses
import gc
import logging
import subprocess
import sys

import comfy.model_management
import comfy.model_patcher
import pytest
import torch
from host.server import PACK

import door_families
import families
from families import _patcher
from oracle.equation import Nag
from oracle.lockstep import COUNTED
from oracle.sampling import guided_by
from runs import Run, assert_close, difference
from stored import patcher_of, weights_of
from subject import conditioning_node, model_node, options, out
from test_places import masked, some_mask
from test_places import nags as of_mask

pytestmark = pytest.mark.usefixtures("inference_mode")

# Those that have code of their own, and what is said of them.
REFUSED = {
    "sd15": "is not that of a run of this text alone",
    "sd2": "is not that of a run of this text alone",
    "sdxl": "is not that of a run of this text alone",
    **dict.fromkeys(("mochi", "hunyuan_dit", "hunyuan_dit1"), "modulated by what it makes of the text itself"),
    **dict.fromkeys(("hidream", "hidream_e1", "hidream_without_experts"), "is not that of a run of this text alone"),
    "minimax_h3": "nothing that it hands to its blocks grows with the text",  # in a sequence without rows
    "stable_cascade": "it is given its text otherwise",
    **dict.fromkeys(("sana", "sana_sprint"), "can't be called on tiny inputs"),  # of texts without zeros behind them
    "wan21_i2v": "lets the picture attend to just these, but to 71 tokens of text",  # and to those of an image
}
BY_NAME = families.BY_NAME | door_families.BY_NAME
FOUND = [family for family in BY_NAME.values() if family.name not in REFUSED]


def of_text(family):
    """What a conditioning of a family holds of its text's tokens."""
    told = getattr(family, "of_text", lambda n: {})(1)
    return {"attention_mask", *(name for name in told if "reference" not in name)}


@pytest.fixture
def discovery(patches, monkeypatch):
    """The module, which knows nothing yet."""
    monkeypatch.setattr(patches("models.discovery"), "_found", {})
    return patches("models.discovery")


@pytest.fixture
def undeclared(patches, discovery, monkeypatch):
    """Nobody has declared any family."""
    monkeypatch.setattr(patches("models"), "REGISTRY", {})


def facts(adapter):
    """What both a declaration and discovery say of a door; not the names of arguments that had to be numbered."""
    doors = getattr(adapter, "doors", None)
    told = ("blocks", "text", "text_axis", "sequence", "out", "places", "text_places", "cross", "projection")
    return None if doors is None else [[getattr(door, name) for name in told] for door in doors.kinds]


@pytest.mark.parametrize("lengths", [(6, 4), (5, 17)], ids=str)
@pytest.mark.parametrize("family", FOUND, ids=str)
def test_found(nodes, patches, discovery, monkeypatch, family, lengths):
    """As declared, and exactly; where the pooled output modulates the text, for two prompts of the same one.

    Stable Audio 3's attention can be the difference of two, which its declaration guides as a whole in every case.
    """
    patcher = family.patcher()
    declared = patches("models").find_adapter(patcher.model)
    monkeypatch.setattr(patches("models"), "REGISTRY", {})
    positive, negative = family.conditioning(1, lengths[0]), family.conditioning(2, lengths[1])
    same = {name: value for name, value in positive[0][1].items() if name not in of_text(family)}
    negative[0][1].update(same)
    run, nag = Run(family), Nag(negative)
    expected = run.sample(family.exact(patcher), guided_by(positive, nag))
    plain = run.sample(patcher, positive)
    assert difference(plain, expected) > 1e-3
    assert_close(run.sample(model_node(nodes, patcher, nag, nag_negative=negative), positive), expected)
    assert torch.equal(run.sample(patcher, positive), plain)
    (found,) = discovery.found_of(patcher.model.diffusion_model)
    numbered = any(door.names for door in found.doors.kinds)
    if facts(declared) and family.name != "stable_audio3_without_pads" and not numbered:
        assert facts(found) == facts(declared)
        net = patcher.model.diffusion_model
        assert found.text_width(net) in declared.text_widths(net)


@pytest.mark.parametrize("hidden", [(2, 0), (0, 3), (2, 3)], ids=["in the positive", "in the negative", "in both"])
def test_hidden_tokens(nodes, undeclared, hidden):
    family = BY_NAME["qwen_image"]
    positive, negative = (family.conditioning(i, 8 + i, hidden=hidden[i]) for i in (0, 1))
    run, nag, patcher = Run(family), Nag(negative), family.patcher()
    expected = run.sample(family.exact(patcher), guided_by(positive, nag))
    assert_close(run.sample(model_node(nodes, patcher, nag, nag_negative=negative), positive), expected)


@pytest.mark.parametrize("name", ["qwen_image", "cosmos_predict2", "pixart_sigma"])
def test_a_mask_and_some_blocks(nodes, undeclared, name):
    """What is found says how large a token is, and which blocks there are."""
    family = BY_NAME[name]
    run, patcher = Run(family), family.patcher()
    negative, mask, sizes = family.conditioning(11, 5), some_mask(family.latent[-2:]), family.latent[1:]
    places = mask.unsqueeze(1).expand(-1, *sizes) if len(sizes) > 2 else mask
    patch = (2, 2) if len(sizes) == 2 else (1, 2, 2)
    second = {"blocks": frozenset({(COUNTED, 1)})}
    nags = {"all": of_mask(negative, places, patch=patch, lengths=(5,)), "1": Nag(negative, **second)}
    for text, nag in nags.items():
        given = masked(negative, mask) if text == "all" else negative
        chosen = {"nag_negative": given, "options": options(nodes, nag, blocks=text)}
        result = run.sample(model_node(nodes, patcher, nag, **chosen))
        assert_close(result, run.sample(family.exact(patcher), guided_by(run.positive, nag)))


@pytest.mark.parametrize("name", REFUSED)
def test_refused(nodes, undeclared, name):
    """Before the first step, in a sentence that says what was seen."""
    family = BY_NAME[name]
    run, patcher = Run(family), family.patcher()
    hooks = hooks_on(patcher.model)
    with pytest.raises(ValueError, match=f"find out by itself where its text meets its picture: .*{REFUSED[name]}"):
        run.sample(model_node(nodes, patcher, Nag(run.negative)))
    assert hooks_on(patcher.model) == hooks


def hooks_on(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


ONE_OF_A_KIND = [BY_NAME[name] for name in ("qwen_image", "lumina2", "cosmos_predict2", "sd35_medium", "pixart_sigma")]
every_kind = pytest.mark.parametrize("family", ONE_OF_A_KIND, ids=str)


@every_kind
def test_once_for_each_model(nodes, patches, undeclared, discovery, monkeypatch, caplog, family):
    """In a line of the log, and without touching the seed."""
    caplog.set_level(logging.INFO)
    run, patcher = Run(family, steps=1), family.patcher()
    looked, look, seeds = [], discovery.look, []
    monkeypatch.setattr(discovery, "look", lambda *args: looked.append(args) or look(*args))
    looking = patches("models.discovery.looking")
    read = looking.read
    monkeypatch.setattr(looking, "read", lambda *args: seeds.append(torch.rand(1)) or read(*args))
    guided, states = model_node(nodes, patcher, Nag(run.negative)), []
    for _ in range(2):
        states.append(run.sample(guided))
    assert len(looked) == 1 and seeds and torch.equal(*states)
    kind = type(patcher.model.diffusion_model).__name__
    said = [record.getMessage() for record in caplog.records]
    assert sum(f"for where text and picture meet in {kind}" in line for line in said) == 1
    assert any(f"found, not declared: {kind}" in line for line in said)
    seeded = [torch.manual_seed(1), torch.rand(1)][1]
    discovery._found.clear()
    torch.manual_seed(1)
    with torch.inference_mode():
        look(*looked[0])
    assert torch.equal(torch.rand(1), seeded)


@every_kind
def test_the_node_is_told(nodes, patches, undeclared, family):
    run, patcher, told = Run(family, steps=1), family.patcher(), []
    advise = lambda sentences, idle: told.append((sentences, idle))
    request = patches("sampling.request").Request(patches("settings").Settings(), advise=advise)
    run.sample(patches("sampling.entry").guide_model(patcher, request))
    (((said,), idle),) = told
    assert not idle and said.startswith(f"found, not declared: {type(patcher.model.diffusion_model).__name__}")
    assert ("pooled output" in said) == (family.name == "sd35_medium")


@every_kind
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_low_precision(nodes, undeclared, discovery, family, dtype):
    run, patcher = Run(family, steps=1), family.patcher(dtype)
    run.sample(model_node(nodes, patcher, Nag(run.negative)))
    assert discovery.found_of(patcher.model.diffusion_model)


@every_kind
def test_batch_of_two_with_cfg(nodes, undeclared, family):
    run, patcher = Run(family, cfg=3.0, batch=2), family.patcher()
    positive = run.positive
    negative = [[family.conditioning(11, 9)[0][0], {**run.negative[0][1], **positive[0][1]}]]
    nag = Nag(negative)
    expected = run.sample(family.exact(patcher), guided_by(positive, nag))
    assert_close(run.sample(patcher, conditioning_node(nodes, positive, nag)), expected)


class HasNoRoom(comfy.model_patcher.ModelPatcher):
    """Of a model on a device without memory: each layer brings its weights when it is called."""

    def partially_load(self, device_to, extra_memory=0, force_patch_weights=False):
        return super().partially_load(device_to, 1, force_patch_weights)


@every_kind
def test_offloaded_weights(nodes, undeclared, discovery, family):
    run, nag = Run(family, steps=1), Nag(Run(family).negative)
    patcher = patcher_of(family, weights_of(family), torch.float32, patcher=HasNoRoom)
    offloaded = run.sample(model_node(nodes, patcher, nag))
    assert any(getattr(module, "comfy_cast_weights", False) for module in patcher.model.modules())
    assert discovery.found_of(patcher.model.diffusion_model)
    assert torch.equal(offloaded, run.sample(model_node(nodes, family.patcher(), nag)))


def test_a_model_that_is_gone_is_forgotten(nodes, patches, monkeypatch):
    """Also one of which nothing was found."""
    monkeypatch.setattr(patches("models"), "REGISTRY", {})
    facts = patches("models.discovery")._found
    for name in ("qwen_image", "sd15"):
        family = dataclasses.replace(BY_NAME[name], build=lambda dtype, of=BY_NAME[name]: of.build(dtype))
        run, patcher = Run(family, steps=1), family.patcher()
        with contextlib.suppress(ValueError):
            run.sample(model_node(nodes, patcher, Nag(run.negative)))
        before = len(facts)
        assert patcher.model.diffusion_model in facts
        comfy.model_management.current_loaded_models.clear()
        _patcher.cache_clear()
        del patcher
        gc.collect()
        assert len(facts) < before


def test_switched_off(nodes, undeclared):
    patcher = ONE_OF_A_KIND[0].patcher()
    options = out(nodes.NAGOptions, 0.0, 1.0, "shared", unknown_models=False)
    with pytest.raises(ValueError, match="QwenImageTransformer2DModel, and NAG has no adapter for it yet"):
        out(nodes.NAGModel, patcher, options=options)
    run = Run(ONE_OF_A_KIND[0])
    positive = out(nodes.NAGConditioning, run.positive, run.negative, options=options)
    with pytest.raises(ValueError, match="QwenImageTransformer2DModel, and NAG has no adapter for it yet"):
        run.sample(patcher, positive)


@every_kind
def test_wrong_encoder(nodes, undeclared, family):
    """The positive has told what the width is."""
    run, patcher = Run(family, steps=1), family.patcher()
    text, values = run.negative[0]
    wrong = [[torch.cat((text, text[..., :6]), -1), values]]
    with pytest.raises(ValueError, match="The NAG negative's embedding is 30 wide.*takes 24"):
        run.sample(model_node(nodes, patcher, Nag(wrong), nag_negative=wrong))


WRONG = {
    "the other end": lambda found: dataclasses.replace(found.doors, image_first=lambda model: True),
    "no second list": lambda found: dataclasses.replace(found.doors, kinds=found.doors.kinds[:1]),
    "no places": lambda found: dataclasses.replace(
        found.doors, kinds=tuple(dataclasses.replace(door, places=None, text_places=None) for door in found.doors.kinds)
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_doors_do_not_stand_the_trial(nodes, patches, undeclared, monkeypatch, wrong):
    looking = patches("models.discovery.looking")
    read = looking.read
    change = lambda found: dataclasses.replace(found, doors=WRONG[wrong](found))
    monkeypatch.setattr(looking, "read", lambda *seen: change(read(*seen)))
    run, patcher = Run(BY_NAME["chroma"], steps=1), BY_NAME["chroma"].patcher()
    with pytest.raises(ValueError, match="find out by itself"):
        run.sample(model_node(nodes, patcher, Nag(run.negative)))


@pytest.mark.parametrize("name", ["chroma", "lumina2", "ltxv", "pixart_sigma", "omnigen2"])
def test_declaration_to_paste(nodes, patches, undeclared, discovery, name):
    """It makes the doors that were found."""
    family = BY_NAME[name]
    run, patcher = Run(family, steps=1), family.patcher()
    run.sample(model_node(nodes, patcher, Nag(run.negative)))
    (found,) = discovery.found_of(patcher.model.diffusion_model)
    source = patches("models.discovery.declaration").declaration(found)
    names = {name: vars(patches(module))[name] for module, names in {
        "models.transformer": ("Transformer", "NOBODYS", "padded"), "models.doors": ("Door", "Doors"),
        "models.projection": ("Projection",),
    }.items() for name in names}  # fmt: skip
    exec(source, names)
    pasted = names["FOUND"]
    net = patcher.model.diffusion_model
    assert facts(pasted) == facts(found) and pasted.text_width(net) == found.text_width(net)
    assert pasted.doors.text_module == found.doors.text_module and pasted.n_tokens(net, 9) == found.n_tokens(net, 9)


def test_declaration_on_the_command_line():
    command = [sys.executable, "-m", "host.declare", "lumina2"]
    said = subprocess.run(command, cwd=PACK, capture_output=True, text=True, check=True, timeout=300).stdout
    assert 'Door(blocks="layers", sequence="x", places="freqs_cis")' in said and said.rstrip().endswith(")")
