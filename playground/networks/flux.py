"""ComfyUI's own Flux, without guidance embedding, at 1/6000 of its size.

ComfyUI's file loaders cannot build it: even those that read Flux's widths from a file fix 16 latent channels and heads
of 128 features, and a model of this size learns better with four heads.
"""
import dataclasses

import comfy.ldm.flux.model
import comfy.supported_models
import torch

from .vae import CHANNELS, PlaygroundLatent

SIZES = {
    "in_channels": CHANNELS, "out_channels": CHANNELS, "patch_size": 2, "theta": 10000, "qkv_bias": True,
    "guidance_embed": False, "txt_ids_dims": [],
}
SILENT = r"_mod\.lin|modulation|^final_layer"
SHIFT = 3.0  # whole shapes stand out of much noise, so most is decided early: sample more there


class Config(comfy.supported_models.FluxSchnell):
    latent_format = PlaygroundLatent
    sampling_settings = {"multiplier": 1.0, "shift": SHIFT}
    supported_inference_dtypes = [torch.float32]


def build(text_width, device=None, **sizes):
    """The untrained comfy.model_base.Flux, float32, with uninitialised weights. sizes: FluxParams not in SIZES."""
    known = {field.name for field in dataclasses.fields(comfy.ldm.flux.model.FluxParams)}
    sizes = {name: value for name, value in (SIZES | sizes).items() if name in known}  # older hosts lack some
    config = Config(sizes | {"vec_in_dim": text_width, "context_in_dim": text_width})
    config.set_inference_dtype(torch.float32, None)
    return config.get_model({}, device=device)


def call(model, x, sigma, context, pooled):
    return model(x, sigma, context, pooled)
