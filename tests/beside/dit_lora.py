"""A LoRA for a transformer, in a file for ComfyUI's loaders, and added to a model's own weights."""
import math

import comfy.utils
import torch

FILE, STRENGTH = "tiny.safetensors", 0.8


def write_lora(folder, shapes, scale=1.0):
    """Writes one for layers of these names and (outputs, inputs); gives (up, down) by the weights' names."""
    generator, factors, file = torch.Generator().manual_seed(4), {}, {}
    for layer, (n_out, n_in) in shapes.items():
        up = torch.randn(n_out, 4, generator=generator) * scale
        down = torch.randn(4, n_in, generator=generator) / math.sqrt(8 * n_in)
        factors[f"{layer}.weight"] = up, down
        file[f"diffusion_model.{layer}.lora_up.weight"] = up
        file[f"diffusion_model.{layer}.lora_down.weight"] = down
    comfy.utils.save_torch_file(file, str(folder / FILE))
    return factors


def add_lora(weights, factors, strength=STRENGTH):
    """In place."""
    for name, (up, down) in factors.items():
        weights[name] += strength * (up @ down)
