"""ComfyUI runs a UNet once a step for positive and negative together; NAG leaves that so."""
import pytest

from families import BY_NAME
from runs import Run
from subject import out

pytestmark = pytest.mark.usefixtures("inference_mode")


@pytest.fixture
def model_calls():
    """Counts the calls of a ModelPatcher's diffusion model."""
    hooks = []

    def count(patcher):
        calls = []
        hooks.append(patcher.model.diffusion_model.register_forward_pre_hook(lambda *_: calls.append(1)))
        return calls

    yield count
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("family", [BY_NAME["sd15"], BY_NAME["sdxl"]], ids=str)
@pytest.mark.parametrize("node", ["none", "NAGModel", "NAGConditioning"])
@pytest.mark.parametrize(("negative_tokens", "batch"), [(6, 1), (4, 2)])
def test_one_call_a_step(nodes, model_calls, family, node, negative_tokens, batch):
    run, patcher = Run(family, cfg=3.0, batch=batch, negative_tokens=negative_tokens), family.patcher()
    positive, calls = run.positive, model_calls(patcher)
    if node == "NAGModel":
        patcher = out(nodes.NAGModel, patcher, family.conditioning(11, 5))
    elif node == "NAGConditioning":
        positive = out(nodes.NAGConditioning, positive, family.conditioning(11, 5))
    run.sample(patcher, positive)
    assert len(calls) == run.steps


@pytest.mark.parametrize("family", [BY_NAME["sd35_large"], BY_NAME["flux_dev"], BY_NAME["wan21_t2v"]], ids=str)
def test_no_call_more_without_cfg(nodes, model_calls, family):
    run, patcher = Run(family), family.patcher()
    calls = model_calls(patcher)
    run.sample(out(nodes.NAGModel, patcher))
    assert len(calls) == run.steps
