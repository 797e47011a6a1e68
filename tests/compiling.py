"""A model's torch.compile as people come to it: by ComfyUI's node, and as other packs do it to a transformer."""
import torch
from comfy_api.torch_helpers import set_torch_compile_wrapper

from stock import stock

BLOCKS = {
    "sd35_large": ["joint_blocks"],
    "flux_dev": ["double_blocks", "single_blocks"],
    "wan21_t2v": ["blocks"],
    "z_image": ["layers"],
    "qwen_image": ["transformer_blocks"],
    "chroma": ["double_blocks", "single_blocks"],
    "cosmos_predict2": ["blocks"],
    "pixart_sigma": ["blocks"],
    "ernie_image": ["layers"],
}
DITS = [("sd35_large", "shared"), ("flux_dev", "shared"), ("flux_dev", "separate"), ("wan21_t2v", "shared")]
AT_DOORS = [
    (name, "shared")
    for name in ("z_image", "qwen_image", "chroma", "cosmos_predict2", "pixart_sigma", "ernie_image")
]


def blocks_of(patcher, name):
    net = patcher.model.diffusion_model
    return [f"diffusion_model.{blocks}.{i}" for blocks in BLOCKS[name] for i in range(len(getattr(net, blocks)))]


def without_options(guards):
    """As ComfyUI's own node has it: no guard looks into transformer_options."""
    return ["transformer_options" not in guard.name for guard in guards]


def by_wrapper(fullgraph, options, whole):
    def compiled(patcher, name):
        patched = patcher.clone()
        keys = ["diffusion_model"] if whole else blocks_of(patcher, name)
        set_torch_compile_wrapper(patched, backend="eager", options=options, fullgraph=fullgraph, keys=keys)
        return patched

    return compiled


def by_object_patches(patcher, name):
    patched = patcher.clone()
    for key in blocks_of(patcher, name):
        patched.add_object_patch(key, torch.compile(patched.get_model_object(key), backend="eager"))
    return patched


def whole_by_object_patch(patcher, name):
    patched = patcher.clone()
    model = torch.compile(patched.get_model_object("diffusion_model"), backend="eager")
    patched.add_object_patch("diffusion_model", model)
    return patched


UNGUARDED = {"guard_filter_fn": without_options}
WAYS = {
    "blocks": by_wrapper(False, {}, False),
    "blocks, few guards": by_wrapper(False, UNGUARDED, False),
    "blocks, in one graph": by_wrapper(True, UNGUARDED, False),
    "blocks, as patches": by_object_patches,
    "whole, in one graph": by_wrapper(True, UNGUARDED, True),
    "whole, as a patch": whole_by_object_patch,
}


def compiled(patcher, backend="eager"):
    """By ComfyUI's node. Dynamo's "eager" traces, guards and runs as any backend does, and needs no C++ compiler."""
    return stock("TorchCompileModel", model=patcher, backend=backend)[0]
