"""Where Raylight spreads a model over GPUs in a way that leaves NAG no place: how that is seen, and what is said.

For sequence parallel Raylight sets functions of its own on the model and its attention, for CFG parallel and PipeFusion
wrappers around the model. Data parallel and FSDP leave the model's own code, and NAG acts as on one GPU.
"""
from collections.abc import Iterator

PACKAGE = "raylight"  # of its code, wherever it lies
INSTEAD = (
    "Set ulysses_degree, ring_degree and cfg_degree of Raylight's Ray Init Actor to 0: each GPU then paints a picture "
    "of its own, or with FSDP holds its share of the weights, and NAG works."
)
SEQUENCE = (
    "NAG can't act where Raylight parts one picture among GPUs, with ulysses_degree or ring_degree above 1: its "
    f"attention replaces the model's own there, and takes nothing beside it. {INSTEAD}"
)
CFG = (
    "NAG can't act where Raylight parts positive and negative among GPUs, with cfg_degree above 1: which of them is to "
    f"be guided can't be told there. {INSTEAD}"
)
PIPELINE = (
    "NAG can't act under Raylight's PipeFusion, where each GPU has a part of the blocks only. Take the node "
    f"RayPipeFusionConfig out. {INSTEAD}"
)


def check_asked(parallel: dict) -> None:
    """Raise a ValueError if it is one of these ways that a worker of Raylight's is asked for.

    parallel: its parallel_dict. Degrees count only where `is_xdit` is set.
    """
    if parallel.get("pipefusion_enabled"):
        raise ValueError(PIPELINE)
    above_1 = lambda degree: parallel.get("is_xdit", False) and parallel.get(degree, 1) > 1
    if above_1("ulysses_degree") or above_1("ring_degree"):
        raise ValueError(SEQUENCE)
    if above_1("cfg_degree"):
        raise ValueError(CFG)


def check_spread(diffusion_model, model_options: dict) -> None:
    """Raise a ValueError if a model that is about to run is spread in one of these ways."""
    from comfy.patcher_extension import WrappersMP  # not above: the nodes are there on any ComfyUI

    wrappers = model_options.get("transformer_options", {}).get("wrappers", {}).get(WrappersMP.DIFFUSION_MODEL, {})
    around = list(_raylights(wrapper for of_key in wrappers.values() for wrapper in of_key))
    if around:
        raise ValueError(PIPELINE if any("pipefusion" in name for name in around) else CFG)
    if any(_raylights(vars(diffusion_model).values())):
        raise ValueError(SEQUENCE)


def _raylights(found) -> Iterator[str]:
    """The names of those functions and methods that are Raylight's."""
    for each in found:
        if callable(each) and (getattr(each, "__module__", None) or "").partition(".")[0] == PACKAGE:
            yield getattr(each, "__qualname__", type(each).__qualname__)
