"""The way into sampling: ComfyUI's wrappers, carried by a model or by a conditioning."""
import dataclasses
import itertools
import logging

import comfy.conds
import comfy.hooks
import comfy.sampler_helpers
from comfy.patcher_extension import WrappersMP

from .caches import renew_at_changes
from .compiled import marks
from .conditioning import Guidance, GuidanceRows, Rows
from .hook_groups import check_loras, drop_hook
from .memory import MemoryWrapper
from .models import Adapter, ModelCall, find_adapter
from .models.hooks import hooked
from .negative import encode_negative
from .request import Request, check_fits, check_model, check_not_empty, check_text
from .statistics import Statistics
from .witness import Witness, is_used_at

# Under which a conditioning's model_conds carry its Request, then the guidance of its rows, and a model its wrapper.
KEY = "normalized_attention_guidance"

NO_NEGATIVE = (
    "NAG has no negative: this sampler or guider brings none. Connect one to the nag_negative input of the NAG node."
)

TWO_NAGS = (
    "ComfyUI's own node Normalized Attention Guidance is on this model, too. It does nothing beside this NAG, since it "
    "needs positive and negative in one model call. Take one of the two out."
)


def guide_model(model, request: Request):
    """A clone of a ModelPatcher with which any sampler guides its positive.

    Raises:
        ValueError: the model or the negative can't be used; see find_adapter, check_not_empty and check_fits.
    """
    check_model(model)
    guided = model.clone()
    for kind in (WrappersMP.PREPARE_SAMPLING, WrappersMP.SAMPLER_SAMPLE):
        guided.remove_wrappers_with_key(kind, KEY)  # the last NAG node on a model counts
    if request.negative is not None:
        check_not_empty("The NAG negative", request.negative)
    if request.settings.off:
        return guided
    adapter = find_adapter(model.model.diffusion_model)
    if request.negative is not None:
        check_fits(adapter, model.model.diffusion_model, request.negative)
    guided.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, KEY, MemoryWrapper(request))
    guided.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, KEY, SamplingWrapper(request))
    return guided


def guide_conditioning(positive: list, request: Request) -> list:
    """A copy of a CONDITIONING that brings its own NAG to whatever samples it.

    Raises:
        ValueError: the positive or the negative is empty.
    """
    check_not_empty("positive", positive)
    check_not_empty("negative", request.negative)
    if request.settings.off:
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
    return comfy.hooks.set_hooks_for_conditioning(guided, hooks, append_hooks=True)


class SamplingWrapper:
    """A SAMPLER_SAMPLE wrapper: prepares one run, after ComfyUI has encoded the run's conditionings.

    All that it leaves behind hangs on the run's own copies of the conditionings and the model options.

    Args:
        request: for every positive that has none of its own; None where each conditioning brings its own.
    """

    def __init__(self, request: Request | None = None):
        self.request = request

    def __call__(
        self, executor, guider, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, *rest, **more
    ):
        run = {"latent_image": latent_image, "denoise_mask": denoise_mask, "seed": extra_args.get("seed")}
        statistics, witness = self._prepare(guider, extra_args["model_options"], sigmas, noise, run)
        if statistics:
            callback = _ending_steps(statistics, callback)
        result = executor(guider, sigmas, extra_args, callback, noise, latent_image, denoise_mask, *rest, **more)
        for each in statistics:
            each.end()
        witness.check(_is_to_act(guider.conds.get("positive", ()), sigmas))
        return result

    def _prepare(self, guider, model_options, sigmas, noise, run):
        """Put each conditioning's guidance in place; gives the statistics that are to be gathered, and the witness."""
        model = guider.inner_model
        adapter = find_adapter(model.diffusion_model)
        if not adapter.mixes_rows:
            _check_alone(model_options)
        encoded = {}

        def guidance_for(request):
            if id(request) not in encoded:
                guidance = make_guidance(model, adapter, request, guider, noise, run)
                if request.report is not None and guidance.settings.options.statistics:
                    guidance = dataclasses.replace(
                        guidance, statistics=Statistics(sigmas.tolist(), noise.device, request.report)
                    )
                encoded[id(request)] = guidance
            return encoded[id(request)]

        # Our hook has done its work; left there, it would keep ComfyUI from batching positive and negative.
        drop_hook(itertools.chain(*guider.conds.values()), KEY)
        for kind, conditionings in guider.conds.items():
            for conditioning in conditionings:
                request = self._request_of(kind, conditioning["model_conds"])
                if request is not None:
                    check_text("positive", adapter, model.diffusion_model, conditioning.get("cross_attn"))
                    conditioning["model_conds"][KEY] = GuidanceRows(Rows(1, guidance_for(request), guided=True))
        if adapter.mixes_rows and encoded:
            unguided = GuidanceRows(Rows(1, next(iter(encoded.values())), guided=False))
            for conditioning in itertools.chain(*guider.conds.values()):
                conditioning["model_conds"].setdefault(KEY, unguided)
        renew_at_changes(KEY, guider, list(encoded.values()))
        wrappers = model_options.setdefault("transformer_options", {}).setdefault("wrappers", {})
        # A model and a conditioning that both bring NAG share the wrapper of their run.
        (wrapper,) = wrappers.setdefault(WrappersMP.APPLY_MODEL, {}).setdefault(KEY, [ModelWrapper(adapter)])
        statistics = [guidance.statistics for guidance in encoded.values() if guidance.statistics is not None]
        return statistics, wrapper.witness

    def _request_of(self, kind, model_conds):
        """What is to guide a conditioning: its own request, or ours for the positive; None if it has guidance yet."""
        carried = model_conds.get(KEY)
        if isinstance(carried, GuidanceRows):
            return self.request if kind == "positive" and not carried.cond[0].guided else None
        if kind == "negative":  # which may have been made of a guided positive, as by ConditioningZeroOut
            model_conds.pop(KEY, None)
            return None
        if carried is not None:
            return carried.cond
        return self.request if kind == "positive" else None


def _check_alone(model_options):
    """Raise a ValueError if ComfyUI's own NAG is on a model whose positives and negatives are kept apart."""
    patches = model_options.get("transformer_options", {}).get("patches", {}).get("attn1_output_patch", ())
    if any(getattr(patch, "__qualname__", "").startswith("NAGuidance.") for patch in patches):
        raise ValueError(TWO_NAGS)


def _ending_steps(statistics, callback):
    """The sampler's callback, which it calls at the end of each step, told to the statistics too."""

    def end_step(step, *args, **kwargs):
        for each in statistics:
            each.end_step(step)
        return None if callback is None else callback(step, *args, **kwargs)

    return end_step


def _is_to_act(conditionings, sigmas):
    """Whether NAG acts for one of these conditionings at a step of the run."""
    return any(
        rows is not None and rows.cond[0].guided and rows.cond[0].guidance.acts_at(sigma)
        for conditioning in conditionings
        for rows in [conditioning["model_conds"].get(KEY)]
        for sigma in sigmas[:-1].tolist()
        if is_used_at(conditioning, sigma)
    )


def make_guidance(model, adapter: Adapter, request: Request, guider, noise, run: dict) -> Guidance:
    """Encode the request's negative, or the guider's where it has none, and complete its settings.

    Raises:
        ValueError: there is no negative, it is not for this model, or it has a LoRA that no positive has.
    """
    if request.negative is not None:
        entries = comfy.sampler_helpers.convert_cond(request.negative)
    else:
        entries = guider.original_conds.get("negative")
    if not entries:
        raise ValueError(NO_NEGATIVE)
    check_loras(entries, itertools.chain(*(conds for kind, conds in guider.conds.items() if kind != "negative")))
    settings = request.settings.completed(adapter.recommended(model.diffusion_model))
    low, high = settings.sigma_range(model.model_sampling.percent_to_sigma)
    guidance = Guidance(settings, encode_negative(model, adapter, entries, noise, **run), low, high)
    logging.info(
        "NAG: nag_scale %g, nag_tau %g, nag_alpha %g%s",
        *(settings.nag_scale, settings.nag_tau, settings.nag_alpha),
        "" if guidance.always() else f", while sigma lies between {low:.4g} and {high:.4g}",
    )
    return guidance


class ModelWrapper:
    """An APPLY_MODEL wrapper of one run: guides the rows of a model call, or steps aside where NAG does not act."""

    def __init__(self, adapter: Adapter):
        self.adapter, self.witness = adapter, Witness()

    def __call__(
        self, executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs
    ):
        transformer_options = transformer_options or {}
        rows = kwargs.pop(KEY, None)
        active = None if rows is None else rows.at(t, x.shape[0])
        if rows is not None and any(part.guided for part in rows.cond):
            self.witness.see_call(acting=active is not None)
        if active is None:
            return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)
        call = ModelCall(
            x=x,
            context=c_crossattn.to(x.device),  # newer ComfyUI does this later, inside the call
            negative=active.tokens,
            pooled=active.pooled,
            guided=active.guided,
            settings=active.settings,
            statistics=active.statistics,
            witness=self.witness,
            control=control,
            transformer_options=transformer_options,
        )
        model = executor.class_obj.diffusion_model
        with self.adapter.guided(model, call) as (context, options), hooked(marks(model, call.shape)):
            return executor(x, t, c_concat, context, control, options, **kwargs)
