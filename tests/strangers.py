"""A model that nobody knows."""
import comfy.model_base
import comfy.model_patcher
import torch


class Unknown(torch.nn.Module):
    """A diffusion model that nobody knows."""

    dtype = torch.float32


def unknown_model():
    model = comfy.model_base.BaseModel.__new__(comfy.model_base.BaseModel)
    torch.nn.Module.__init__(model)
    model.diffusion_model = Unknown()
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)
