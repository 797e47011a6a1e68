"""Everything of ours follows the latent to its device. Here that is PyTorch's meta device, which computes nothing but
refuses tensors of another."""
import pytest
import torch
from test_threads import CONTROLS, FURTHER, WITH_CONTROLS, half

from mechanisms import MECHANISM_AND_STREAM
from runs import Run
from stored import patcher_of, weights_of
from subject import out

pytestmark = pytest.mark.usefixtures("inference_mode")
every_stream = pytest.mark.parametrize(("family", "stream"), MECHANISM_AND_STREAM, ids=str)
DEVICE = torch.device("meta")
ASKING = {"hidream", "sana", "ace_step15"}  # the model's own code asks what is in a tensor


def moved(value):
    if isinstance(value, list):
        return [moved(item) for item in value]
    return value.to(DEVICE) if torch.is_tensor(value) else value


@every_stream
@pytest.mark.parametrize("offloaded", [False, True], ids=["weights there", "weights on the CPU"])
def test_the_negative_comes_along(nodes, family, stream, offloaded):
    """In multi-GPU mode it is on the device of the first model only, and weights can be elsewhere at any time."""
    check_device(nodes, family, offloaded, {"start_percent": 0.0, "end_percent": 1.0, "image_stream": stream})


@pytest.mark.parametrize("family", [family for family in FURTHER if family.name not in ASKING], ids=str)
def test_that_of_further_families_does(nodes, family):
    check_device(nodes, family, False, {"end_percent": 1.0})


@pytest.mark.parametrize(("family", "control"), [row for row in WITH_CONTROLS if row[1] != "list"], ids=str)
def test_what_is_controlled_comes_along(nodes, family, control):
    """But a schedule, for which sigma is read."""
    where = {"mask": half(), "mask_strength": 1.0} if control == "mask" else {}
    check_device(nodes, family, False, CONTROLS[control], family.conditioning(2, 4, **where))


def check_device(nodes, family, offloaded, options, negative=None):
    """The guided call of a run, done again there. negative: the sampler's, if there is no other."""
    run, calls = Run(family, cfg=2.0, steps=1), []
    patcher = patcher_of(family, weights_of(family), torch.float32)
    guided = out(nodes.NAGModel, patcher, nag_negative=negative, options=out(nodes.NAGOptions, **options))

    def note(apply_model, call):
        calls.append(({"x": call["input"], "t": call["timestep"], **call["c"]}, call["cond_or_uncond"]))
        return apply_model(call["input"], call["timestep"], **call["c"])

    guided.set_model_unet_function_wrapper(note)
    run.sample(guided)
    (given,) = (given for given, kinds in calls if 0 in kinds)  # the guided call
    if offloaded:
        patcher.model.model_sampling.to(DEVICE)
        for module in patcher.model.modules():
            if hasattr(module, "comfy_cast_weights"):
                module.comfy_cast_weights = True
    else:
        patcher.model.to(DEVICE)
    denoised = patcher.model.apply_model(**{name: moved(value) for name, value in given.items()})
    assert (denoised.device, denoised.shape) == (DEVICE, given["x"].shape)
