"""Flux.1: dev, schnell, Kontext, Fill and their kin."""
import dataclasses
from contextlib import contextmanager
from functools import cache, partial

import torch

from ..attention import JointAttention, SeparateAttention
from ..settings import Strength
from .adapter import Adapter
from .hooks import PooledShift, hooked

POSITIVE, NEGATIVE = 0, 1  # whose vector modulates a segment


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
    modulate = _Modulation(shift, [(0, n_positive, POSITIVE), (n_positive, None, NEGATIVE)])
    for block in model.double_blocks:
        yield from modulate.hooks(block, block.txt_mod, "modulation_dims_txt")
    if call.settings.options.image_stream == "separate":
        stream = _TwoImageStreams(call, n_positive, n_negative)
        yield from stream.hooks(model)
        segments = stream.segments
    else:
        n_text = n_positive + n_negative
        segments = [(0, n_positive, POSITIVE), (n_positive, n_text, NEGATIVE), (n_text, None, POSITIVE)]
    modulate = _Modulation(shift, segments)
    for block in model.single_blocks:
        yield from modulate.hooks(block, block.modulation, "modulation_dims")


class _Modulation:
    """Hooks that modulate each segment of a sequence of tokens by the vector of the prompt that it belongs to.

    Args:
        shift: of the positive's vector, to get the negative's.
        segments: (start, stop, POSITIVE or NEGATIVE), as the blocks' modulation_dims takes them.
    """

    def __init__(self, shift, segments):
        self.shift, self.segments = shift, segments

    def hooks(self, block, modulation, argument):
        def segmented(module, args, kwargs):
            return args, {**kwargs, argument: self.segments}

        yield block.register_forward_pre_hook(segmented, with_kwargs=True)
        yield modulation.register_forward_pre_hook(self._both_vectors)
        if not _segments_keep_an_axis():
            yield modulation.register_forward_hook(_add_an_axis)

    def _both_vectors(self, module, args):
        return (torch.stack((args[0], args[0] + self.shift.value), 1),)


@cache
def _segments_keep_an_axis():
    """Whether modulation_dims selects from (batch, vectors, features) such that (batch, 1, features) remains.

    ComfyUI before 0.17 left (batch, features) of it, which only fits a batch of one. So ask it, with two tokens, two
    rows and two vectors: either way it succeeds, on different axes.
    """
    from comfy.ldm.flux.layers import apply_mod

    vectors = torch.tensor([[[1.0], [2.0]], [[1.0], [3.0]]])
    tokens = apply_mod(torch.ones(2, 2, 1), vectors, None, [(0, 2, 1)])
    return bool(tokens[0, 0] == tokens[0, 1])


def _add_an_axis(module, args, modulations):
    return tuple(m and dataclasses.replace(m, **{k: v.unsqueeze(2) for k, v in vars(m).items()}) for m in modulations)


class _TwoImageStreams:
    """Single blocks over [positive text | negative text | image | image], the second image being the negative's."""

    def __init__(self, call, n_positive, n_negative):
        self.call = call
        self.n_positive, self.n_text = n_positive, n_positive + n_negative
        self.n_image = None  # only the model knows
        self.segments = [(0, n_positive, POSITIVE), (n_positive, self.n_text, NEGATIVE)]

    def hooks(self, model):
        for i, block in enumerate(model.single_blocks):
            yield block.register_forward_pre_hook(partial(self.enter, i), with_kwargs=True)
        yield model.final_layer.register_forward_pre_hook(self.leave)

    def enter(self, index, block, args, kwargs):
        tokens, pe = args[0], kwargs["pe"]
        if self.n_image is None:
            self.n_image = tokens.shape[1] - self.n_text
            second = self.n_text + self.n_image
            self.segments += [(self.n_text, second, POSITIVE), (second, None, NEGATIVE)]
            tokens = torch.cat((tokens, tokens[:, self.n_text :]), 1)
        else:
            self._add_control(index - 1, tokens[:, self.n_text + self.n_image :])
        sizes = (self.n_positive, self.n_text - self.n_positive, self.n_image, self.n_image)
        attention = SeparateAttention(self.call.settings, self.call.transformer_options, sizes)
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
