"""Which adapter guides which diffusion model: one line a family."""
import torch

from ..capabilities import refusal
from .adapter import Adapter, ModelCall
from .flux import Flux
from .sd3 import SD3
from .unet import UNet
from .wan import Wan

# By name, so that a ComfyUI without one of these modules still loads the others.
REGISTRY: dict[str, Adapter] = {
    "comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel": UNet(),
    "comfy.ldm.modules.diffusionmodules.mmdit.OpenAISignatureMMDITWrapper": SD3(),
    "comfy.ldm.flux.model.Flux": Flux(),
    "comfy.ldm.wan.model.WanModel": Wan(),
}


def find_adapter(model: torch.nn.Module) -> Adapter:
    """The adapter for a diffusion model, by its class or the nearest class that it derives from.

    Raises:
        ValueError: there is none, or this model can't be guided; it names the class and the supported families.
        RuntimeError: this ComfyUI lacks what the adapter stands on; it names that.
    """
    model = getattr(model, "_orig_mod", model)  # what torch.compile has put something around
    for cls in type(model).__mro__:
        adapter = REGISTRY.get(f"{cls.__module__}.{cls.__qualname__}")
        if adapter is not None:
            break
    else:
        raise ValueError(_refusal(model, "has no adapter for it yet"))
    reason = adapter.unsupported(model)
    if reason is not None:
        raise ValueError(_refusal(model, f"can't guide it: {reason}"))
    lacking = adapter.missing(model)
    if lacking:
        raise RuntimeError(refusal(lacking))
    return adapter


def _refusal(model, reason):
    families = ", ".join(adapter.name for adapter in REGISTRY.values())
    return f"The diffusion model is a {type(model).__name__}, and NAG {reason}. Supported families: {families}."


__all__ = ["Adapter", "ModelCall", "find_adapter"]
