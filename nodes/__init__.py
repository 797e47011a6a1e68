"""What people drag onto the graph."""
import logging

from comfy_api.latest import ComfyExtension, io

from ..patches import capabilities
from .conditioning import NAGConditioning
from .grid import NAGGrid
from .guiders import NAGCFGGuider, NAGGuider
from .legacy import KSamplerAdvancedWithNAG, KSamplerWithNAG, SamplerCustomWithNAG
from .model import NAGModel
from .names import keep_ids
from .options import NAGOptions
from .playground import NAGPlaygroundLoader
from .raylight import NAGRaylight, is_here
from .sampler import NAGSampler

NODES = [
    NAGModel,
    NAGConditioning,
    NAGGuider,
    NAGCFGGuider,
    NAGSampler,
    NAGGrid,
    NAGOptions,
    NAGPlaygroundLoader,
    KSamplerWithNAG,
    KSamplerAdvancedWithNAG,
    SamplerCustomWithNAG,
]
BESIDE_RAYLIGHT = [NAGRaylight]


def node_list() -> list[type[io.ComfyNode]]:
    """The nodes that this ComfyUI is to have."""
    return [*NODES, *(BESIDE_RAYLIGHT if is_here() else ())]


class NAGExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return node_list()


def extension() -> NAGExtension:
    """The nodes, which keep their ids, for ComfyUI to register; if it lacks what they need, the log says so."""
    keep_ids(node_list())  # not in on_load, which ComfyUI calls only from 0.15 on
    lacking = capabilities.missing()
    if lacking:
        logging.error("NAG: the nodes are there, but will not run. %s", capabilities.refusal(lacking))
    return NAGExtension()
