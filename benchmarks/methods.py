"""What is compared: each method makes a guider, which samples with the model, two prompts and nothing else."""
import asyncio
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass

import comfy.samplers
import torch
from patches.attention.override import OVERRIDE
from patches.sampling.entry import guide_model
from patches.sampling.request import Request
from patches.settings import Options, Settings

from .models import ARCHITECTURES

CFG = 4.0
NAG = {"nag_scale": 5.0, "nag_tau": 2.5, "nag_alpha": 0.25}  # the cost does not depend on them
JOINT = tuple(family for family, architecture in ARCHITECTURES.items() if architecture.joint)
CORES = ("sdxl", "flux", "flux2", "chroma", "krea2")  # the others have no place for NAGuidance's patch
STOP, STEPS_IN_ALL, STEPS_BEFORE = 0.25, 7, 2  # of seven steps, two begin in the first quarter


@dataclass(frozen=True)
class Method:
    """
    Args:
        key: its name on the command line.
        guider: makes one of a ModelPatcher and the Size.
        families: where it differs from the others; None for all.
        steps: how many it needs, if not as many as asked for.
        stops_after: in how many of them NAG acts, if not in all.
        floor: from NAG's floor, this method's, each as a share of base; None if nobody knows.
    """

    key: str
    name: str
    guider: Callable
    families: tuple[str, ...] | None = None
    steps: int | None = None
    stops_after: int | None = None
    floor: Callable[[float], float] = lambda nag: None


def stock(patcher, size, cfg=1.0):
    guider = comfy.samplers.CFGGuider(patcher)
    guider.set_conds(*(size.conditioning(seed, patcher.model) for seed in (1, 2)))
    guider.set_cfg(cfg)
    return guider


def ours(cfg=1.0, **options):
    def guider(patcher, size):
        return stock(guide_model(patcher, Request(Settings(**NAG, options=Options(**options)))), size, cfg)

    return guider


def exact(patcher, size):
    """An override that is there before ours could do anything to the scores, so nothing is merged behind its back."""
    overridden = patcher.clone()
    options = overridden.model_options["transformer_options"]
    options[OVERRIDE] = lambda attention, *args, **more: attention(*args, **more)
    return ours()(overridden, size)


def core(patcher, size):
    """ComfyUI's own node, at what it comes with."""
    from comfy_extras.nodes_nag import NAGuidance

    return stock(NAGuidance.execute(patcher, nag_scale=5.0, nag_alpha=0.5, nag_tau=1.5).result[0], size)


def other_pack(path):
    """A method that takes the guider node of another checkout, of ComfyUI-NAG or of this pack."""

    def guider(patcher, size):
        node = find_node(path, "NAGCFGGuider")
        positive, negative = (size.conditioning(seed, patcher.model) for seed in (1, 2))
        inputs = dict(model=patcher, positive=positive, negative=negative, cfg=1.0, nag_negative=negative,
                      nag_sigma_end=0.0, **NAG)
        if hasattr(node, "get_guider"):
            return node().get_guider(**inputs, latent_image={"samples": size.latents(torch.zeros)})[0]
        return node.execute(**inputs).result[0]

    return guider


def find_node(path, name):
    """A node's class from another pack's checkout, which is imported the way ComfyUI does."""
    package = f"other_pack_{path.name.replace('-', '_')}"
    if package not in sys.modules:
        spec = importlib.util.spec_from_file_location(package, path / "__init__.py")
        sys.modules[package] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(sys.modules[package])
        except Exception:
            del sys.modules[package]
            raise
    module = sys.modules[package]
    if hasattr(module, "NODE_CLASS_MAPPINGS"):
        return module.NODE_CLASS_MAPPINGS[name]

    async def listed():
        return await (await module.comfy_entrypoint()).get_node_list()

    return {node.define_schema().node_id: node for node in asyncio.run(listed())}[name]


def methods(compare=()):
    """All methods, base first. compare: checkouts of other packs."""
    early = f"NAG until {STOP:g} of the sampling"
    found = [
        Method("base", "base", stock, floor=lambda nag: 0),
        Method("cfg", "base + CFG", lambda patcher, size: stock(patcher, size, CFG), floor=lambda nag: 1),
        Method("nag", "NAG", ours(), floor=lambda nag: nag),
        Method("exact", "NAG, two exact calls", exact, JOINT, floor=lambda nag: nag),
        Method("early", early, ours(end_percent=STOP), steps=STEPS_IN_ALL, stops_after=STEPS_BEFORE,
               floor=lambda nag: nag * STEPS_BEFORE / STEPS_IN_ALL),
        Method("nag+cfg", "NAG + CFG", ours(CFG), floor=lambda nag: 1 + nag),
        Method("separate", "NAG, image_stream separate", ours(image_stream="separate"), ("flux",)),
    ]
    if importlib.util.find_spec("comfy_extras.nodes_nag"):
        found.append(Method("core", "ComfyUI's NAGuidance", core, CORES))
    return found + [Method(path.name, path.name, other_pack(path)) for path in compare]
