"""Flux.1: dev, schnell, Kontext, Fill and their kin."""
from contextlib import contextmanager
from functools import partial

import torch

from ..attention import JointAttention, SeparateAttention
from ..settings import Strength
from .adapter import Adapter
from .hooks import PooledShift, hooked

OF_POSITIVE, OF_NEGATIVE = slice(0, 1), slice(1, 2)  # which of the two modulation vectors a token takes


class Flux(Adapter):
    """Every block modulates its tokens by a vector that the pooled output goes into.

    The negative's text tokens take the negative's vector. ComfyUI's blocks can give each part of the sequence its own
    (`modulation_dims`), so the two vectors go in side by side and the image tokens are never doubled for it.

    With image_stream "separate", single blocks compute the image once for each prompt, as the authors' code does, the
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
        with hooked(_hooks(model, call, n_positive, n_positive + n_negative)):
            yield call.joined_text(), attention.install(call.transformer_options)


def _hooks(model, call, n_positive, n_text):
    shift = PooledShift(call.pooled[:, : model.params.vec_in_dim])
    text = [(0, n_positive, OF_POSITIVE), (n_positive, n_text, OF_NEGATIVE)]
    yield model.vector_in.register_forward_hook(shift)
    for block in model.double_blocks:
        yield _give_both_vectors(block.txt_mod, shift)
        yield _change_arguments(block, lambda kwargs: {"modulation_dims_txt": text})
    for block in model.single_blocks:
        yield _give_both_vectors(block.modulation, shift)
    if call.settings.options.image_stream == "separate":
        yield from _TwoImageStreams(call, n_positive, n_text).hooks(model)
    else:
        dims = [*text, (n_text, None, OF_POSITIVE)]
        for block in model.single_blocks:
            yield _change_arguments(block, lambda kwargs: {"modulation_dims": dims})


def _give_both_vectors(modulation, shift):
    """Let a modulation layer make two modulations out of (rows, features): the positive's and the negative's."""
    return modulation.register_forward_pre_hook(
        lambda module, args: (torch.stack((args[0], args[0] + shift.value), 1),)
    )


def _change_arguments(block, changes):
    return block.register_forward_pre_hook(
        lambda module, args, kwargs: (args, {**kwargs, **changes(kwargs)}), with_kwargs=True
    )


class _TwoImageStreams:
    """Single blocks over [positive text | negative text | image | image], the second image being the negative's."""

    def __init__(self, call, n_positive, n_text):
        self.call, self.n_positive, self.n_text = call, n_positive, n_text
        self.n_image = None

    def hooks(self, model):
        for i, block in enumerate(model.single_blocks):
            yield block.register_forward_pre_hook(partial(self.enter, i), with_kwargs=True)
        yield model.final_layer.register_forward_pre_hook(self.leave)

    def enter(self, index, block, args, kwargs):
        tokens, pe = args[0], kwargs["pe"]
        if self.n_image is None:
            self.n_image = tokens.shape[1] - self.n_text
            tokens = torch.cat((tokens, tokens[:, self.n_text :]), 1)
        else:
            self._add_control(index - 1, tokens[:, self.n_text + self.n_image :])
        sizes = (self.n_positive, self.n_text - self.n_positive, self.n_image, self.n_image)
        starts = (0, self.n_positive, self.n_text, self.n_text + self.n_image)
        attention = SeparateAttention(self.call.settings, self.call.transformer_options, sizes)
        changed = {
            "pe": torch.cat((pe, pe[:, :, self.n_text :]), 2),
            "modulation_dims": [
                (start, start + size, vector)
                for start, size, vector in zip(starts, sizes, (OF_POSITIVE, OF_NEGATIVE) * 2)
            ],
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
