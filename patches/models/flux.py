"""Flux.1: dev, schnell, Kontext, Fill and their kin."""
import dataclasses
from contextlib import contextmanager
from functools import partial

import torch

from ..attention import JointAttention, SeparateAttention
from ..settings import Strength
from .adapter import Adapter
from .hooks import PooledShift, hooked


class Flux(Adapter):
    """Every block modulates its tokens by a vector that the pooled output goes into.

    The negative's text tokens take the negative's vector; the image tokens are shared, and take the positive's. With
    image_stream "separate", single blocks compute the image once for each prompt, as the authors' code does, the
    negative's with the negative's vector.
    """

    name = "Flux"
    text_encoder = "CLIP-L and T5-XXL (DualCLIPLoader, type flux)"

    def recommended(self, model):
        return Strength(nag_scale=5.0, nag_tau=2.5, nag_alpha=0.25)

    def unsupported(self, model):
        if getattr(model.params, "txt_ids_dims", []) or len(model.params.axes_dim) != 3 or model.vector_in is None:
            return "its text tokens have positions, as Flux.2's have; so far NAG knows those of Flux.1"
        return None

    def text_width(self, model):
        return model.params.context_in_dim

    def pooled_width(self, model):
        return model.params.vec_in_dim

    @contextmanager
    def guided(self, model, call):
        n_positive, n_negative = call.context.shape[1], call.negative.shape[1]
        attention = JointAttention(call.settings, call.transformer_options, n_positive, n_negative)
        with hooked(_hooks(model, call, n_positive, n_negative)):
            yield call.joined_text(), attention.install(call.transformer_options)


def _hooks(model, call, n_positive, n_negative):
    shift = PooledShift(call.pooled[:, : model.params.vec_in_dim])
    yield model.vector_in.register_forward_hook(shift)
    text = _Segments(n_positive, n_negative)
    for block in model.double_blocks:
        yield from _modulate_apart(block.txt_mod, shift, text)
    if call.settings.options.image_stream == "separate":
        sequence = _TwoImageStreams(call, n_positive, n_negative)
    else:
        sequence = _OneImageStream(n_positive, n_negative)
    yield from sequence.hooks(model)
    for block in model.single_blocks:
        yield from _modulate_apart(block.modulation, shift, sequence.segments)


class _Segments:
    """The sizes of a sequence's parts, which belong to the positive, the negative, the positive, ... in turn.

    Parts can be added until the owners have been asked for: how many image tokens there are, only the model knows.
    """

    def __init__(self, *sizes):
        self.sizes, self._owners = sizes, None

    def owners(self, device):
        """(tokens,): 0 for a token of the positive, 1 for one of the negative."""
        if self._owners is None:
            owners = [torch.full((size,), i % 2, device=device) for i, size in enumerate(self.sizes)]
            self._owners = torch.cat(owners)
        return self._owners


def _modulate_apart(modulation, shift, segments):
    """Hooks that let a modulation layer make a modulation per token, from the vector of the prompt it belongs to."""

    def both_vectors(module, args):
        return (torch.stack((args[0], args[0] + shift.value), 1),)

    def per_token(module, args, modulations):
        owners = segments.owners(args[0].device)
        return tuple(m and dataclasses.replace(m, **{k: v[:, owners] for k, v in vars(m).items()}) for m in modulations)

    yield modulation.register_forward_pre_hook(both_vectors)
    yield modulation.register_forward_hook(per_token)


class _OneImageStream:
    """Single blocks over [positive text | negative text | image]."""

    def __init__(self, n_positive, n_negative):
        self.segments = _Segments(n_positive, n_negative)

    def hooks(self, model):
        for block in model.single_blocks:
            yield block.register_forward_pre_hook(self.enter)

    def enter(self, block, args):
        """The image tokens, whose number only the model knows, belong to the positive."""
        n_positive, n_negative = self.segments.sizes[:2]
        if len(self.segments.sizes) == 2:
            self.segments.sizes += (args[0].shape[1] - n_positive - n_negative,)


class _TwoImageStreams:
    """Single blocks over [positive text | negative text | image | image], the second image being the negative's."""

    def __init__(self, call, n_positive, n_negative):
        self.call, self.n_text = call, n_positive + n_negative
        self.n_image = None
        self.segments = _Segments(n_positive, n_negative)

    def hooks(self, model):
        for i, block in enumerate(model.single_blocks):
            yield block.register_forward_pre_hook(partial(self.enter, i), with_kwargs=True)
        yield model.final_layer.register_forward_pre_hook(self.leave)

    def enter(self, index, block, args, kwargs):
        tokens, pe = args[0], kwargs["pe"]
        if self.n_image is None:
            self.n_image = tokens.shape[1] - self.n_text
            self.segments.sizes += (self.n_image, self.n_image)
            tokens = torch.cat((tokens, tokens[:, self.n_text :]), 1)
        else:
            self._add_control(index - 1, tokens[:, self.n_text + self.n_image :])
        attention = SeparateAttention(self.call.settings, self.call.transformer_options, self.segments.sizes)
        changed = {
            "pe": torch.cat((pe, pe[:, :, self.n_text :]), 2),
            "transformer_options": attention.install(kwargs["transformer_options"]),
        }
        return (tokens, *args[1:]), {**kwargs, **changed}

    def _add_control(self, index, second_image):
        """The model adds a ControlNet's residuals to the first image stream only."""
        residuals = (self.call.control or {}).get("output", ())
        if index < len(residuals) and residuals[index] is not None:
            second_image[:, : residuals[index].shape[1]] += residuals[index]

    def leave(self, final_layer, args):
        return (args[0][:, : self.n_image], *args[1:])
