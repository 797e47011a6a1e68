"""Euler's method with CFG, regions and a NAG for each positive, in float64; or the oracle under ComfyUI's own sampling.

What ComfyUI makes of conditionings (areas, masks, time ranges, latents to concatenate) is its own business and done by
its functions; which rows are guided, when, and by what, is decided here.
"""
import copy
import dataclasses
import math
from itertools import pairwise

import comfy.sample
import comfy.sampler_helpers
import comfy.samplers
import torch
from comfy.conds import CONDConstant
from comfy.patcher_extension import WrappersMP
from comfy.utils import repeat_to_batch_size

from .equation import Prompt

KEY = "oracle_nag"  # under which a positive's entries carry a Nag, among what belongs to their text

_exact_models = {}


class Carried(CONDConstant):
    """A Nag among what ComfyUI batches: rows share a model call if they share the Nag. Its masks are cut as x is."""

    def process_cond(self, batch_size, area=None, **more):
        if self.cond.places is None or area is None:
            return self
        return Carried(dataclasses.replace(self.cond, places=self.cond.places.within(window_of(area))))

    def can_concat(self, other):
        return self.cond is other.cond


def guided_by(conditioning, nag):
    """The conditioning with a Nag on each entry."""
    return [[text, {**values, "model_conds": {KEY: Carried(nag)}}] for text, values in conditioning]


def exact_model(forward, patcher, others=None):
    """A clone of a ModelPatcher in whose place the oracle answers; a positive may have been given a Nag by guided_by.

    Everything around the model is ComfyUI's own then: samplers, guiders, areas, and what other nodes do there.

    Args:
        others: makes of the transformer options what other nodes do inside of the model, for `forward`.
    """
    exact = patcher.clone()
    exact.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, ExactModel(forward, others))
    return exact


def exactly(model):
    """The diffusion model in float64; made once for each."""
    if id(model) not in _exact_models:
        _exact_models[id(model)] = model, copy.deepcopy(model).double()
    return _exact_models[id(model)][1]


def sample(forward, patcher, positive, negative, cfg, latent, sigmas, seed):
    """The denoised latent, as common_ksampler returns it.

    Args:
        forward: that of a family.
        positive: a CONDITIONING, parts of which may have been given a Nag by guided_by.
        negative: the negative of CFG.
        latent: (batch, channels, ...).
    """
    model = patcher.model
    noise = comfy.sample.prepare_noise(latent, seed)
    if latent.any():
        latent = model.process_latent_in(latent)
    run = Run(forward, model, noise, latent, seed)
    conds = run.encoded({"positive": positive, "negative": negative})
    sampling = model.model_sampling
    from_the_start = math.isclose(float(sampling.sigma_max), float(sigmas[0]), rel_tol=1e-5)
    x = sampling.noise_scaling(sigmas[0].double(), noise.double(), latent.double(), from_the_start)
    for sigma, following in pairwise(sigmas):
        denoised = run.denoised(x, sigma, conds["positive"])
        if cfg != 1:
            unconditional = run.denoised(x, sigma, conds["negative"])
            denoised = unconditional + cfg * (denoised - unconditional)
        slope = (x - denoised) / sigma.double()
        x = x + slope * (following.double() - sigma.double())
    return model.process_latent_out(sampling.inverse_noise_scaling(sigmas[-1].double(), x))


class Run:
    """The model, and what stays the same over all steps."""

    def __init__(self, forward, model, noise, latent, seed):
        self.forward, self.model, self.noise, self.latent, self.seed = forward, model, noise, latent, seed

    @property
    def net(self):
        return exactly(self.model.diffusion_model)

    def encoded(self, conditionings):
        conds = {kind: comfy.sampler_helpers.convert_cond(entries) for kind, entries in conditionings.items()}
        return comfy.samplers.process_conds(
            self.model, self.noise, conds, self.noise.device, self.latent, None, self.seed
        )

    def denoised(self, x, sigma, conds):
        """The mean over the entries of a conditioning, weighted by their masks and strengths."""
        total, weights = torch.zeros_like(x), torch.zeros_like(x)
        for cond in conds:
            part = comfy.samplers.get_area_and_mult(cond, x, sigma[None])
            if part is None:  # at this sigma the entry does not hold
                continue
            window = (slice(None), slice(None), *window_of(part.area))
            total[window] += part.mult * self.predicted(part, sigma)
            weights[window] += part.mult
        return total / (weights + 1e-37)

    def predicted(self, part, sigma):
        x = part.input_x
        values = {name: exact(value.concat([])) for name, value in part.conditioning.items()}
        if part.control is not None:
            residuals = part.control.get_control(x, sigma.expand(x.shape[0]), values, 1, {})
            values["control"] = exact(residuals)
        return self.of_model(x, sigma, values)

    def of_model(self, x, sigma, values):
        """What the model makes of x, given what ComfyUI gives it for these rows and their Nag."""
        nag = values.pop(KEY, None)
        nag = nag and nag.at(sigma)
        sampling = self.model.model_sampling
        sigmas = sigma.expand(x.shape[0])
        model_input = sampling.calculate_input(sigmas.double(), x)
        if values.get("c_concat") is not None:
            model_input = torch.cat((model_input, values["c_concat"]), 1)
        negative = None if nag is None else self.negative_at(sigma, nag, x.shape[0])
        if negative is not None and nag.places is not None:
            nag = dataclasses.replace(nag, places=nag.places.of(negative))
        out = self.forward(self.net, model_input, sampling.timestep(sigmas).float(), values, negative, nag)
        return sampling.calculate_denoised(sigmas.double(), out, x)

    def negative_at(self, sigma, nag, rows):
        """The entries that hold at this sigma: their tokens one after the other, the mean of their pooled vectors."""
        to_sigma = self.model.model_sampling.percent_to_sigma
        if not max(to_sigma(nag.end_percent), nag.sigma_end) <= sigma <= to_sigma(nag.start_percent):
            return None
        tokens, pooled, which = [], [], []
        for i, entry in enumerate(self.encoded({"negative": nag.negative})["negative"]):
            if entry.get("timestep_end", 0) <= sigma <= entry.get("timestep_start", math.inf):
                conds = entry["model_conds"]
                which.append(i)
                tokens.append(conds["c_crossattn"].cond.double())
                pooled.append(conds["y"].cond.double() if "y" in conds else None)
        if not tokens:
            return None
        weights = [1.0 if nag.places is None else nag.places.plain[i] for i in which]
        mean = None if pooled[0] is None else sum(w * each for w, each in zip(weights, pooled)) / sum(weights)
        mean = None if mean is None else repeat_to_batch_size(mean, rows)
        lengths = tuple(entry.shape[1] for entry in tokens)
        return Prompt(repeat_to_batch_size(torch.cat(tokens, 1), rows), mean, lengths, tuple(which))


class ExactModel:
    """An APPLY_MODEL wrapper that never calls what it wraps."""

    def __init__(self, forward, others):
        self.forward, self.others = forward, others

    def __call__(self, executor, x, t, c_concat=None, c_crossattn=None, control=None, options=None, **values):
        values |= {"c_concat": c_concat, "c_crossattn": c_crossattn, "control": control}
        if self.others is not None:
            values["others"] = self.others({**options, "original_shape": list(x.shape)})
        if KEY in values:
            values[KEY] = in_window(values[KEY], options.get("context_window"))
        run = Run(self.forward, executor.class_obj, x, x, None)
        values = {name: exact(value) for name, value in values.items()}
        return run.of_model(x.double(), t[0], values).to(x)


def in_window(nag, window):
    """A Nag for the frames that ComfyUI's context windows have cut out."""
    if nag.places is None or window is None:
        return nag
    anchor = getattr(window, "causal_anchor_index", None)
    frames = [*([] if anchor is None else [anchor]), *window.index_list]
    return dataclasses.replace(nag, places=nag.places.within((frames,)))


def window_of(area):
    """ComfyUI's (sizes, offsets) as slices."""
    if area is None:
        return ()
    half = len(area) // 2
    return tuple(slice(offset, offset + size) for size, offset in zip(area[:half], area[half:]))


def exact(value):
    if isinstance(value, dict):
        return {key: exact(item) for key, item in value.items()}
    if isinstance(value, list):
        return [exact(item) for item in value]
    return value.double() if torch.is_tensor(value) and value.is_floating_point() else value
