"""The way in: NAG is carried by a clone of a model, or by a conditioning."""
import comfy.conds
import comfy.hooks
from comfy.patcher_extension import WrappersMP

from ..checks import check_fits, check_model, check_not_empty, check_options
from ..models import chosen_blocks, find_adapter
from .hook_groups import explained_hooks
from .memory import MemoryWrapper
from .notices import of_settings
from .request import KEY, Request
from .run import SamplingWrapper, check_alone


def guide_model(model, request: Request):
    """A clone of a ModelPatcher with which any sampler guides its positive.

    Raises:
        ValueError: the model or the negative can't be used; see find_adapter, check_not_empty, check_fits, check_alone,
            check_options, chosen_blocks.
    """
    check_model(model)
    guided = model.clone()
    for kind in (WrappersMP.PREPARE_SAMPLING, WrappersMP.SAMPLER_SAMPLE):
        guided.remove_wrappers_with_key(kind, KEY)  # the last NAG node on a model counts
    if request.negative is not None:
        check_not_empty("The NAG negative", request.negative)
    if request.settings.off:
        request.advise(of_settings(request.settings), True)  # not into the log: it is what was asked for
        return guided
    adapter = find_adapter(model.model, request.settings.options.unknown_models)
    # What comes behind is seen when a run starts.
    check_alone(adapter, guided.model_options)
    check_options(adapter, request.settings.options, guided.model_options.get("transformer_options", {}))
    if request.negative is not None:
        check_fits(adapter, model.model.diffusion_model, request.negative)
    chosen_blocks(adapter, model.model, request.settings.options.blocks)  # raises where it has not these
    guided.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, KEY, MemoryWrapper(request))
    guided.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, KEY, SamplingWrapper(request))
    return guided


def guide_conditioning(positive: list, request: Request) -> list:
    """A copy of a CONDITIONING that brings its own NAG to whatever samples it.

    Raises:
        ValueError: the positive or the negative is empty, or a hook of another node's on the positive can't be copied.
    """
    check_not_empty("positive", positive)
    check_not_empty("negative", request.negative)
    if request.settings.off:
        request.advise(of_settings(request.settings), True)  # not into the log: it is what was asked for
        return positive
    wrappers = {
        WrappersMP.PREPARE_SAMPLING: {KEY: [MemoryWrapper(request)]},
        WrappersMP.SAMPLER_SAMPLE: {KEY: [SamplingWrapper()]},
    }
    hook = comfy.hooks.TransformerOptionsHook({"wrappers": wrappers})
    hook.hook_id = KEY
    hooks = comfy.hooks.HookGroup()
    hooks.add(hook)
    # Among the model_conds, because those go along where ComfyUI makes a further entry for an area out of this one.
    carried = {KEY: comfy.conds.CONDConstant(request)}
    guided = [
        [tokens, {**values, "model_conds": {**values.get("model_conds", {}), **carried}}] for tokens, values in positive
    ]
    with explained_hooks(positive):
        return comfy.hooks.set_hooks_for_conditioning(guided, hooks, append_hooks=True)


