"""ComfyUI's own Wan 2.1, text to video: the text enters by cross-attention alone, without pooled text.

Wan's attention knows how far tokens are from each other, but not where they are, and noise does not tell a network this
small: half of its clips moved the wrong way, and triangles stood on their heads. So a frame of coordinates follows the
clip, in the way in which ComfyUI appends pictures of a subject (`time_dim_concat`).
"""
import math

import comfy.conds
import comfy.model_base
import comfy.supported_models
import torch

from .flux import SHIFT
from .vae import CHANNELS, ClipLatent

SIZES = {"image_model": "wan2.1", "model_type": "t2v", "in_dim": CHANNELS, "out_dim": CHANNELS, "freq_dim": 64}
SILENT = r"modulation$|time_projection|cross_attn\.o\.|^head"
STEPS = 1000  # times count from 0 to this


class Model(comfy.model_base.WAN21):
    """Wan 2.1 that is given coordinates()."""

    def extra_conds(self, **kwargs):
        frame = coordinates(kwargs["noise"])
        return {**super().extra_conds(**kwargs), "time_dim_concat": comfy.conds.CONDRegular(frame)}


def coordinates(latent):
    """(1, 12, 1, H, W) for a (B, 12, F, H, W) latent: waves along each axis, from -1 to 1."""
    height, width = latent.shape[-2:]
    axes = (torch.arange(size, dtype=latent.dtype, device=latent.device) for size in (height, width))
    y, x = torch.meshgrid(*((axis + 0.5) * math.pi / len(axis) for axis in axes), indexing="ij")
    return torch.stack([wave(n * place) for n in (1, 2, 3) for place in (x, y) for wave in (torch.sin, torch.cos)])[
        None, :, None]


class Config(comfy.supported_models.WAN21_T2V):
    latent_format = ClipLatent
    sampling_settings = {"shift": SHIFT}
    supported_inference_dtypes = [torch.float32]

    def get_model(self, state_dict, prefix="", device=None):
        return Model(self, device=device)


def build(text_width, device=None, **sizes):
    """The untrained Model, float32, with uninitialised weights.

    sizes: `dim`, `ffn_dim`, `num_heads` and `num_layers`.
    """
    config = Config(SIZES | sizes | {"text_dim": text_width})
    config.set_inference_dtype(torch.float32, None)
    return config.get_model({}, device=device)


def call(model, x, sigma, context, pooled):
    return model(x, sigma * STEPS, context, time_dim_concat=coordinates(x).expand(len(x), -1, -1, -1, -1))
