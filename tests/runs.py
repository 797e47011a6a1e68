"""Runs of the stock sampler and of the oracle over the same things."""
from dataclasses import dataclass

import comfy.samplers
import nodes as comfy_nodes
import torch

from families import Family
from oracle import sampling
from stock import stock

CLOSE = 1e-5


@dataclass(frozen=True)
class Run:
    """One sampling run, as the widgets of a KSampler describe it."""

    family: Family
    cfg: float = 1.0
    batch: int = 1
    steps: int = 3
    denoise: float = 1.0
    seed: int = 7
    positive_tokens: int = 6
    negative_tokens: int = 4

    @property
    def positive(self):
        return self.family.conditioning(1, self.positive_tokens)

    @property
    def negative(self):
        return self.family.conditioning(2, self.negative_tokens)

    def latent(self):
        shape = (self.batch, *self.family.latent)
        if self.denoise == 1:
            latent = torch.zeros(shape)
            return latent if self.family.sound is None else _nested(latent, torch.zeros(self.batch, *self.family.sound))
        return torch.randn(shape, generator=torch.Generator().manual_seed(3))

    def sigmas(self, patcher):
        return comfy.samplers.KSampler(
            patcher, self.steps, torch.device("cpu"), "euler", "simple", self.denoise, patcher.model_options
        ).sigmas

    def sample(self, patcher, positive=None, negative=None, latent=None):
        """By the stock KSampler."""
        return self.sample_by(patcher, "euler", positive, negative, latent)

    def sample_by(self, patcher, sampler_name, positive=None, negative=None, latent=None):
        (denoised,) = comfy_nodes.common_ksampler(
            patcher,
            self.seed,
            self.steps,
            self.cfg,
            sampler_name,
            "simple",
            self.positive if positive is None else positive,
            self.negative if negative is None else negative,
            {"samples": self.latent()} if latent is None else latent,
            denoise=self.denoise,
        )
        return _flat(denoised["samples"])

    def exact(self, patcher):
        """A clone in whose place the oracle answers, for ComfyUI's samplers; see Family.exact."""
        return self.family.exact(patcher)

    def oracle(self, patcher, positive=None, negative=None, forward=None):
        """Another `forward` than the family's is for what other nodes do in the model."""
        forward = forward or self.family.forward
        if forward is None:  # the model itself is the oracle, which ComfyUI samples
            return self.sample(self.exact(patcher), positive, negative)
        return sampling.sample(
            forward,
            patcher,
            self.positive if positive is None else positive,
            self.negative if negative is None else negative,
            self.cfg,
            self.latent(),
            self.sigmas(patcher),
            self.seed,
        )


def _nested(*latents):
    from comfy.nested_tensor import NestedTensor  # not in every ComfyUI

    return NestedTensor(latents)


def _flat(latent):
    """One tensor of a latent that may be nested."""
    parts = latent.unbind() if getattr(latent, "is_nested", False) else (latent,)
    return parts[0] if len(parts) == 1 else torch.cat([part.flatten(1) for part in parts], 1)


def custom_sample(run, patcher, guider, sampler=None, sigmas=None, noise=None, latent=None):
    """By ComfyUI's SamplerCustomAdvanced; what is not given is as in `run`."""
    (denoised, _) = stock(
        "SamplerCustomAdvanced",
        noise=noise or stock("RandomNoise", noise_seed=run.seed)[0],
        guider=guider,
        sampler=sampler or comfy.samplers.sampler_object("euler"),
        sigmas=run.sigmas(patcher) if sigmas is None else sigmas,
        latent_image=latent or {"samples": run.latent()},
    )
    return denoised["samples"]


def difference(result, expected):
    """Relative, over all numbers."""
    return ((result.double() - expected.double()).norm() / expected.double().norm()).item()


def assert_close(result, expected, tolerance=CLOSE):
    found = difference(result, expected)
    assert found < tolerance, f"relative difference {found:.2g}"
