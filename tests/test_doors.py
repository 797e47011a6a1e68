"""Families whose negative waits at the doors, through ComfyUI's samplers, against the model itself in lockstep."""
import pytest
import torch

from door_families import FAMILIES
from oracle.equation import Nag
from oracle.sampling import guided_by
from runs import Run, assert_close, difference
from subject import conditioning_node, model_node

pytestmark = pytest.mark.usefixtures("inference_mode")
every_family = pytest.mark.parametrize("family", FAMILIES, ids=str)


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


@every_family
@pytest.mark.parametrize("window", [(0.0, 0.5), (0.5, 1.0)], ids=["stops early", "starts late"])
def test_batch_of_two_with_cfg_and_a_part_of_the_steps(nodes, family, window):
    run, patcher = Run(family, cfg=3.0, batch=2, steps=4), family.patcher()
    nag = Nag(family.conditioning(11, 9), start_percent=window[0], end_percent=window[1])
    expected = run.sample(family.lockstep(), guided_by(run.positive, nag))
    assert_close(run.sample(patcher, conditioning_node(nodes, run.positive, nag)), expected)
