"""Where NAG does not act, the picture is the one without it, to the bit."""
import pytest
import torch

from families import FAMILIES
from runs import Run, custom_sample
from subject import out

pytestmark = pytest.mark.usefixtures("inference_mode")
every_family = pytest.mark.parametrize("family", FAMILIES, ids=str)
OFF = {"scale 1": {"nag_scale": 1.0}, "alpha 0": {"nag_alpha": 0.0}, "strength 0": {"strength": 0.0}}


@every_family
@pytest.mark.parametrize("numbers", OFF.values(), ids=OFF.keys())
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_switched_off(nodes, family, numbers, cfg):
    run, patcher = Run(family, cfg=cfg), family.patcher()
    plain = run.sample(patcher)
    assert torch.equal(run.sample(out(nodes.NAGModel, patcher, **numbers)), plain)
    positive = out(nodes.NAGConditioning, run.positive, run.negative, **numbers)
    assert torch.equal(run.sample(patcher, positive), plain)


@every_family
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_no_step_in_range(nodes, family, cfg):
    run, patcher = Run(family, cfg=cfg), family.patcher()
    plain = run.sample(patcher)
    never = out(nodes.NAGOptions, 1.0, 1.0, "shared")
    assert torch.equal(run.sample(out(nodes.NAGModel, patcher, options=never)), plain)
    positive = out(nodes.NAGConditioning, run.positive, run.negative, options=never)
    assert torch.equal(run.sample(patcher, positive), plain)


@every_family
def test_no_sigma_in_range(nodes, family):
    run, patcher = Run(family), family.patcher()
    guider = out(nodes.NAGGuider, patcher, run.positive, run.negative, 5.0, 2.5, 0.25, 20.0)
    assert torch.equal(custom_sample(run, patcher, guider), run.sample(patcher))
