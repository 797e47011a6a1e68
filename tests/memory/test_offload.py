"""Weights that do not fit on the device: ComfyUI then brings each layer's when the layer is called."""
import comfy.model_patcher
import pytest
import torch

from mechanisms import MECHANISM_AND_STREAM
from oracle.equation import Nag
from oracle.sampling import guided_by
from runs import Run, assert_close
from stored import in_float32, patcher_of, weights_of
from subject import out

pytestmark = pytest.mark.usefixtures("inference_mode")
every_stream = pytest.mark.parametrize(("family", "stream"), MECHANISM_AND_STREAM, ids=str)


class HasRoomForHalf(comfy.model_patcher.ModelPatcher):
    """Of a model on a device with memory for one half of the weights."""

    SHARE = 0.5

    def partially_load(self, device_to, extra_memory=0, force_patch_weights=False):
        room = max(self.SHARE * self.model_size() - self.loaded_size(), 1)
        return super().partially_load(device_to, min(extra_memory, room), force_patch_weights)


class HasNoRoom(HasRoomForHalf):
    SHARE = 0.0


def cast_weights(patcher):
    """How many layers bring their weights when they are called."""
    return sum(getattr(module, "comfy_cast_weights", False) for module in patcher.model.modules())


@pytest.fixture
def guide(nodes):
    def guide(patcher, nag):
        options = out(nodes.NAGOptions, nag.start_percent, nag.end_percent, nag.image_stream)
        numbers = {"nag_scale": nag.scale, "nag_tau": nag.tau, "nag_alpha": nag.alpha}
        return out(nodes.NAGModel, patcher, **numbers, options=options)

    return guide


@every_stream
def test_weights_brought_for_each_layer(guide, family, stream):
    run = Run(family, cfg=2.0, steps=2)
    nag = Nag(run.negative, image_stream=stream)
    patcher = patcher_of(family, weights_of(family), torch.float32, patcher=HasRoomForHalf)
    result = run.sample(guide(patcher, nag))
    assert cast_weights(patcher)
    assert torch.equal(result, run.sample(guide(family.patcher(), nag)))


@every_stream
@pytest.mark.parametrize("first", ["NAG first", "patches first"])
def test_weights_patched_when_they_are_brought(guide, family, stream, first):
    """As a LoRA's are: the device never holds the patched weights of the whole model."""
    run = Run(family, cfg=2.0, steps=2)
    nag = Nag(run.negative, image_stream=stream)
    state = weights_of(family)
    torch.manual_seed(5)
    of_layers = {name: value for name, value in state.items() if name.endswith(".weight") and value.ndim == 2}
    changes = {name: torch.randn_like(value) * value.std() / 2 for name, value in of_layers.items()}
    patches = {f"diffusion_model.{name}": ("diff", (change,)) for name, change in changes.items()}
    patcher = patcher_of(family, state, torch.float32, patcher=HasNoRoom)
    if first == "NAG first":
        patcher = guide(patcher, nag)
        patcher.add_patches(patches)
    else:
        patcher.add_patches(patches)
        patcher = guide(patcher, nag)
    result = run.sample(patcher)
    assert patcher.model.lowvram_patch_counter > 10
    patched = in_float32(family, {name: value + changes.get(name, 0) for name, value in state.items()})
    assert_close(result, run.oracle(patched, guided_by(run.positive, nag)))
