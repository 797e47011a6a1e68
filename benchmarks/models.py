"""The cases: real architectures at real sizes, and the same scaled down for a CPU, with random weights.

Configurations are those that ComfyUI's model_detection gives for the published checkpoints. A scaled-down case divides
the model's width and the number of image and text tokens by about the same factor, so that attention and projections
keep their shares, and with them the ratios; heads stay as wide as they are.
"""
import math
from dataclasses import dataclass, field

import comfy.ldm.flux.model
import comfy.model_base
import comfy.model_patcher
import comfy.supported_models
import torch

CONFIGS = {
    "sdxl": {
        "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "num_res_blocks": [2, 2, 2],
        "channel_mult": [1, 2, 4], "transformer_depth": [0, 0, 2, 2, 10, 10], "transformer_depth_middle": 10,
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10], "num_head_channels": 64, "context_dim": 2048,
        "num_classes": "sequential", "adm_in_channels": 2816, "use_linear_in_transformer": True,
        "use_spatial_transformer": True, "legacy": False, "use_checkpoint": False, "use_temporal_attention": False,
        "use_temporal_resblock": False,
    },
    "sd3": {
        "in_channels": 16, "out_channels": 16, "patch_size": 2, "depth": 38, "input_size": None, "num_patches": 36864,
        "pos_embed_max_size": 192, "pos_embed_scaling_factor": None, "adm_in_channels": 2048, "qk_norm": "rms",
        "context_embedder_config": {
            "target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 2432}
        },
    },
    "flux": {
        "image_model": "flux", "in_channels": 16, "out_channels": 16, "patch_size": 2, "vec_in_dim": 768,
        "context_in_dim": 4096, "hidden_size": 3072, "mlp_ratio": 4.0, "num_heads": 24, "depth": 19,
        "depth_single_blocks": 38, "axes_dim": [16, 56, 56], "theta": 10000, "qkv_bias": True, "guidance_embed": True,
    },
    "wan": {
        "image_model": "wan2.1", "model_type": "t2v", "dim": 5120, "ffn_dim": 13824, "num_heads": 40, "num_layers": 40,
        "text_dim": 4096, "freq_dim": 256, "in_dim": 16, "out_dim": 16, "patch_size": (1, 2, 2),
        "window_size": (-1, -1), "qk_norm": True, "cross_attn_norm": True, "eps": 1e-6,
    },
}
POOLED = {"sdxl": 1280, "sd3": 2048, "flux": 768, "wan": 0}


@dataclass(frozen=True)
class Size:
    """
    Args:
        family: a key of CONFIGS.
        latent: its shape without the batch.
        text: how many tokens each prompt has.
        changes: to the family's configuration.
    """

    family: str
    latent: tuple[int, ...]
    text: int
    changes: dict = field(default_factory=dict)

    @property
    def config(self):
        return {**CONFIGS[self.family], **self.changes}

    @property
    def text_width(self):
        config = self.config
        if self.family == "sd3":
            return config["context_embedder_config"]["params"]["in_features"]
        return config[{"sdxl": "context_dim", "flux": "context_in_dim", "wan": "text_dim"}[self.family]]

    def conditioning(self, seed):
        """A random CONDITIONING with one entry."""
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randn(1, self.text, self.text_width, generator=generator)
        pooled = torch.randn(1, POOLED[self.family], generator=generator)
        return [[tokens, {"pooled_output": pooled, "guidance": 4.0}]]


@dataclass(frozen=True)
class Case:
    """
    Args:
        small: scaled down for a CPU.
        aim: by how much NAG may lengthen a step on a data-centre GPU, or None.
        slow: at full size a step takes seconds on such a GPU; then these methods are enough, a step each.
    """

    name: str
    full: Size
    small: Size
    aim: float | None = None
    slow: tuple[str, ...] = ()


def _sd3(text):
    changes = {"depth": 8, "num_blocks": 4, "num_patches": 48**2, "pos_embed_max_size": 48}
    changes["context_embedder_config"] = {"target": "torch.nn.Linear",
                                          "params": {"in_features": 864, "out_features": 512}}
    return Size("sd3", (16, 128, 128), text), Size("sd3", (16, 58, 58), round(text * 0.21), changes)


def _flux(text):
    changes = {"hidden_size": 512, "num_heads": 4, "depth": 1, "depth_single_blocks": 2, "context_in_dim": 680}
    return Size("flux", (16, 128, 128), text), Size("flux", (16, 52, 52), round(text / 6), changes)


def _wan(full_changes, latent, small_latent, width, text, layers=2):
    config = {**CONFIGS["wan"], **full_changes}
    scale = width / config["dim"]
    small = {"dim": width, "ffn_dim": round(config["ffn_dim"] * scale), "num_heads": width // 128, "num_layers": layers,
             "text_dim": round(4096 * scale)}
    return Size("wan", latent, 512, full_changes), Size("wan", small_latent, text, small)


SDXL_SMALL = Size("sdxl", (4, 40, 40), 8, {"model_channels": 64, "context_dim": 408})
WAN_SMALLER = {"dim": 1536, "ffn_dim": 8960, "num_heads": 12, "num_layers": 30}
P480, P720 = (16, 21, 60, 104), (16, 21, 90, 160)  # 832x480 and 1280x720, 81 frames
WITH_CFG = ("base", "cfg", "nag")
CASES = [
    Case("SDXL 1024x1024", Size("sdxl", (4, 128, 128), 77), SDXL_SMALL, aim=0.05),
    Case("SD3.5-Large 1024x1024, 154 text tokens", *_sd3(154), aim=0.07),
    Case("SD3.5-Large 1024x1024, 333 text tokens", *_sd3(333)),
    Case("Flux-dev 1024x1024, 512 text tokens", *_flux(512), aim=0.16),
    Case("Flux-dev 1024x1024, 256 text tokens", *_flux(256)),
    Case("Wan2.1 1.3B 480p, 81 frames", *_wan(WAN_SMALLER, P480, (16, 7, 30, 52), 128, 43)),
    Case("Wan2.1 1.3B 720p, 81 frames", *_wan(WAN_SMALLER, P720, (16, 7, 50, 72), 128, 43, 1), slow=WITH_CFG),
    Case("Wan2.1 14B 480p, 81 frames", *_wan({}, P480, (16, 3, 42, 52), 256, 26), slow=WITH_CFG),
    Case("Wan2.1 14B 720p, 81 frames", *_wan({}, P720, (16, 5, 54, 56), 256, 26, 1), aim=0.02, slow=("base", "nag")),
]


def build(size, dtype, device):
    """A ModelPatcher with random weights, made where they stay."""
    config = {**size.config, "dtype": dtype}
    if size.family == "flux" and "txt_ids_dims" in comfy.ldm.flux.model.FluxParams.__dataclass_fields__:
        config["txt_ids_dims"] = []
    make, configure = {
        "sdxl": (comfy.model_base.SDXL, comfy.supported_models.SDXL),
        "sd3": (comfy.model_base.SD3, comfy.supported_models.SD3),
        "flux": (comfy.model_base.Flux, comfy.supported_models.Flux),
        "wan": (comfy.model_base.WAN21, comfy.supported_models.WAN21_T2V),
    }[size.family]
    with torch.no_grad():
        model = make(configure(config), device=device)
        fill(model.diffusion_model)
    return comfy.model_patcher.ModelPatcher(model.to(device), load_device=device, offload_device=device)


def fill(network):
    """Weights with which no layer blows up or vanishes; ComfyUI leaves them as the memory happens to be."""
    for name, tensor in network.named_parameters():
        tensor.requires_grad_(False)
        if tensor.ndim == 1:
            tensor.fill_(0 if name.endswith("bias") else 1)
        else:
            tensor.normal_(std=1 / math.sqrt(tensor[0].numel()))
    for name, tensor in network.named_buffers():
        if name.endswith("pos_embed"):
            tensor.normal_(std=0.1)
