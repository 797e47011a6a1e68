"""NAG leaves nothing behind: not after a run, not after an interrupted one, not after one that failed."""
import comfy.model_management
import comfy.utils
import pytest
import torch

from mechanisms import MECHANISM_AND_STREAM
from runs import Run
from subject import out
from traces import Everything, Failure

pytestmark = pytest.mark.usefixtures("inference_mode")


def interrupt_at_second_step(patcher):
    """As the Cancel button does; ComfyUI's progress hook then raises."""

    def progress(value, *_, **__):
        if value == 2:
            comfy.model_management.interrupt_current_processing()
        comfy.model_management.throw_exception_if_processing_interrupted()

    comfy.utils.set_progress_bar_global_hook(progress)
    return lambda: comfy.utils.set_progress_bar_global_hook(None)


def interrupt_inside_the_model(patcher):
    return _at_last_layer(patcher, 2, comfy.model_management.InterruptProcessingException)


def fail_inside_the_model(patcher):
    return _at_last_layer(patcher, 2, Failure)


def fail_in_the_first_call(patcher):
    return _at_last_layer(patcher, 1, Failure)


def _at_last_layer(patcher, call, error):
    """Raise where everything that NAG attaches is attached: after the last attention."""
    layers = [module for name, module in patcher.model.diffusion_model.named_modules() if name.endswith(LAST_LAYERS)]
    calls = []

    def check(*_):
        calls.append(1)
        if len(calls) == call:
            raise error()

    return layers[-1].register_forward_pre_hook(check).remove


LAST_LAYERS = ("final_layer", "final_linear", "clf", "head", "out")
ENDS = {
    "a run": None,
    "interrupted between steps": (interrupt_at_second_step, comfy.model_management.InterruptProcessingException),
    "interrupted in the model": (interrupt_inside_the_model, comfy.model_management.InterruptProcessingException),
    "failed in the model": (fail_inside_the_model, Failure),
    "failed in the first call": (fail_in_the_first_call, Failure),
}


every_stream = pytest.mark.parametrize(("family", "stream"), MECHANISM_AND_STREAM, ids=str)


@every_stream
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_no_trace_of_model(nodes, family, stream, end):
    run, patcher = Run(family, cfg=3.0, steps=2), family.patcher()
    options = out(nodes.NAGOptions, 0.0, 1.0, stream)
    negative = run.negative
    guide = lambda positive: (out(nodes.NAGModel, patcher, negative, options=options), positive)
    leaves_no_trace(run, patcher, guide, end)


@every_stream
@pytest.mark.parametrize("end", [ENDS["a run"], ENDS["failed in the model"]], ids=["a run", "failed in the model"])
def test_no_trace_of_conditioning(nodes, family, stream, end):
    run, patcher = Run(family, cfg=3.0, steps=2), family.patcher()
    options = out(nodes.NAGOptions, 0.0, 1.0, stream)
    negative = run.negative
    guide = lambda positive: (patcher, out(nodes.NAGConditioning, positive, negative, options=options))
    leaves_no_trace(run, patcher, guide, end)


def leaves_no_trace(run, patcher, guide, end):
    """`guide` makes of a positive the guided (model, positive); `end` is one of ENDS."""
    positive, negative = run.positive, run.negative
    plain = run.sample(patcher, positive, negative)
    before = Everything(patcher, positive, negative)
    model, guided = guide(positive)
    of_node = Everything(model, guided)
    if end is None:
        run.sample(model, guided, negative)
    else:
        prepare, error = end
        undo = prepare(patcher)
        try:
            with pytest.raises(error):
                run.sample(model, guided, negative)
        finally:
            undo()
    assert before.is_as_before()
    assert of_node.is_as_before()
    assert torch.equal(run.sample(patcher, positive, negative), plain)


@every_stream
def test_the_same_node_again_gives_the_same(nodes, family, stream):
    run = Run(family, cfg=3.0)
    model = out(nodes.NAGModel, family.patcher(), options=out(nodes.NAGOptions, 0.0, 1.0, stream))
    assert torch.equal(run.sample(model), run.sample(model))
