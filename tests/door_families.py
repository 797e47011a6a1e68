"""The families whose negative waits at the doors: each a tiny model, and how many tokens it makes of text and image."""
import math
from dataclasses import dataclass

import comfy.model_base
import comfy.supported_models
import pytest
import torch

from families import Family
from oracle.lockstep import Tokens, lockstep_model

TEXT = 24


@dataclass(frozen=True)
class DoorFamily(Family):
    """A family without a written-out oracle.

    Args:
        tokens: see Tokens.
        width: of its text.
    """

    tokens: Tokens = None
    width: int = TEXT

    def conditioning(self, seed, tokens, pooled=20, **values):
        torch.manual_seed(seed)
        entry = {"pooled_output": torch.randn(1, pooled), **self.inputs(), **values}
        return [[torch.randn(1, tokens, self.width), entry]]

    def lockstep(self):
        return lockstep_model(self.patcher(), self.tokens)


def model(base, config, **settings):
    """A builder, by ComfyUI's classes of these names; the test is skipped where this ComfyUI does not have them."""

    def build(dtype):
        made, told = getattr(comfy.model_base, base, None), getattr(comfy.supported_models, config, None)
        if made is None or told is None:
            pytest.skip(f"this ComfyUI has no {base}")
        return made(told({**settings, "dtype": dtype}))

    return build


def patches_of(size):
    """How many patches of size x size a picture has."""
    return lambda latent: math.prod(math.ceil(n / size) for n in latent[-2:]) * math.prod(latent[1:-2])


def padded(tokens, multiple):
    return -(-tokens // multiple) * multiple


LUMINA = {
    "image_model": "lumina2", "in_channels": 16, "dim": 96, "n_layers": 3, "n_refiner_layers": 2, "n_heads": 4,
    "multiple_of": 16, "qk_norm": True, "cap_feat_dim": TEXT, "axes_dims": [8, 8, 8], "axes_lens": [64] * 3,
}  # fmt: skip
QWEN = {
    "image_model": "qwen_image", "in_channels": 64, "out_channels": 16, "num_layers": 3, "attention_head_dim": 24,
    "num_attention_heads": 4, "joint_attention_dim": TEXT, "axes_dims_rope": (8, 8, 8),
}  # fmt: skip
CHROMA = {
    "image_model": "chroma", "in_channels": 64, "out_channels": 64, "context_in_dim": TEXT, "hidden_size": 64,
    "mlp_ratio": 2.0, "num_heads": 4, "depth": 2, "depth_single_blocks": 2, "axes_dim": [4, 4, 8], "theta": 10000,
    "patch_size": 2, "qkv_bias": True, "in_dim": 64, "out_dim": 64, "hidden_dim": 32, "n_layers": 2,
}  # fmt: skip
PICTURE = (16, 8, 12)
FAMILIES = [
    DoorFamily(
        "lumina2", model("Lumina2", "Lumina2", **LUMINA, n_kv_heads=2), None, (5.0, 2.5, 0.25), PICTURE,
        tokens=Tokens(patches_of(2)),
    ),
    DoorFamily(
        "z_image",
        model("Lumina2", "ZImage", **{**LUMINA, "dim": 256, "axes_dims": [16, 24, 24]}, n_kv_heads=4,
              z_image_modulation=True, time_scale=1000.0, pad_tokens_multiple=8, rope_theta=256.0),
        None, (1.8, 2.5, 0.25), PICTURE,
        tokens=Tokens(lambda latent: padded(patches_of(2)(latent), 8), lambda n: padded(n, 8)),
    ),
    DoorFamily(
        "qwen_image", model("QwenImage", "QwenImage", **QWEN), None, (5.0, 2.5, 0.25), (16, 1, 8, 12),
        tokens=Tokens(patches_of(2)),
    ),
    DoorFamily(
        "chroma", model("Chroma", "Chroma", **CHROMA), None, (5.0, 2.5, 0.25), PICTURE,
        tokens=Tokens(patches_of(2)),
    ),
]  # fmt: skip
BY_NAME = {family.name: family for family in FAMILIES}
