"""Tiny models with random weights, and LoRAs: in a file for ComfyUI's nodes, and baked in for the oracle."""
import math

import comfy.sd
import comfy.sd1_clip
import torch
from safetensors.torch import save_file

from families import TEXT
from other_nodes import by_node
from stored import patcher_of, weights_of

RANK, ALPHA = 4, 2.0
STRENGTH = 0.8  # of LoRAs
ATTENTION = tuple(f".{attn}.{layer}.weight" for attn in ("attn1", "attn2") for layer in ("to_q", "to_k", "to_v"))
CONVOLUTION = ".in_layers.2.weight"
OF_UNET = (*ATTENTION, CONVOLUTION)
OF_CLIP = (".q_proj.weight", ".k_proj.weight", ".v_proj.weight")
_UNET, _CLIP = "diffusion_model.", "text_encoders."  # in front of the names of layers in a file


def randomised(module, seed):
    """The module, with weights with which no layer blows up, vanishes, or does nothing."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.named_parameters():
        noise = torch.randn(tensor.shape, generator=generator)
        is_gain = tensor.ndim == 1 and not name.endswith("bias")
        scale = 0.2 if tensor.ndim < 2 else 1 / math.sqrt(tensor[0].numel())
        tensor.requires_grad_(False).copy_(scale * noise + is_gain)
    return module


class Lora:
    """A random LoRA for a UNet, and for a CLIP if there is one.

    Args:
        unet: a diffusion model.
        clip: a comfy.sd.CLIP, or None.
    """

    def __init__(self, seed, unet, clip=None):
        generator = torch.Generator().manual_seed(seed)
        self.of_unet = _factors(unet.state_dict(), OF_UNET, generator)
        self.of_clip = {} if clip is None else _factors(clip.cond_stage_model.state_dict(), OF_CLIP, generator)

    def save(self, path):
        tensors = {}
        for prefix, factors in ((_UNET, self.of_unet), (_CLIP, self.of_clip)):
            for name, (up, down) in factors.items():
                layer = prefix + name.removesuffix(".weight")
                tensors |= {f"{layer}.lora_up.weight": up, f"{layer}.lora_down.weight": down}
                tensors[f"{layer}.alpha"] = torch.tensor(ALPHA)
        save_file(tensors, path)


def _factors(weights, endings, generator):
    factors = {}
    for name, weight in weights.items():
        if name.endswith(endings):
            up = torch.randn(weight.shape[0], RANK, *[1] * (weight.ndim - 2), generator=generator)
            down = torch.randn(RANK, *weight.shape[1:], generator=generator) / math.sqrt(weight[0].numel())
            factors[name] = (up, down)
    return factors


def saved_lora(folder, family, seed=71, clip=None):
    """A LoRA in a file of this folder, and the file's name."""
    lora, name = Lora(seed, family.patcher().model.diffusion_model, clip), f"{seed}.safetensors"
    lora.save(folder / name)
    return lora, name


def with_lora(name, node_id="LoraLoaderModelOnly"):
    """What the node that loads it makes of a model."""
    return by_node(node_id, lora_name=name, strength_model=STRENGTH)


def bake(module, factors, strength):
    """Add a LoRA to a module's own weights."""
    weights = module.state_dict()
    for name, (up, down) in factors.items():
        change = (up.flatten(1) @ down.flatten(1)).reshape(weights[name].shape)
        weights[name].add_(change, alpha=strength * ALPHA / RANK)


def model_of_its_own(family, weights=None):
    """A ModelPatcher of a model that nothing else uses, with other weights if they are given."""
    return patcher_of(family, weights or weights_of(family), torch.float32)


def baked_model(family, lora, strength):
    patcher = model_of_its_own(family)
    bake(patcher.model.diffusion_model, lora.of_unet, strength)
    return patcher


class _Target:
    """How ComfyUI's loaders describe a text encoder."""

    params = {}
    clip = comfy.sd1_clip.SD1ClipModel
    tokenizer = comfy.sd1_clip.SD1Tokenizer


def tiny_clip():
    """A CLIP such as SD1.5's, as wide as the tiny models' texts; each time the same weights."""
    sizes = {"num_hidden_layers": 2, "hidden_size": TEXT, "num_attention_heads": 2, "intermediate_size": 2 * TEXT}
    how = {"clip_l_model_config": sizes, "dtype": torch.float32, "initial_device": torch.device("cpu")}
    clip = comfy.sd.CLIP(_Target, model_options=how)
    randomised(clip.cond_stage_model, 61)
    return clip


def baked_clip(lora, strength):
    clip = tiny_clip()
    bake(clip.cond_stage_model, lora.of_clip, strength)
    return clip
