"""What people drag onto the graph."""
from comfy_api.latest import ComfyExtension, io

from .conditioning import NAGConditioning
from .guiders import NAGCFGGuider, NAGGuider
from .model import NAGModel
from .options import NAGOptions
from .playground import NAGPlaygroundLoader
from .sampler import NAGSampler


class NAGExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [NAGModel, NAGConditioning, NAGGuider, NAGCFGGuider, NAGSampler, NAGOptions, NAGPlaygroundLoader]


async def comfy_entrypoint() -> NAGExtension:
    return NAGExtension()
