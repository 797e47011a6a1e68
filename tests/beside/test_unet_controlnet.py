"""What steers a UNet by a picture or by boxes, beside NAG: it acts on the one image that both prompts share."""
import dataclasses

import comfy.controlnet
import comfy.model_base
import comfy.supported_models
import pytest
import torch
from comfy.gligen import GatedSelfAttentionDense, Gligen, PositionNet
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.model_patcher import ModelPatcher
from comfy.t2i_adapter.adapter import Adapter

from families import BY_NAME, TEXT
from oracle.equation import Nag
from oracle.sampling import guided_by
from runs import Run, assert_close, difference
from stock import stock
from subject import conditioning_node, model_node
from unet_control import CPU, HINT, apply_advanced, control_model, controlnet, unet_config
from unet_others import exact_unet
from unet_weights import randomised, tiny_clip

pytestmark = pytest.mark.usefixtures("inference_mode")
SD15, SDXL = BY_NAME["sd15"], BY_NAME["sdxl"]


def two_blocks_a_level(dtype):
    """As many as real UNets have, on which T2I adapters count."""
    more = {"num_res_blocks": [2, 2], "transformer_depth": [1] * 4, "transformer_depth_output": [1] * 6}
    config = comfy.supported_models.SD15({**unet_config(SD15), **more, "dtype": dtype})
    return comfy.model_base.BaseModel(config, comfy.model_base.ModelType.EPS)


def control_lora(family):
    """Its weights are the UNet's own where it has none, or a LoRA to those."""
    own = family.patcher().model.diffusion_model.state_dict()
    weights = {key: value for key, value in control_model(family).state_dict().items() if key not in own}
    generator = torch.Generator().manual_seed(53)
    for key, value in own.items():
        if key.startswith("input_blocks") and ".attn2.to_k." in key:
            layer = key.removesuffix(".weight")
            weights[f"{layer}.up"] = torch.randn(value.shape[0], 2, generator=generator) / 4
            weights[f"{layer}.down"] = torch.randn(2, value.shape[1], generator=generator) / 4
    return comfy.controlnet.ControlLora(weights)


def t2i_adapter():
    adapter = Adapter(cin=3 * 8 * 8, channels=[32, 64], nums_rb=2, ksize=1, sk=True, use_conv=False, xl=False)
    return comfy.controlnet.T2IAdapter(randomised(adapter, 54), 3, 8, "nearest-exact", CPU)


def apply_late(control, positive, negative):
    return apply_advanced(control, positive, negative, start=0.5)


def apply_early(control, positive, negative):
    return apply_advanced(control, positive, negative, end=0.4)


def apply_to_positive(control, positive, negative):
    """ComfyUI then gives it to the negative of CFG, too."""
    return *stock("ControlNetApply", conditioning=positive, control_net=control, image=HINT, strength=0.8), negative


def apply_to_positive_only(control, positive, negative):
    return apply_advanced(control, positive, positive)[0], negative


def compare(nodes, run, apply):
    """`apply` makes of a positive and a negative the (positive, negative) with another node's work in them."""
    patcher, nag = run.family.patcher(), Nag(run.family.conditioning(11, 5))
    positive, negative = apply(run.positive, run.negative)
    exact = exact_unet(patcher)
    expected = run.sample(exact, guided_by(positive, nag), negative)
    assert difference(run.sample(exact, guided_by(run.positive, nag)), expected) > 0.005, "the other node does nothing"
    by_model = model_node(nodes, patcher, nag, nag_negative=nag.negative)
    assert_close(run.sample(by_model, positive, negative), expected)
    assert_close(run.sample(patcher, conditioning_node(nodes, positive, nag), negative), expected)
    guided_first = apply(conditioning_node(nodes, run.positive, nag), run.negative)
    assert_close(run.sample(patcher, *guided_first), expected)


APPLIED = [apply_advanced, apply_late, apply_early, apply_to_positive, apply_to_positive_only]


@pytest.mark.parametrize("family", [SD15, SDXL], ids=str)
@pytest.mark.parametrize("apply", APPLIED)
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_controlnet(nodes, family, apply, cfg):
    """The ControlNet itself reads the positive alone."""
    run, control = Run(family, cfg=cfg, steps=4, negative_tokens=6), controlnet(family)
    compare(nodes, run, lambda *conditionings: apply(control, *conditionings))


def test_control_of_the_negative(nodes):
    """NAG's negative is about the same image as the positive, so the positive's ControlNet holds for both."""
    run, patcher = Run(SD15, cfg=3.0), SD15.patcher()
    nag = Nag(SD15.conditioning(11, 5))
    positive, negative = apply_advanced(controlnet(SD15), run.positive, nag.negative)
    expected = run.sample(model_node(nodes, patcher, nag, nag_negative=nag.negative), positive)
    assert torch.equal(run.sample(model_node(nodes, patcher, nag, nag_negative=negative), positive), expected)


@pytest.mark.parametrize("family", [SD15, SDXL], ids=str)
def test_control_lora(nodes, family):
    run, control = Run(family, cfg=3.0, batch=2), control_lora(family)
    compare(nodes, run, lambda *conditionings: apply_advanced(control, *conditionings))


TWO_BLOCKS = dataclasses.replace(SD15, name="sd15, two blocks a level", build=two_blocks_a_level)


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_t2i_adapter(nodes, cfg):
    run, control = Run(TWO_BLOCKS, cfg=cfg), t2i_adapter()
    compare(nodes, run, lambda *conditionings: apply_advanced(control, *conditionings))


def test_controlnet_and_t2i_adapter(nodes):
    first, second = controlnet(TWO_BLOCKS), t2i_adapter()
    run = Run(TWO_BLOCKS, cfg=3.0)
    compare(nodes, run, lambda *given: apply_advanced(second, *apply_early(first, *given)))


def gligen(family):
    """Attention to boxes, one for each transformer of the UNet."""
    modules = family.patcher().model.diffusion_model.modules()
    widths = [module.in_channels for module in modules if isinstance(module, SpatialTransformer)]
    fusers = [GatedSelfAttentionDense(width, TEXT, 4, width // 4) for width in widths]
    model = randomised(Gligen(fusers, PositionNet(TEXT, TEXT), TEXT), 55)
    return ModelPatcher(model, load_device=CPU, offload_device=CPU)


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_gligen(nodes, cfg):
    box = {"text": "a cat", "width": 32, "height": 24, "x": 16, "y": 8}
    model, clip = gligen(SD15), tiny_clip()

    def apply(positive, negative):
        given = {"conditioning_to": positive, "clip": clip, "gligen_textbox_model": model}
        return stock("GLIGENTextBoxApply", **given, **box)[0], negative

    compare(nodes, Run(SD15, cfg=cfg), apply)
