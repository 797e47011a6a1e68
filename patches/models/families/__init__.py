"""Which family is whose: by the names of the models' classes, so that a ComfyUI without one loads the others."""
from collections.abc import Iterable

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

Table = dict[str, Adapter | tuple[Adapter, ...]]
OTHERS: Table = {
    "comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel": UNet(),
    "comfy.ldm.modules.diffusionmodules.mmdit.OpenAISignatureMMDITWrapper": STABLE_DIFFUSION_3,
    "comfy.ldm.wan.model.WanModel": Wan(),
}


def _joined(tables: Iterable[Table]) -> dict[str, tuple[Adapter, ...]]:
    joined = {}
    for table in tables:
        for name, of_class in table.items():
            adapters = of_class if isinstance(of_class, tuple) else (of_class,)
            joined[name] = (*joined.get(name, ()), *adapters)
    return joined


# A name without a dot is that of a class of another pack, which is called as its folder is.
# Where models of several families share a class, the first adapter that serves a model is its.
REGISTRY = _joined((OTHERS, JOINT, FLUX, CROSS, PROJECTED, HUNYUAN, HIDREAM, MOCHI))
