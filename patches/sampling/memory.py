"""Announces the memory that NAG takes to ComfyUI, which makes room for a run before it starts.

ComfyUI estimates by the latent's size, so NAG's share is announced as a latent that much larger.
"""
import math
from collections.abc import Sequence

import comfy.sampler_helpers
import torch

from ..arithmetic.equation import CHUNK, CHUNK_ON_A_DEVICE
from ..models import adapter_of
from ..travelling import Travelling
from .notices import telling
from .request import Request

# Of the run's memory, which at its peak is for a dozen tensors of the image's size: joint attention comes in three
# parts and is put together in a fourth, and in front of the first block of one stream the sequence is there twice.
OF_JOINT_ATTENTION = 1 / 3
LYRICS = "conditioning_lyrics"  # which go with ACE-Step's texts


def memory_at_once(device: torch.device) -> int:
    """Bytes that the equation and the merge take on a device, however large the picture: float32 copies of a chunk."""
    return 6 * 4 * CHUNK.get(device.type, CHUNK_ON_A_DEVICE)


class Announced(tuple):
    """The shape of a latent that is larger than the run's, whose shape is `latent`."""

    latent: Sequence[int]


class MemoryWrapper(Travelling):
    """A PREPARE_SAMPLING wrapper: has ComfyUI leave room for one use of NAG. Of several in a run the largest counts.

    Args:
        request: the negative and the settings.
    """

    def __init__(self, request: Request):
        self.request = request

    def __call__(self, executor, model, noise_shape, conds, *rest, **more):
        latent = getattr(noise_shape, "latent", noise_shape)
        with telling([self.request]):
            announced = Announced((*latent[:-1], latent[-1] + self._columns(model, latent, conds)))
        announced.latent = latent
        return executor(model, max(noise_shape, announced, key=tuple), conds, *rest, **more)

    def _columns(self, model, latent, conds):
        """By how many columns of the latent the memory for NAG is more than that for the run."""
        memory, adapter, net = model.model.memory_required, adapter_of(model.model), model.model.diffusion_model
        n_tokens = sum(adapter.n_tokens(net, n) for n in self._lengths(conds))
        pixels = n_tokens * adapter.pixels_a_token(net)  # a token of a text takes as much as one of the image
        more = memory([*latent[:2], pixels]) + memory_at_once(model.load_device)
        separate = self.request.settings.options.image_stream in adapter.image_streams[1:]
        share = separate + (OF_JOINT_ATTENTION if adapter.is_joint else 0)
        if share:
            more += share * comfy.sampler_helpers.estimate_memory(model, latent, conds)[1]  # with reference images, too
        return math.ceil(more / memory([*latent[:-1], 1]))

    def _lengths(self, conds):
        """Of the negative's texts with their lyrics, in tokens."""
        if self.request.negative is not None:
            entries = [(tokens, values.get(LYRICS)) for tokens, values in self.request.negative]
        else:
            entries = [(entry.get("cross_attn"), entry.get(LYRICS)) for entry in conds.get("negative") or ()]
        n_lyrics = lambda lyrics: 0 if lyrics is None else lyrics.shape[1]
        return [text.shape[-2] + n_lyrics(lyrics) for text, lyrics in entries if text is not None]  # said later
