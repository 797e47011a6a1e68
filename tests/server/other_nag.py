"""A pack with nodes under ComfyUI-NAG's names and with its inputs, which they give back, and with a model that no other
pack knows."""
import copy

import comfy.model_patcher
import torch

NAG = ["nag_scale", "nag_tau", "nag_alpha", "nag_sigma_end"]
PROMPTS = ["positive", "negative", "nag_negative"]
SAMPLING = ["model", "cfg", *NAG, *PROMPTS, "latent_image"]
BY_WIDGETS = [*SAMPLING, "steps", "sampler_name", "scheduler"]
REQUIRED = {
    "KSamplerWithNAG": [*BY_WIDGETS, "seed", "denoise"],
    "KSamplerWithNAG (Advanced)": [
        *(*BY_WIDGETS, "noise_seed", "add_noise", "start_at_step", "end_at_step", "return_with_leftover_noise"),
    ],
    "SamplerCustomWithNAG": [*SAMPLING, "noise_seed", "add_noise", "sampler", "sigmas"],
    "NAGGuider": ["model", "conditioning", "nag_negative", *NAG, "latent_image"],
    "NAGCFGGuider": ["model", *PROMPTS, "cfg", *NAG, "latent_image"],
}


class Theirs:
    RETURN_TYPES, FUNCTION, CATEGORY = ("LATENT",), "sample", "theirs"
    REQUIRED = []

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {name: ("*",) for name in cls.REQUIRED}}

    def sample(self, **inputs):
        return ({**inputs["latent_image"], "inputs": inputs},)


class Unknown(torch.nn.Module):
    """A diffusion model of a class that nobody else knows."""

    def __init__(self, known):
        super().__init__()
        self.known, self.dtype = (known,), known.dtype  # in which nobody finds blocks

    def forward(self, *args, **kwargs):
        return self.known[0](*args, **kwargs)


class MakeUnknown:
    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "make", "theirs"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    def make(self, model):
        other = copy.copy(model.model)
        other._modules = {**other._modules, "diffusion_model": Unknown(other.diffusion_model)}
        return (comfy.model_patcher.ModelPatcher(other, model.load_device, model.offload_device),)


NODE_CLASS_MAPPINGS = {name: type("Theirs", (Theirs,), {"REQUIRED": names}) for name, names in REQUIRED.items()}
NODE_CLASS_MAPPINGS |= {"MakeUnknown": MakeUnknown, "OnlyTheirs": Theirs}
NODE_DISPLAY_NAME_MAPPINGS = {name: "Theirs" for name in NODE_CLASS_MAPPINGS}
