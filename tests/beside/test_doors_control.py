"""ControlNets for families whose negative waits at the doors: residuals, and patches that work between the blocks."""
import dataclasses

import comfy.controlnet
import comfy.latent_formats
import comfy.ldm.qwen_image.controlnet
import comfy.model_patcher
import comfy.ops
import comfy_extras.nodes_model_patch as model_patch
import pytest
import torch

from dit_others import FoldingVAE, with_weights
from door_families import BY_NAME
from door_families import joint as table
from door_families.builder import model
from doors_others import ONE_BEHIND_TWO, each_thread_its_own, exactly
from oracle.equation import Nag
from oracle.sampling import guided_by
from other_nodes import PLACES, by_controlnet, by_node, every_order
from runs import Run, assert_close, difference

pytestmark = pytest.mark.usefixtures("inference_mode")
PLAIN = {"operations": comfy.ops.manual_cast, "dtype": torch.float32, "device": "cpu"}
CPU = torch.device("cpu")


class VideoVAE(FoldingVAE):
    """Of one frame."""

    def encode(self, pixels):
        return super().encode(pixels)[:, :, None]


class Residuals(comfy.controlnet.ControlBase):
    """A ControlNet that looks at the latent only: of each of its blocks, and none, a residual."""

    def __init__(self, width):
        super().__init__()
        self.width = width

    def get_control(self, x_noisy, *_):
        of = lambda seed: (
            x_noisy.flatten(1)[:, :1, None]
            + torch.randn(1, 24, self.width, generator=torch.Generator().manual_seed(seed))
        )
        return self.control_merge({"input": [of(1), None], "output": [None, of(2)]}, None, None)

    def copy(self):
        copied = Residuals(self.width)
        self.copy_to(copied)
        return copied


def of_latents(net, of=comfy.controlnet.ControlNet, **more):
    return of(
        with_weights(net), compression_ratio=1, latent_format=comfy.latent_formats.Wan21(), extra_conds=[],
        load_device=CPU, **more,
    )  # fmt: skip


def instantx(n_further=0):
    """n_further: numbers of a mask, in each patch."""
    config = {**table.QWEN, "num_layers": 2, "extra_condition_channels": n_further}
    net = comfy.ldm.qwen_image.controlnet.QwenImageControlNetModel(**config, **PLAIN)
    return of_latents(net, concat_mask=n_further > 0)


def qwen_fun():
    if not hasattr(comfy.controlnet, "QwenFunControlNet"):
        pytest.skip("this ComfyUI has no Fun ControlNet for Qwen-Image")
    net = comfy.ldm.qwen_image.controlnet.QwenImageFunControlNetModel(
        inner_dim=96, num_attention_heads=4, attention_head_dim=24, num_control_blocks=2, main_model_double=3,
        injection_layers=(0, 2), **PLAIN,
    )  # fmt: skip
    return of_latents(net, comfy.controlnet.QwenFunControlNet)


MASK = torch.zeros(1, 64, 96)
MASK[:, 16:40] = 1.0
APPLY = "ControlNetApplyAdvanced"
CONTROL_NETS = {
    "InstantX": ("qwen_image", instantx, APPLY, {}),
    "InstantX inpainting": ("qwen_image", lambda: instantx(4), "ControlNetInpaintingAliMamaApply", {"mask": MASK}),
    "Qwen-Image Fun": ("qwen_image", qwen_fun, APPLY, {}),
    **{f"residuals, {name}": (name, lambda: Residuals(64), APPLY, {}) for name in (*ONE_BEHIND_TWO, "longcat")},
}


@pytest.mark.parametrize("control", CONTROL_NETS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("percents", [(0.0, 1.0), (0.2, 0.6)], ids=["throughout", "for a while"])
def test_controlnet(nodes, control, place, percents):
    name, make, node_id, inputs = CONTROL_NETS[control]
    family = BY_NAME[name]
    run, patcher = Run(family, cfg=3.0, steps=4), family.patcher()
    nag, control_net = Nag(family.conditioning(11, 5)), make()
    controlled = by_controlnet(node_id, run.negative, percents, control_net=control_net, vae=VideoVAE(), **inputs)
    positive, negative = controlled(run.positive)
    exact = exactly(family, patcher)
    expected = run.sample(exact, guided_by(positive, nag), negative)
    without = run.sample(exact, guided_by(run.positive, nag))
    assert difference(expected, without) > 0.001, "the ControlNet did nothing"
    model, positive = PLACES[place](nodes, patcher, run.positive, nag, lambda positive: controlled(positive)[0])
    assert_close(run.sample(model, positive, negative), expected)


def patch_of(net):
    return comfy.model_patcher.ModelPatcher(with_weights(net), load_device=CPU, offload_device=CPU)


def diffsynth():
    net = model_patch.QwenImageBlockWiseControlNet(num_layers=3, dim=96, **PLAIN)
    return {"model_patch": patch_of(net), "vae": VideoVAE()}


def z_image_fun(n_layers, **config):
    """As many layers as its files have: what one block of the model has, of every fifth or other one, goes by that."""

    def make():
        controlnet = pytest.importorskip("comfy.ldm.lumina.controlnet", reason="this ComfyUI has no ControlNet for it")
        net = controlnet.ZImage_Control(
            dim=256, n_heads=4, n_kv_heads=4, multiple_of=16, n_control_layers=n_layers, **config, **PLAIN
        )
        return {"model_patch": patch_of(net), "vae": FoldingVAE()}

    return make


def lllite():
    anima = pytest.importorskip("comfy.ldm.anima.lllite", reason="this ComfyUI has no LLLite for Anima")
    parts = {"lllite_conditioning1": anima.AnimaLLLiteConditioning(3, 16, 8, 1, (), **PLAIN)}
    for i in range(2):
        for target in ("self_attn_q_proj", "self_attn_k_proj", "self_attn_v_proj", "cross_attn_q_proj", "mlp_layer1"):
            parts[f"lllite_dit_blocks_{i}_{target}"] = anima.AnimaLLLiteModule(64, 8, 4, **PLAIN)
    state = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}
    net = anima.AnimaLLLite(state, None, **PLAIN)
    return {"model_patch": patch_of(net), "start_percent": 0.0, "end_percent": 1.0}


# Its blocks have to reach the second of the ControlNet's, or it takes the next step for a part of this one.
Z_IMAGE = dataclasses.replace(
    BY_NAME["z_image"],
    build=model(
        "Lumina2", "ZImage", table.NEXT_DIT, ("pad_tokens_multiple",), **{**table.Z_IMAGE, "n_layers": 6}
    ),
)
WITH_REFINER = {"additional_in_dim": 17, "refiner_control": True}
MODEL_PATCHES = {
    "DiffSynth": (BY_NAME["qwen_image"], "QwenImageDiffsynthControlnet", diffsynth),
    "DiffSynth, edit": (BY_NAME["qwen_image_edit"], "QwenImageDiffsynthControlnet", diffsynth),
    "Z-Image Fun": (Z_IMAGE, "ZImageFunControlnet", z_image_fun(6)),
    "Z-Image Fun 2.1": (Z_IMAGE, "ZImageFunControlnet", z_image_fun(15, **WITH_REFINER)),
    "Z-Image Fun 2.0": (Z_IMAGE, "ZImageFunControlnet", z_image_fun(15, **WITH_REFINER, broken=True)),
    "LLLite": (BY_NAME["anima"], "AnimaLLLiteApply", lllite),
}


@pytest.mark.parametrize("control", MODEL_PATCHES)
@every_order
def test_model_patch(nodes, control, order):
    family, node_id, make = MODEL_PATCHES[control]
    run, patcher = Run(family, cfg=3.0, batch=2, steps=2), family.patcher()
    nag = Nag(family.conditioning(11, 9))
    image = torch.rand(1, 64, 96, 3, generator=torch.Generator().manual_seed(16))
    change = by_node(node_id, image=image, strength=0.8, **make())
    own = each_thread_its_own(change(patcher))
    expected = run.sample(exactly(family, own), guided_by(run.positive, nag))
    without = run.sample(exactly(family, patcher), guided_by(run.positive, nag))
    assert difference(expected, without) > 0.001, "the ControlNet did nothing"
    model, positive = order(nodes, patcher, run.positive, nag, change)
    assert_close(run.sample(model, positive), expected)
