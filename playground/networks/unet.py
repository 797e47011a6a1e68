"""ComfyUI's own UNet, as Stable Diffusion XL has it: cross-attention below the first level, pooled text beside."""
import comfy.model_base
import comfy.supported_models
import torch

from .flux import SHIFT
from .vae import CHANNELS, PlaygroundLatent

SIZES = {
    "image_size": 32, "in_channels": CHANNELS, "out_channels": CHANNELS, "num_classes": "sequential", "legacy": False,
    "use_spatial_transformer": True, "use_linear_in_transformer": True, "use_temporal_attention": False,
}
SILENT = r"out_layers\.3|proj_out|^out\.2"
STEPS = 1000  # times count from 0 to this


class Model(comfy.model_base.SDXL):
    """Stable Diffusion XL as a rectified flow, that is not told the picture's size, which never changes here."""

    def __init__(self, model_config, device=None):
        super().__init__(model_config, comfy.model_base.ModelType.FLOW, device=device)

    def encode_adm(self, **kwargs):
        return kwargs["pooled_output"]


class Config(comfy.supported_models.SDXL):
    latent_format = PlaygroundLatent
    sampling_settings = {"shift": SHIFT}
    supported_inference_dtypes = [torch.float32]

    def get_model(self, state_dict, prefix="", device=None):
        return Model(self, device=device)


def build(text_width, device=None, **sizes):
    """The untrained Model, float32, with uninitialised weights. sizes: those of the UNet that are not in SIZES."""
    config = Config(SIZES | sizes | {"adm_in_channels": text_width, "context_dim": text_width})
    config.set_inference_dtype(torch.float32, None)
    return config.get_model({}, device=device)


def call(model, x, sigma, context, pooled):
    return model(x, sigma * STEPS, context, pooled)
