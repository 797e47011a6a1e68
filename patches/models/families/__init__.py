"""Which family is whose: by the names of the models' classes, so that a ComfyUI without one loads the others."""
from ..adapter import Adapter
from .cross import CROSS
from .flux import FLUX
from .hidream import HIDREAM
from .hunyuan import HUNYUAN
from .joint import JOINT
from .mochi import MOCHI
from .projected import PROJECTED
from .sd3 import STABLE_DIFFUSION_3
from .unet import UNet
from .wan import Wan

# Where models of several families share a class, the first adapter that serves a model is its.
REGISTRY: dict[str, Adapter | tuple[Adapter, ...]] = {
    "comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel": UNet(),
    "comfy.ldm.modules.diffusionmodules.mmdit.OpenAISignatureMMDITWrapper": STABLE_DIFFUSION_3,
    "comfy.ldm.wan.model.WanModel": Wan(),
    **JOINT,
    **CROSS,
    **PROJECTED,
    **HUNYUAN,
    **HIDREAM,
    **MOCHI,
    "comfy.ldm.flux.model.Flux": (*JOINT["comfy.ldm.flux.model.Flux"], FLUX),
}
