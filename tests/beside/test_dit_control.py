"""ControlNets for transformers, applied by ComfyUI's nodes before and after NAG Conditioning, and under NAG Model."""
import comfy.cldm.dit_embedder
import comfy.cldm.mmdit
import comfy.controlnet
import comfy.latent_formats
import comfy.ldm.flux.controlnet
import comfy.ops
import pytest
import torch

from dit_others import FoldingVAE, exact_dit, with_weights
from families import BY_NAME, POOLED
from oracle.equation import Nag
from oracle.sampling import guided_by
from other_nodes import PLACES, by_controlnet, in_turn, patched_by
from runs import Run, assert_close, difference
from stock import stock
from subject import model_node

pytestmark = pytest.mark.usefixtures("inference_mode")
PLAIN = {"operations": comfy.ops.disable_weight_init, "dtype": torch.float32, "device": "cpu"}
OF_LATENTS = {"compression_ratio": 1, "load_device": torch.device("cpu")}


def config_of(name):
    config = BY_NAME[name].patcher().model.model_config.unet_config
    return {key: value for key, value in config.items() if key not in ("dtype", "num_blocks")}


def sd35():
    net = comfy.cldm.dit_embedder.ControlNetEmbedder(
        img_size=None, patch_size=2, in_chans=16, attention_head_dim=64, num_attention_heads=2, adm_in_channels=POOLED,
        num_layers=2, main_model_double=3, double_y_emb=False, **PLAIN,
    )  # fmt: skip
    return comfy.controlnet.ControlNetSD35(
        with_weights(net), latent_format=comfy.latent_formats.SD3(), **OF_LATENTS
    )


def sd3():
    net = comfy.cldm.mmdit.ControlNet(num_blocks=2, control_latent_channels=16, **PLAIN, **config_of("sd35_large"))
    return comfy.controlnet.ControlNet(with_weights(net), latent_format=comfy.latent_formats.SD3(), **OF_LATENTS)


def flux(control_latent_channels=16, concat_mask=False, num_union_modes=8):
    net = comfy.ldm.flux.controlnet.ControlNetFlux(
        latent_input=True, num_union_modes=num_union_modes, control_latent_channels=control_latent_channels, **PLAIN,
        **config_of("flux_dev"),
    )  # fmt: skip
    return comfy.controlnet.ControlNet(
        with_weights(net), latent_format=comfy.latent_formats.Flux(), concat_mask=concat_mask,
        extra_conds=["y", "guidance"], **OF_LATENTS,
    )  # fmt: skip


def flux_union():
    return stock("SetUnionControlNetType", control_net=flux(), type="depth")[0]


def flux_inpainting():
    return flux(control_latent_channels=17, concat_mask=True, num_union_modes=0)


MASK = torch.zeros(1, 64, 96)
MASK[:, 16:40] = 1.0
CONTROLS = {
    "SD3.5": ("sd35_large", "shared", sd35, "ControlNetApplyAdvanced", {}),
    "SD3.5, by the node for SD3": ("sd35_large", "shared", sd35, "ControlNetApplySD3", {}),
    "SD3": ("sd35_large", "shared", sd3, "ControlNetApplySD3", {}),
    "Flux union": ("flux_dev", "shared", flux_union, "ControlNetApplyAdvanced", {}),
    "Flux union, separate": ("flux_dev", "separate", flux_union, "ControlNetApplyAdvanced", {}),
    "Flux inpainting": ("flux_dev", "shared", flux_inpainting, "ControlNetInpaintingAliMamaApply", {"mask": MASK}),
    "Flux inpainting, separate": (
        "flux_dev", "separate", flux_inpainting, "ControlNetInpaintingAliMamaApply", {"mask": MASK}
    ),
}  # fmt: skip


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("percents", [(0.0, 1.0), (0.2, 0.6)], ids=["throughout", "for a while"])
def test_controlnet(nodes, control, place, percents):
    name, stream, make, node_id, inputs = CONTROLS[control]
    family = BY_NAME[name]
    run, patcher = Run(family, cfg=3.0, steps=4), family.patcher()
    nag = Nag(family.conditioning(11, 5), image_stream=stream)
    control_net = make()
    controlled = by_controlnet(node_id, run.negative, percents, control_net=control_net, vae=FoldingVAE(), **inputs)
    positive, negative = controlled(run.positive)
    expected = run.oracle(patcher, guided_by(positive, nag), negative)
    without = run.oracle(patcher, guided_by(run.positive, nag))
    assert difference(expected, without) > 0.001, "the ControlNet did nothing"
    model, positive = PLACES[place](nodes, patcher, run.positive, nag, lambda positive: controlled(positive)[0])
    assert_close(run.sample(model, positive, negative), expected)


@pytest.mark.parametrize("skipped", [(0,), (1,), (0, 1), (2,)], ids=str)
@pytest.mark.parametrize("stream", ["shared", "separate"])
def test_controlnet_beside_skipped_blocks(nodes, skipped, stream):
    """The model adds the residuals behind a block that another node skips, too."""
    family = BY_NAME["flux_dev"]
    run, patcher = Run(family, steps=2), family.patcher()
    nag = Nag(family.conditioning(11, 5), image_stream=stream)
    image = torch.rand(1, 64, 96, 3, generator=torch.Generator().manual_seed(16))
    positive, negative = stock(
        "ControlNetApplyAdvanced", positive=run.positive, negative=run.negative, control_net=flux_union(), image=image,
        strength=0.7, start_percent=0.0, end_percent=1.0, vae=FoldingVAE(),
    )  # fmt: skip

    skip = lambda args, extra: args
    place = "set_model_patch_replace", skip, "dit", "single_block"
    change = in_turn(*(patched_by(*place, block) for block in skipped))
    expected = run.sample(change(exact_dit(family, patcher)), guided_by(positive, nag), negative)
    guided = model_node(nodes, change(patcher), nag, nag_negative=nag.negative)
    assert_close(run.sample(guided, positive, negative), expected)
