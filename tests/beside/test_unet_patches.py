"""Nodes that patch a UNet, before and after NAG Model, and under NAG Conditioning."""
import dataclasses
import math

import comfy.ldm.modules.attention as host
import pytest
import torch

from families import BY_NAME, TEXT
from oracle.equation import Nag
from oracle.sampling import guided_by
from other_nodes import ORDERS, by_node, overriding, patched_by
from runs import Run, assert_close, difference
from unet_others import exact_unet

pytestmark = pytest.mark.usefixtures("inference_mode")
SD15 = BY_NAME["sd15"]
SDXL = dataclasses.replace(BY_NAME["sdxl"], latent=(4, 16, 12))  # its attention is at half size, and HyperTile's tile 4
UNETS = pytest.mark.parametrize(("family", "cfg"), [(SD15, 1.0), (SD15, 3.0), (SDXL, 3.0)], ids=str)


def blurred_queries(q, k, v, options):
    """As Smoothed Energy Guidance does."""
    height, width = options["original_shape"][2:]
    shrunk = math.sqrt(height * width / q.shape[1])
    image = q.transpose(1, 2).unflatten(2, (round(height / shrunk), round(width / shrunk)))
    blurred = torch.nn.functional.avg_pool2d(image, 3, 1, 1, count_include_pad=False)
    return host.optimized_attention(blurred.flatten(2).transpose(1, 2), k, v, options["n_heads"])


DOWNSCALE = {"start_percent": 0.0, "end_percent": 0.5, "downscale_method": "bicubic", "upscale_method": "bicubic"}
FREE_U = {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2}
OTHERS = {
    "FreeU": by_node("FreeU", **FREE_U),
    "FreeU_V2": by_node("FreeU_V2", **FREE_U),
    "HyperTile": by_node("HyperTile", tile_size=32, swap_size=2, max_depth=1, scale_depth=False),
    "Deep Shrink": by_node(
        "PatchModelAddDownscale", block_number=1, downscale_factor=2.0, downscale_after_skip=True, **DOWNSCALE
    ),
    "Deep Shrink before the skip": by_node(
        "PatchModelAddDownscale", block_number=3, downscale_factor=1.5, downscale_after_skip=False, **DOWNSCALE
    ),
    "PerturbedAttentionGuidance": by_node("PerturbedAttentionGuidance", scale=2.0),
    "SelfAttentionGuidance": by_node("SelfAttentionGuidance", scale=0.8, blur_sigma=2.0),
    "blurred queries": patched_by("set_model_attn1_replace", blurred_queries, "middle", 0),
    "attn1_patch": patched_by("set_model_attn1_patch", lambda q, k, v, options: (q * 1.3, k, v * 0.8)),
    "attn1_output_patch": patched_by("set_model_attn1_output_patch", lambda x, options: x * 1.3),
    "attn2_output_patch": patched_by("set_model_attn2_output_patch", lambda x, options: x * 1.3),
    "middle_patch": patched_by("set_model_patch", lambda x, options: x * 1.2, "middle_patch"),
    "input_block_patch": patched_by("set_model_input_block_patch", lambda x, options: x * 1.1),
    "output_block_patch": patched_by("set_model_output_block_patch", lambda x, skip, options: (x * 1.1, skip * 0.9)),
    "optimized_attention_override": overriding,
}


@UNETS
@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS.keys())
def test_patched_unet(nodes, family, cfg, other):
    compare(nodes, Run(family, cfg=cfg, negative_tokens=6), other)


def compare(nodes, run, other):
    patcher, nag = run.family.patcher(), Nag(run.family.conditioning(11, 5))
    positive, exact = guided_by(run.positive, nag), exact_unet(patcher)
    expected = run.sample(other(exact), positive)
    assert difference(run.sample(exact, positive), expected) > 0.005, "the other node does nothing"
    assert difference(run.sample(other(exact)), expected) > 0.005, "NAG does nothing"
    for order in ORDERS:
        assert_close(run.sample(*order(nodes, patcher, run.positive, nag, other)), expected)


def test_token_merging(nodes):
    """TomePatchModel draws at each model call which tokens it keeps; under CFG the oracle has more of these calls."""
    compare(nodes, Run(SD15), by_node("TomePatchModel", ratio=0.3))


@pytest.fixture
def hypernetwork(monkeypatch, tmp_path):
    """The name of a file with a hypernetwork for the text and the image of the tiny models."""
    import folder_paths

    generator = torch.Generator().manual_seed(41)

    def layers(width):
        shapes = {"linear.0": (width * 2, width), "linear.1": (width, width * 2)}
        weights = {f"{name}.weight": torch.randn(shape, generator=generator) / width for name, shape in shapes.items()}
        return weights | {f"{name}.bias": torch.zeros(shape[0]) for name, shape in shapes.items()}

    widths = {width: [layers(width), layers(width)] for width in (TEXT, 64)}
    torch.save({"activation_func": "relu", **widths}, tmp_path / "tiny.pt")
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "hypernetworks", ([str(tmp_path)], {".pt"}))
    return "tiny.pt"


@UNETS
def test_hypernetwork(nodes, family, cfg, hypernetwork):
    """It changes the keys and values of each prompt, the negative's too."""
    other = by_node("HypernetworkLoader", hypernetwork_name=hypernetwork, strength=1.0)
    compare(nodes, Run(family, cfg=cfg, negative_tokens=6), other)
