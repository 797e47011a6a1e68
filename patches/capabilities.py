"""What the engine stands on in ComfyUI, asked for by name: versions come and go."""
import importlib
import inspect
from collections.abc import Iterable

# As module:attribute, with the parameters in brackets that we pass or that our hooks read.
NEEDED = (
    "comfy.conds:CONDConstant",
    "comfy.conds:CONDRegular",
    "comfy.hooks:EnumHookType.Weight",
    "comfy.hooks:Hook",
    "comfy.hooks:HookGroup.add",
    "comfy.hooks:HookGroup.get_type",
    "comfy.hooks:TransformerOptionsHook",
    "comfy.hooks:set_hooks_for_conditioning(append_hooks)",
    "comfy.ldm.modules.attention:optimized_attention(skip_reshape, transformer_options)",
    "comfy.ldm.modules.attention:wrap_attn",
    "comfy.model_management:cast_to_device",
    "comfy.model_patcher:ModelPatcher.add_wrapper_with_key",
    "comfy.model_patcher:ModelPatcher.remove_wrappers_with_key",
    "comfy.patcher_extension:WrappersMP.APPLY_MODEL",
    "comfy.patcher_extension:WrappersMP.DIFFUSION_MODEL",
    "comfy.patcher_extension:WrappersMP.PREDICT_NOISE",
    "comfy.patcher_extension:WrappersMP.PREPARE_SAMPLING",
    "comfy.patcher_extension:WrappersMP.SAMPLER_SAMPLE",
    "comfy.sampler_helpers:convert_cond",
    "comfy.sampler_helpers:estimate_memory",
    "comfy.samplers:CFGGuider",
    "comfy.samplers:calculate_start_end_timesteps",
    "comfy.samplers:encode_model_conds",
    "comfy.samplers:get_area_and_mult",
    "comfy.samplers:resolve_areas_and_cond_masks_multidim",
    "comfy.utils:repeat_to_batch_size",
)
# What the engine uses where it is there and works, as a trial shows, and does without elsewhere.
TRIED = (
    "comfy.ldm.modules.attention:flash_attn_func",
    "comfy.ldm.modules.attention:sageattn",
    "comfy.ldm.modules.attention:xformers.ops.memory_efficient_attention_forward_requires_grad",
)


def missing(needed: Iterable[str] = NEEDED) -> list[str]:
    """Those that this ComfyUI lacks, each as a name to search for."""
    return [found for need in needed for found in _lacking(need)]


def check() -> None:
    """Raise a RuntimeError that names all that the engine needs of ComfyUI and does not find."""
    lacking = missing()
    if lacking:
        raise RuntimeError(refusal(lacking))


def refusal(lacking: list[str]) -> str:
    """What to tell the user."""
    return (
        f"NAG can't work with this ComfyUI, which lacks {', '.join(lacking)}. NAG needs ComfyUI 0.3.60 or newer; if "
        "yours is newer, update this node pack. Without the NAG nodes, your workflow runs as ever."
    )


def _lacking(need):
    """What is missing of one need."""
    path, _, parameters = need.rstrip(")").partition("(")
    module, _, attributes = path.partition(":")
    try:
        found = importlib.import_module(module)
    except ImportError:
        return [module]
    name = module
    for attribute in attributes.split("."):
        name += f".{attribute}"
        if not hasattr(found, attribute):
            return [name]
        found = getattr(found, attribute)
    taken = inspect.signature(found).parameters if parameters else {}
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
        return []
    return [f"{name}({each})" for each in parameters.split(", ") if each and each not in taken]
