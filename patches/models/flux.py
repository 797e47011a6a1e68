"""Flux.1: dev, schnell, Kontext, Fill and their kin."""
import dataclasses
from contextlib import contextmanager
from functools import cache, partial

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
        attention = JointAttention(call.equation, call.transformer_options, n_positive, n_negative)
        with hooked(_hooks(model, call, n_positive, n_negative)):
            yield call.joined_text(), attention.install(call.transformer_options)


def _hooks(model, call, n_positive, n_negative):
    shift = PooledShift(call.pooled[:, : model.params.vec_in_dim])
    yield model.vector_in.register_forward_hook(shift)
    text = _TextModulation(shift, n_positive)
    for block in model.double_blocks:
        yield from text.hooks(block)
    n_text = n_positive + n_negative
    sequence = _SequenceModulation(shift, [slice(n_positive, n_text)])
    if call.settings.options.image_stream == "separate":
        yield from _TwoImageStreams(call, n_positive, n_negative, sequence.negatives).hooks(model)
    for block in model.single_blocks:
        yield from sequence.hooks(block)


class _TextModulation:
    """Hooks on a double block: each prompt's text is modulated by that prompt's vector.

    Args:
        shift: of the positive's vector, to get the negative's.
        n_positive: how many tokens of the text are the positive's.
    """

    def __init__(self, shift, n_positive):
        self.shift = shift
        self.segments = {"modulation_dims_txt": [(0, n_positive, 0), (n_positive, None, 1)]}

    def hooks(self, block):
        yield block.register_forward_pre_hook(self.by_segment, with_kwargs=True)
        yield block.txt_mod.register_forward_pre_hook(self.shift.both_vectors)
        if not _segments_keep_an_axis():
            yield block.txt_mod.register_forward_hook(_add_an_axis)

    def by_segment(self, block, args, kwargs):
        return args, {**kwargs, **self.segments}


class _SequenceModulation:
    """Hooks on a single block: the negative's tokens are modulated by the negative's vector.

    The block modulates all by the positive's, in passes over all tokens that ComfyUI has made fast. The negative's few
    are then done over: before the first linear layer, and where the second one's output is added.

    Args:
        shift: of the positive's vector, to get the negative's.
        negatives: where the negative's tokens are, as slices.
    """

    def __init__(self, shift, negatives):
        self.shift, self.negatives = shift, negatives
        self.tokens, self.modulation, self.added = [], None, None

    def hooks(self, block):
        yield block.register_forward_pre_hook(self.enter)
        yield block.modulation.register_forward_pre_hook(self.shift.both_vectors)
        yield block.modulation.register_forward_hook(self.keep_negatives_modulation)
        yield block.linear1.register_forward_pre_hook(partial(self.modulate, block))
        yield block.linear2.register_forward_hook(self.keep_added)
        yield block.register_forward_hook(self.leave)

    def enter(self, block, args):
        self.tokens = [args[0][:, part].clone() for part in self.negatives]  # the block adds to its input in place

    def keep_negatives_modulation(self, module, args, modulations):
        of_positive, self.modulation = ({k: v[:, i : i + 1] for k, v in vars(modulations[0]).items()} for i in (0, 1))
        return (dataclasses.replace(modulations[0], **of_positive), *modulations[1:])

    def modulate(self, block, linear, args):
        for part, tokens in zip(self.negatives, self.tokens):
            modulated = torch.addcmul(self.modulation["shift"], block.pre_norm(tokens), 1 + self.modulation["scale"])
            args[0][:, part] = modulated

    def keep_added(self, linear, args, out):
        self.added = out

    def leave(self, block, args, out):
        for part, tokens in zip(self.negatives, self.tokens):
            z = torch.addcmul(tokens, self.added[:, part], self.modulation["gate"])
            # What float16 cannot hold, the block replaces in the same way.
            out[:, part] = z.nan_to_num(0.0, 65504, -65504) if z.dtype == torch.float16 else z
        self.tokens, self.modulation, self.added = [], None, None


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
    """Single blocks over [positive text | negative text | image | image], the second image being the negative's.

    Args:
        negatives: the slices of the negative's tokens, to which the second image is added.
    """

    def __init__(self, call, n_positive, n_negative, negatives):
        self.call, self.negatives = call, negatives
        self.n_positive, self.n_text = n_positive, n_positive + n_negative
        self.n_image = None  # only the model knows

    def hooks(self, model):
        for i, block in enumerate(model.single_blocks):
            yield block.register_forward_pre_hook(partial(self.enter, i), with_kwargs=True)
        yield model.final_layer.register_forward_pre_hook(self.leave)

    def enter(self, index, block, args, kwargs):
        tokens, pe = args[0], kwargs["pe"]
        if self.n_image is None:
            self.n_image = tokens.shape[1] - self.n_text
            self.negatives.append(slice(self.n_text + self.n_image, None))
            tokens = torch.cat((tokens, tokens[:, self.n_text :]), 1)
        else:
            self._add_control(index - 1, tokens[:, self.n_text + self.n_image :])
        sizes = (self.n_positive, self.n_text - self.n_positive, self.n_image, self.n_image)
        attention = SeparateAttention(self.call.equation, self.call.transformer_options, sizes)
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
