"""One run of a sampler: a wrapper that prepares it, and the watch over it."""
import dataclasses
import itertools
import logging

import comfy.sampler_helpers
import torch
from comfy.patcher_extension import WrappersMP

from ..checks import check_inputs, check_options, check_text
from ..models import Adapter, Undeclared, check_forwards, chosen_blocks, find_adapter, settled
from ..models.compiled import plain
from ..raylight import check_spread
from ..travelling import Travelling
from .call import ModelWrapper
from .guidance import Guidance, GuidanceRows, Rows
from .hook_groups import check_loras, drop_hook
from .negative import encode_negative
from .notices import (
    IGNORED,
    NEGATIVE_IS_GUIDED,
    NO_NEGATIVE,
    NO_POSITIVE,
    NOWHERE,
    TWO_NAGS,
    of_request,
    say,
    telling,
)
from .region import picture_sizes
from .request import KEY, Request
from .schedule import schedule_of
from .statistics import Statistics
from .watch import Watch
from .witness import Witness


class SamplingWrapper(Travelling):
    """A SAMPLER_SAMPLE wrapper: prepares one run, after ComfyUI has encoded the run's conditionings.

    All that it leaves behind hangs on the run's own copies of the conditionings and the model options.

    Args:
        request: for every positive that has none of its own; None where each conditioning brings its own.
    """

    def __init__(self, request: Request | None = None):
        self.request = request

    def __call__(self, executor, guider, sigmas, extra_args, *rest, **more):
        with telling(self._requests(guider.conds, extra_args["model_options"])):
            return self._run(executor, guider, sigmas, extra_args, *rest, **more)

    def _run(
        self, executor, guider, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, *rest, **more
    ):
        run = {"latent_image": latent_image, "denoise_mask": denoise_mask, "seed": extra_args.get("seed")}
        statistics, witness = self._prepare(guider, extra_args["model_options"], sigmas, noise, run)
        if statistics:
            callback = _ending_steps(statistics, callback)
        result = executor(guider, sigmas, extra_args, callback, noise, latent_image, denoise_mask, *rest, **more)
        for each in statistics:
            each.end()
        witness.check()
        return result

    def _prepare(self, guider, model_options, sigmas, noise, run):
        """Put each conditioning's guidance in place; gives the statistics that are to be gathered, and the witness."""
        model = guider.inner_model
        adapter = find_adapter(model)
        check_spread(plain(model.diffusion_model), model_options)  # before what would say less of the same
        check_forwards(adapter, model)
        check_alone(adapter, model_options)
        # Our hook has done its work; left there, it would keep ComfyUI from batching positive and negative.
        drop_hook(itertools.chain(*guider.conds.values()), KEY)
        to_guide, guidances = self._to_guide(guider.conds), []
        if to_guide:
            adapter = _settled(adapter, model, to_guide, guider, noise, model_options)
        for request, conditionings in to_guide:
            check_options(adapter, request.settings.options, model_options.get("transformer_options", {}))
            for conditioning in conditionings:
                check_text("positive", adapter, model.diffusion_model, conditioning.get("cross_attn"))
                check_inputs("positive", adapter, conditioning["model_conds"])
            negatives = negative_entries(request, guider)
            guidance = make_guidance(model, adapter, request, negatives, guider, noise, sigmas, run)
            said = of_request(request, guidance.settings, _texts(negatives), _texts(conditionings))
            said += [] if guidance.negatives else [NOWHERE]
            say(request, [*said, *adapter.notices], idle=bool(said))
            if not guidance.negatives:
                for conditioning in conditionings:
                    conditioning["model_conds"].pop(KEY, None)
                continue
            if request.report is not None and guidance.settings.options.statistics:
                guidance = dataclasses.replace(
                    guidance, statistics=Statistics(sigmas.tolist(), noise.device, request.report)
                )
            for conditioning in conditionings:
                conditioning["model_conds"][KEY] = _rows(adapter, conditioning, guidance, guided=True)
            guidances.append(guidance)
        if adapter.mixes_rows and guidances:
            for conditioning in itertools.chain(*guider.conds.values()):
                conditioning["model_conds"].setdefault(KEY, _rows(adapter, conditioning, guidances[0], guided=False))
        statistics = [guidance.statistics for guidance in guidances if guidance.statistics is not None]
        return statistics, _watched(guider, model_options, adapter, guidances)

    def _requests(self, conds, model_options):
        """All that have a part in a run: those that its model and its conditionings bring."""
        wrappers = model_options.get("transformer_options", {}).get("wrappers", {})
        of_model = [each.request for each in wrappers.get(WrappersMP.SAMPLER_SAMPLE, {}).get(KEY, ())]
        carried = [each["model_conds"].get(KEY) for each in itertools.chain(*conds.values())]
        of_conditionings = [each.cond for each in carried if each is not None and not isinstance(each, GuidanceRows)]
        found = (self.request, *of_model, *of_conditionings)
        return {each.mark: each for each in found if each is not None}.values()

    def _to_guide(self, conds):
        """[(request, the conditionings that it is to guide)], of those that have no guidance yet.

        Raises:
            ValueError: ours guides the positive, and the guider has none of that name.
        """
        found = {}
        for kind, conditionings in conds.items():
            for conditioning in conditionings:
                request = self._request_of(kind, conditioning["model_conds"])
                if request is not None:
                    found.setdefault(request.mark, (request, []))[1].append(conditioning)
        _drop_from_negatives(conds.get("negative", ()), found)
        if self.request is not None and self.request.mark not in found:
            if any(KEY in each["model_conds"] for each in itertools.chain(*conds.values())):
                say(self.request, [IGNORED], idle=True)
            elif "positive" not in conds:
                raise ValueError(NO_POSITIVE.format(" and ".join(conds)))
        return list(found.values())

    def _request_of(self, kind, model_conds):
        """What is to guide a conditioning: its own request, or ours for the positive; None if it has guidance yet."""
        carried = model_conds.get(KEY)
        if kind == "negative":
            return None
        if isinstance(carried, GuidanceRows):
            return self.request if kind == "positive" and not carried.cond[0].guided else None
        if carried is not None:
            return carried.cond
        return self.request if kind == "positive" else None


def _drop_from_negatives(negatives, requests):
    """Take away what negatives carry that were made of a guided positive, as by Conditioning Zero Out.

    Raises:
        ValueError: one carries what no positive does: NAG Conditioning is connected to the negative.
    """
    for conditioning in negatives:
        carried = conditioning["model_conds"].get(KEY)
        if carried is None or isinstance(carried, GuidanceRows):
            continue
        if carried.cond.mark not in requests:
            raise ValueError(NEGATIVE_IS_GUIDED)
        del conditioning["model_conds"][KEY]


def _settled(adapter, model, to_guide, guider, noise, model_options):
    """The adapter, or for a model that is not declared the one that is found for a prompt of this run.

    Raises:
        UnknownFamily: none is found, or none is to be looked for.
    """
    if not isinstance(adapter, Undeclared):
        return adapter
    if not all(request.settings.options.unknown_models for request, _ in to_guide):
        adapter = find_adapter(model, unknown_models=False)
    request, (conditioning, *_) = to_guide[0]
    check_text("positive", adapter, model.diffusion_model, conditioning.get("cross_attn"))
    negative, options = negative_entries(request, guider)[0], model_options.get("transformer_options", {})
    check_text("NAG negative", adapter, model.diffusion_model, negative.get("cross_attn"))
    adapter = settled(adapter, model, conditioning, negative, noise, options)
    check_forwards(adapter, model)
    return adapter


def _rows(adapter, conditioning, guidance, guided):
    # Not `cross_attn`: in an entry that ComfyUI makes for another's area, that is the other's.
    text = conditioning["model_conds"].get(adapter.text_input)
    return GuidanceRows(Rows(1, guidance, guided, 0 if text is None else text.cond.shape[1]))


def _texts(conditionings):
    return [conditioning["cross_attn"] for conditioning in conditionings]


def _watched(guider, model_options, adapter, guidances):
    """Put in place what watches the run and its model calls; gives the witness.

    A model and a conditioning that both bring NAG share these wrappers.
    """
    diffusion_model = plain(guider.inner_model.diffusion_model)
    wrappers = model_options.setdefault("transformer_options", {}).setdefault("wrappers", {})
    of_calls = wrappers.setdefault(WrappersMP.APPLY_MODEL, {})
    if KEY not in of_calls:
        witness = Witness(diffusion_model)
        retained = getattr(model_options.get("context_handler"), "latent_retain_index_list", ())
        of_calls[KEY] = [ModelWrapper(adapter, witness, retained)]
        of_run = guider.model_options.setdefault("transformer_options", {}).setdefault("wrappers", {})
        others = of_run.get(WrappersMP.PREDICT_NOISE, {})
        of_run[WrappersMP.PREDICT_NOISE] = {KEY: [Watch(guider, witness)], **others}  # in front of LazyCache's
    (wrapper,) = of_calls[KEY]
    for conditioning in itertools.chain(*guider.conds.values()):
        rows = conditioning["model_conds"].get(KEY)
        if isinstance(rows, GuidanceRows) and rows.cond[0].guided:
            wrapper.witness.to_guide.add(conditioning.get("uuid"))
    for label, modules in adapter.labelled(diffusion_model).items():
        if any(guidance.blocks is None or label in guidance.blocks for guidance in guidances):
            wrapper.witness.expect(modules)
    return wrapper.witness


def check_alone(adapter: Adapter, model_options: dict) -> None:
    """Raise a ValueError if ComfyUI's own NAG is on a model whose positives and negatives are kept apart."""
    patches = model_options.get("transformer_options", {}).get("patches", {}).get("attn1_output_patch", ())
    theirs = any(getattr(patch, "__qualname__", "").startswith("NAGuidance.") for patch in patches)
    if theirs and not adapter.mixes_rows:
        raise ValueError(TWO_NAGS)


def _ending_steps(statistics, callback):
    """The sampler's callback, which it calls at the end of each step, told to the statistics too."""

    def end_step(step, *args, **kwargs):
        for each in statistics:
            each.end_step(step)
        return None if callback is None else callback(step, *args, **kwargs)

    return end_step


def negative_entries(request: Request, guider) -> list[dict]:
    """The request's negative, or the guider's where it has none, as a guider holds it, not yet encoded.

    Raises:
        ValueError: there is none.
    """
    if request.negative is not None:
        entries = comfy.sampler_helpers.convert_cond(request.negative)
    else:
        entries = guider.original_conds.get("negative")
    if not entries:
        raise ValueError(NO_NEGATIVE)
    return entries


def make_guidance(
    model, adapter: Adapter, request: Request, entries: list[dict], guider, noise, sigmas: torch.Tensor, run: dict
) -> Guidance:
    """Encode a request's negative, as negative_entries gives it, and complete the request's settings.

    Raises:
        ValueError: the negative is not for this model, or it has a LoRA that no positive has.
    """
    check_loras(entries, itertools.chain(*(conds for kind, conds in guider.conds.items() if kind != "negative")))
    settings = request.settings.filled(adapter.recommended(model))
    low, high = settings.sigma_range(model.model_sampling.percent_to_sigma)
    schedule = schedule_of(settings.options, sigmas, low, high)
    sizes = picture_sizes(noise, guider.conds)
    negatives = encode_negative(model, adapter, entries, noise, sizes, **run)
    blocks = chosen_blocks(adapter, model, settings.options.blocks)
    guidance = Guidance(settings, negatives, low, high, schedule=schedule, blocks=blocks)
    logging.info(
        "NAG: nag_scale %g, nag_tau %g, nag_alpha %g%s%s%s%s",
        *settings.at(settings.strength),
        "" if settings.options.equation == "nag" else f", equation {settings.options.equation}",
        "" if guidance.always() else f", while sigma lies between {low:.4g} and {high:.4g}",
        "" if schedule is None else f", schedule {settings.options.schedule}",
        "" if blocks is None else f", blocks {settings.options.blocks}",
    )
    return guidance


