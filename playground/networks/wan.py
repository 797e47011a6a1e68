"""ComfyUI's own Wan 2.1, text to video: the text enters by cross-attention alone, without pooled text."""
import comfy.supported_models
import torch

from .flux import SHIFT
from .vae import CHANNELS, ClipLatent

SIZES = {"image_model": "wan2.1", "model_type": "t2v", "in_dim": CHANNELS, "out_dim": CHANNELS, "freq_dim": 64}
SILENT = r"modulation$|time_projection|cross_attn\.o\.|^head"
STEPS = 1000  # times count from 0 to this


class Config(comfy.supported_models.WAN21_T2V):
    latent_format = ClipLatent
    sampling_settings = {"shift": SHIFT}
    supported_inference_dtypes = [torch.float32]


def build(text_width, device=None, **sizes):
    """The untrained comfy.model_base.WAN21, float32, with uninitialised weights.

    sizes: `dim`, `ffn_dim`, `num_heads` and `num_layers`.
    """
    config = Config(SIZES | sizes | {"text_dim": text_width})
    config.set_inference_dtype(torch.float32, None)
    return config.get_model({}, device=device)


def call(model, x, sigma, context, pooled):
    return model(x, sigma * STEPS, context)
