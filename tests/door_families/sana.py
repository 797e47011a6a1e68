"""SANA and SANA-Sprint, which come with the extension ComfyUI_ExtraModels.

Here are stand-ins for its classes, with the parts of theirs that NAG has to do with. EXTRA_MODELS names a checkout of
github.com/Efficient-Large-Model/ComfyUI_ExtraModels, whose own are taken then; these need timm.
"""
import importlib
import os
import sys
from types import ModuleType

import comfy.latent_formats
import comfy.model_base
import comfy.supported_models_base
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention, silu

from oracle.lockstep import Tokens

from .builder import TEXT, DoorFamily, patches_of

LONGEST = 30
SANA = {
    "in_channels": 32, "depth": 2, "hidden_size": 64, "patch_size": 1, "num_heads": 4, "linear_head_dim": 32,
    "caption_channels": TEXT, "model_max_length": LONGEST, "y_norm": True, "attn_type": "linear",
    "ffn_type": "glumbconv", "mlp_ratio": 2.5, "mlp_acts": ["silu", "silu", None], "use_pe": False,
    "pred_sigma": False, "learn_sigma": False,
}  # fmt: skip
SPRINT = {
    **SANA, "cross_attn_type": "vanilla", "cfg_embed": True, "cfg_embed_scale": 0.1, "qk_norm": True,
    "cross_norm": True, "timestep_norm_scale_factor": 1000,
}  # fmt: skip


class CrossAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.q_linear, self.kv_linear = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x, cond, mask=None):
        """cond: all rows in one, each of as many tokens as `mask` says, which are as many in all rows."""
        by_heads = lambda t, n: t.reshape(len(x), n, self.heads, -1).transpose(1, 2)
        k, v = (by_heads(t, mask[0]) for t in self.kv_linear(cond).chunk(2, -1))
        z = scaled_dot_product_attention(by_heads(self.q_linear(x), x.shape[1]), k, v)
        return self.proj(z.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.cross_attn = CrossAttention(width, heads)
        self.mlp = nn.Linear(width, width)

    def forward(self, x, y, t, mask=None, HW=None, **kwargs):
        x = x + self.cross_attn(x, y, mask)
        return x + silu(self.mlp(self.norm(x) + t[:, None]))


class Captions(nn.Module):
    def __init__(self, text, width):
        super().__init__()
        self.y_proj = nn.Sequential()
        self.y_proj.add_module("fc1", nn.Linear(text, width))

    def forward(self, caption):
        return silu(self.y_proj(caption))


class SanaMS(nn.Module):
    cfg_embedder = None

    def __init__(self, in_channels, hidden_size, depth, num_heads, caption_channels, patch_size, **settings):
        super().__init__()
        self.patch_size, self.longest = patch_size, settings["model_max_length"]
        self.x_embedder = nn.Linear(in_channels, hidden_size)
        self.t_embedder = nn.Linear(1, hidden_size)
        self.y_embedder = Captions(caption_channels, hidden_size)
        self.blocks = nn.ModuleList([Block(hidden_size, num_heads) for _ in range(depth)])
        self.final_layer = nn.Linear(hidden_size, in_channels)

    def __call__(self, *args, **kwargs):
        return self.forward(*args, **kwargs)

    def forward(self, x, timesteps, context, **kwargs):
        if context.ndim == 3:
            context = context.unsqueeze(1)
        return self.forward_raw(x, timesteps, context.to(self.dtype), **kwargs).float()

    def forward_raw(self, x, timestep, y, **kwargs):
        height, width = x.shape[-2:]
        lengths = (y != 0).any(-1).sum((1, 2)).tolist()
        lengths = [lengths[-1]] * len(x)
        seen = torch.arange(self.longest) < lengths[0]
        tokens = self.x_embedder(x.to(self.dtype).flatten(2).transpose(1, 2))
        t = self.t_embedder(timestep.to(self.dtype)[:, None] / 1000)
        y = self.y_embedder(y).squeeze(1)[:, seen].flatten(0, 1)[None]
        for block in self.blocks:
            tokens = block(tokens, y, t, lengths, (height, width), **kwargs)
        return self.final_layer(tokens).transpose(1, 2).unflatten(2, (height, width))


class SanaMSCM(SanaMS):
    def forward_raw(self, x, timestep, y, **kwargs):
        return x + super().forward_raw(x, 1000 * torch.sin(timestep), y, **kwargs)


class Config(comfy.supported_models_base.BASE):
    class latent_format(comfy.latent_formats.LatentFormat):
        latent_channels = 32

    sampling_settings = {"shift": 3.0, "multiplier": 1.0}  # the Sprint takes angles
    memory_usage_factor = 1.0


def classes():
    folder = os.environ.get("EXTRA_MODELS")
    if folder is None:
        return sys.modules[__name__]
    package = sys.modules["ComfyUI_ExtraModels"] = ModuleType("ComfyUI_ExtraModels")
    package.__path__ = [os.path.join(folder, "Sana", "models")]
    return importlib.import_module("ComfyUI_ExtraModels.sana_multi_scale")


def sana(name, settings):
    def build(dtype):
        config = Config({"disable_unet_model_creation": True})
        model = comfy.model_base.BaseModel(config, comfy.model_base.ModelType.FLOW)
        model.diffusion_model = getattr(classes(), name)(**settings).to(dtype).eval()
        model.diffusion_model.dtype = dtype
        return model

    return build


class SanaFamily(DoorFamily):
    def conditioning(self, seed, tokens, **values):
        """As its node makes it: (1, 1, tokens, width), zeros behind the text, of which the model counts the others."""
        ((text, entry),) = super().conditioning(seed, tokens, **values)
        text = torch.nn.functional.pad(text, (0, 0, 0, LONGEST - tokens))
        return [[text[:, None], entry]]


of_sana = Tokens(patches_of(1), lambda n: LONGEST, cross=True, projection="blocks.N.cross_attn.proj")
THE_PAPERS = (3.0, 2.5, 0.5)
PICTURE = (32, 4, 6)
SANAS = [
    SanaFamily("sana", sana("SanaMS", SANA), None, THE_PAPERS, PICTURE, tokens=of_sana),
    SanaFamily("sana_sprint", sana("SanaMSCM", SPRINT), None, THE_PAPERS, PICTURE, tokens=of_sana),
]
