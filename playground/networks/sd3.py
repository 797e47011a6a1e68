"""ComfyUI's own Stable Diffusion 3.5: text and image each a stream of its own in every block, pooled text beside."""
import comfy.supported_models
import torch

from .flux import SHIFT
from .vae import CHANNELS, PlaygroundLatent

SIZES = {
    "in_channels": CHANNELS, "patch_size": 2, "input_size": None, "pos_embed_scaling_factor": None, "qk_norm": "rms",
}
SILENT = r"adaLN_modulation|^final_layer"
STEPS = 1000  # times count from 0 to this


class Config(comfy.supported_models.SD3):
    latent_format = PlaygroundLatent
    sampling_settings = {"shift": SHIFT}
    supported_inference_dtypes = [torch.float32]


def build(text_width, device=None, **sizes):
    """The untrained comfy.model_base.SD3, float32, with uninitialised weights.

    sizes: `depth`, how many heads of 64 features there are, `num_blocks` and `mlp_ratio`.
    """
    embedder = {"target": "torch.nn.Linear",
                "params": {"in_features": text_width, "out_features": 64 * sizes["depth"]}}
    config = Config(SIZES | sizes | {"adm_in_channels": text_width, "context_embedder_config": embedder})
    config.set_inference_dtype(torch.float32, None)
    return config.get_model({}, device=device)


def call(model, x, sigma, context, pooled):
    return model(x, sigma * STEPS, context, pooled)
