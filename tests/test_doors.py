"""Families whose negative waits at the doors, through ComfyUI's samplers, against the model itself in lockstep."""
import pytest
import torch
from torch._dynamo.utils import counters

from door_families import BY_NAME, FAMILIES
from door_families.pooled import ONE_ROW
from oracle.equation import Nag
from oracle.sampling import guided_by
from runs import Run, assert_close, difference
from stock import stock
from subject import conditioning_node, model_node, out

pytestmark = pytest.mark.usefixtures("inference_mode")
every_family = pytest.mark.parametrize("family", [*FAMILIES, *ONE_ROW], ids=str)


@every_family
@pytest.mark.parametrize("lengths", [(6, 4), (5, 18), (8, 8)], ids=str)
def test_model_with_the_samplers_negative(nodes, family, lengths):
    run, patcher = Run(family, positive_tokens=lengths[0], negative_tokens=lengths[1]), family.patcher()
    nag = Nag(run.negative)
    expected = run.sample(family.lockstep(), guided_by(run.positive, nag))
    plain = run.sample(patcher)
    assert difference(plain, expected) > 1e-3
    assert_close(run.sample(model_node(nodes, patcher, nag)), expected)
    assert torch.equal(run.sample(patcher), plain)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
@pytest.mark.parametrize("window", [(0.0, 0.5), (0.5, 1.0)], ids=["stops early", "starts late"])
def test_batch_of_two_with_cfg_and_a_part_of_the_steps(nodes, family, window):
    run, patcher = Run(family, cfg=3.0, batch=2, steps=4), family.patcher()
    nag = Nag(family.conditioning(11, 9), start_percent=window[0], end_percent=window[1])
    expected = run.sample(family.lockstep(), guided_by(run.positive, nag))
    assert_close(run.sample(patcher, conditioning_node(nodes, run.positive, nag)), expected)


ONE_OF_A_KIND = [BY_NAME[name] for name in ("qwen_image", "z_image")]


@pytest.mark.parametrize("family", ONE_OF_A_KIND, ids=str)
def test_what_other_nodes_see_between_the_blocks(nodes, family):
    """Their patches of blocks get a sequence without the negative, and what they change is changed."""
    run, patcher = Run(family), family.patcher()

    def patched(model, seen):
        def see(given):
            shapes = [given[name].shape for name in ("img", "txt", "pe") if name in given]
            seen.append((given["block_index"], *shapes))
            return {"img": given["img"] * 1.01, "txt": given["txt"]}

        model = model.clone()
        model.set_model_patch(see, "double_block")
        return model

    nag, plain, guided, exact = Nag(run.negative), [], [], []
    run.sample(patched(patcher, plain))
    if not plain:
        pytest.skip("this ComfyUI has no such patches here")
    result = run.sample(patched(model_node(nodes, patcher, nag), guided))
    assert guided == plain
    lockstep = run.sample(patched(family.lockstep(), exact), guided_by(run.positive, nag))
    assert_close(result, lockstep)


@pytest.mark.parametrize("family", [*ONE_OF_A_KIND, BY_NAME["pixart_sigma"]], ids=str)
@pytest.mark.parametrize("backend", ["eager"])
def test_compiled_as_a_whole(nodes, family, backend, nothing_compiled):
    """One graph without the negative's rehearsal, for prompts of all lengths and all strengths."""
    patcher = family.patcher()
    for lengths, scale in [((6, 4), 4.0), ((5, 9), 4.0), ((7, 3), 6.0), ((12, 8), 2.0), ((3, 5), 9.0)]:
        run = Run(family, steps=2, positive_tokens=lengths[0], negative_tokens=lengths[1])
        model = model_node(nodes, patcher, Nag(run.negative, scale=scale))
        assert_close(run.sample(stock("TorchCompileModel", model=model, backend=backend)[0]), run.sample(model))
    assert 0 < counters["stats"]["unique_graphs"] <= 3


@every_family
def test_two_entries_of_a_negative(nodes, family):
    """Their order means nothing, and each counts; apart in time, each is what it would be alone."""
    run, patcher = Run(family, steps=4), family.patcher()
    guided = lambda negative: run.sample(model_node(nodes, patcher, Nag(negative), nag_negative=negative))
    first, second = family.conditioning(12, 3), family.conditioning(13, 5)
    assert_close(guided(first + second), guided(second + first))
    assert min(difference(guided(first + second), guided(each)) for each in (first, second)) > 1e-4
    early = family.conditioning(12, 3, start_percent=0.0, end_percent=0.5)
    late = family.conditioning(13, 5, start_percent=0.5001, end_percent=1.0)
    halfway = model_node(nodes, patcher, Nag(first, end_percent=0.5), nag_negative=first)
    assert_close(guided(early), run.sample(halfway))
    assert difference(guided(early + late), guided(early)) > 1e-4


@every_family
def test_bfloat16(nodes, family):
    run, patcher = Run(family, steps=2), family.patcher(torch.bfloat16)
    off_by = lambda change: difference(run.sample(change(patcher)), run.sample(change(family.patcher())))
    guided = lambda model: model_node(nodes, model, Nag(run.negative))
    assert off_by(guided) < max(0.06, 2 * off_by(lambda model: model))


# Stable Cascade's blocks are known by that argument among those of other kinds, so that none is found there.
@pytest.mark.parametrize("family", [each for each in FAMILIES if each.name != "stable_cascade"], ids=str)
def test_a_block_that_has_lost_an_argument(nodes, patches, monkeypatch, family):
    """As where a release of ComfyUI renames it: said at the node, by its name."""
    model = family.patcher().model
    adapter = patches("models").find_adapter(model)
    (door, *_), net = adapter.doors.kinds, model.diffusion_model
    block = door.find(net)[0]
    monkeypatch.setattr(type(block), "forward", lambda self, other: None)
    with pytest.raises(RuntimeError, match=rf"lacks {type(block).__name__}\.forward\({door.text or door.sequence}\)"):
        out(nodes.NAGModel, family.patcher())
