"""Everything of ours follows the latent to its device. Here that is PyTorch's meta device, which computes nothing but
refuses tensors of another."""
import pytest
import torch

from mechanisms import MECHANISM_AND_STREAM
from runs import Run
from stored import patcher_of, weights_of
from subject import out

pytestmark = pytest.mark.usefixtures("inference_mode")
every_stream = pytest.mark.parametrize(("family", "stream"), MECHANISM_AND_STREAM, ids=str)
DEVICE = torch.device("meta")


def moved(value):
    if isinstance(value, list):
        return [moved(item) for item in value]
    return value.to(DEVICE) if torch.is_tensor(value) else value


@every_stream
@pytest.mark.parametrize("offloaded", [False, True], ids=["weights there", "weights on the CPU"])
def test_the_negative_comes_along(nodes, family, stream, offloaded):
    """In multi-GPU mode it is on the device of the first model only, and weights can be elsewhere at any time."""
    run, calls = Run(family, cfg=2.0, steps=1), []
    patcher = patcher_of(family, weights_of(family), torch.float32)
    guided = out(nodes.NAGModel, patcher, options=out(nodes.NAGOptions, 0.0, 1.0, stream))

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
