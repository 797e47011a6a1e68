"""What other nodes put into a model stays in force under NAG, and NAG under it."""
import comfy.controlnet
import comfy.ldm.modules.attention as host
import pytest
import torch

from families import BY_NAME, FAMILIES, FAMILY_AND_STREAM
from oracle.equation import Nag
from oracle.sampling import guided_by
from runs import Run, assert_close
from subject import model_node

pytestmark = pytest.mark.usefixtures("inference_mode")
UNETS = [BY_NAME["sd15"], BY_NAME["sdxl"]]


@pytest.mark.parametrize(("family", "stream"), FAMILY_AND_STREAM, ids=str)
def test_attention_override_of_another_node(nodes, family, stream):
    run, patcher = Run(family, cfg=3.0, batch=2, negative_tokens=6), family.patcher()
    kept = []

    def override(func, *args, **kwargs):
        result = host.attention_basic(*args, **{**kwargs, "_inside_attn_wrapper": True})
        kept.append((result, result.clone()))
        return result

    patched = patcher.clone()
    patched.model_options["transformer_options"]["optimized_attention_override"] = override
    nag = Nag(run.negative, image_stream=stream)
    result = run.sample(model_node(nodes, patched, nag))
    assert_close(result, run.oracle(patcher, guided_by(run.positive, nag)))
    assert kept and all(result.equal(as_returned) for result, as_returned in kept)


class Residuals(comfy.controlnet.ControlBase):
    """A ControlNet that adds the same to every block, shorter than the image, as Flux's may be."""

    def __init__(self, shape, where):
        super().__init__()
        generator = torch.Generator().manual_seed(8)
        self.residuals = {place: [torch.randn(shape, generator=generator), None] for place in where}

    def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
        return {place: list(residuals) for place, residuals in self.residuals.items()}


CONTROLLED = [(family, stream) for family, stream in FAMILY_AND_STREAM if family.name in ("flux_schnell", "sd35_large")]


@pytest.mark.parametrize(("family", "stream"), CONTROLLED, ids=str)
def test_controlnet(nodes, family, stream):
    run, patcher = Run(family, cfg=3.0), family.patcher()
    width, tokens = (48, 20) if family.name == "flux_schnell" else (128, 24)
    control = Residuals((1, tokens, width), ("input", "output"))
    positive = family.conditioning(1, 6, control=control, control_apply_to_uncond=True)
    nag = Nag(run.negative, image_stream=stream)
    result = run.sample(model_node(nodes, patcher, nag), positive)
    assert_close(result, run.oracle(patcher, guided_by(positive, nag)))


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_cfg_functions_of_another_node(nodes, family):
    """A sampler_cfg_function sees the guided positive."""
    run, patcher = Run(family, cfg=3.0), family.patcher()
    patched = patcher.clone()
    patched.set_model_sampler_cfg_function(lambda args: args["cond"] * args["cond_scale"] - args["uncond"] * 2.0)
    nag = Nag(run.negative)
    result = run.sample(model_node(nodes, patched, nag))
    assert_close(result, run.oracle(patcher, guided_by(run.positive, nag)))  # with cfg 3, that is CFG


@pytest.mark.parametrize("family", UNETS, ids=str)
def test_the_last_nag_on_a_model_counts(nodes, family):
    run, patcher = Run(family), family.patcher()
    first, last = Nag(family.conditioning(11, 5), scale=9.0), Nag(run.negative)
    result = run.sample(model_node(nodes, model_node(nodes, patcher, first, nag_negative=first.negative), last))
    assert_close(result, run.oracle(patcher, guided_by(run.positive, last)))
