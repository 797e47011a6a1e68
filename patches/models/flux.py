"""Flux.1: dev, schnell, Kontext, Fill and their kin."""
import dataclasses
import itertools
from contextlib import contextmanager
from functools import cache, partial

import torch

from ..attention.masks import Masks
from ..attention.override import JointAttention, SeparateAttention, attending_by
from ..attention.sizes import Sizes
from ..settings import IMAGE_STREAMS, Strength
from .adapter import Adapter
from .compiled import entrances
from .hooks import hooked, modules_of_kind
from .modulation import PooledShift


class Flux(Adapter):
    """Every block modulates its tokens by a vector that the pooled output goes into.

    The negative's text tokens take the negative's vector; the image tokens are shared, and take the positive's. With
    image_stream "separate", single blocks compute the image once for each prompt, as the authors' code does, the
    negative's with the negative's vector.
    """

    families = {"Flux": Strength(nag_scale=5.0, nag_tau=2.5, nag_alpha=0.25)}
    text_encoder = "CLIP-L and T5-XXL (DualCLIPLoader, type flux)"
    image_streams = IMAGE_STREAMS
    needed = (
        "comfy.ldm.flux.layers:DoubleStreamBlock.forward(modulation_dims_txt)",
        "comfy.ldm.flux.layers:SingleStreamBlock",
        "comfy.ldm.flux.layers:apply_mod",
    )
    block_lists = ("double_blocks", "single_blocks")
    parts = ("txt_mod", "linear1", "linear2", "modulation", "pre_norm", "final_layer")

    def blocks(self, model):
        return [*itertools.chain(*_blocks(model))]

    def text_width(self, model):
        return model.params.context_in_dim

    def pooled_width(self, model):
        return model.params.vec_in_dim

    @contextmanager
    def guided(self, model, call):
        texts = _Texts(call.sizes())
        with hooked(_hooks(model, call, texts)):
            yield call.joined_text(), texts.apart_from_patches(call.transformer_options)


class _Texts:
    """How many tokens each prompt has in the model's sequence, [positive | negative | image].

    Attributes:
        masks: of these sizes.
    """

    def __init__(self, sizes: Sizes):
        self.resize(sizes)

    def resize(self, sizes: Sizes) -> None:
        self.sizes, self.masks = sizes, Masks(sizes)

    def apart_from_patches(self, options: dict) -> dict:
        """The transformer_options with other nodes' `post_input` patches around the positive's text alone.

        They may add tokens to it on either side, as USO's style reference does.
        """
        patches = options.get("patches", {})
        if not patches.get("post_input"):
            return options

        def patch(inputs):
            parts = {name: inputs[name].tensor_split((self.sizes.positive,), 1) for name in ("txt", "txt_ids")}
            inputs = {**inputs, **{name: positive for name, (positive, _) in parts.items()}}
            for each in patches["post_input"]:
                inputs = each(inputs)
            self.resize(Sizes(inputs["txt"].shape[1], self.sizes.negative))
            joined = {name: torch.cat((inputs[name], negative), 1) for name, (_, negative) in parts.items()}
            return {**inputs, **joined}

        return {**options, "patches": {**patches, "post_input": [patch]}}


def _hooks(model, call, texts):
    shift = PooledShift(call.pooled[:, : model.params.vec_in_dim])
    yield model.vector_in.register_forward_hook(shift)
    equation = call.equation
    joint = attending_by(lambda options: JointAttention(equation, options, texts.sizes, texts.masks))
    double_blocks, single_blocks = (entrances(blocks, model) for blocks in _blocks(model))
    modulation = _TextModulation(shift, texts)
    for block in double_blocks:
        yield block.register_forward_pre_hook(joint, with_kwargs=True)
        yield from modulation.hooks(block)
    if call.settings.options.image_stream == "separate":
        images = _TwoImageStreams(call, texts)
        yield from images.hooks(model, single_blocks)
    else:
        images = None
        for block in single_blocks:
            yield block.register_forward_pre_hook(joint, with_kwargs=True)
    sequence = _SequenceModulation(shift, texts, images)
    for block in single_blocks:
        yield from sequence.hooks(block)
    if images is not None:
        yield single_blocks[-1].register_forward_hook(images.drop_second)


def _blocks(model):
    """The double and the single blocks."""
    from comfy.ldm.flux.layers import DoubleStreamBlock, SingleStreamBlock

    return modules_of_kind(model, DoubleStreamBlock), modules_of_kind(model, SingleStreamBlock)


class _TextModulation:
    """Hooks on a double block: each prompt's text is modulated by that prompt's vector.

    Args:
        shift: of the positive's vector, to get the negative's.
        texts: the prompts' sizes.
    """

    def __init__(self, shift, texts):
        self.shift, self.texts = shift, texts

    def hooks(self, block):
        yield block.register_forward_pre_hook(self.by_segment, with_kwargs=True)
        yield block.txt_mod.register_forward_pre_hook(self.shift.both_vectors)
        if not _segments_keep_an_axis():
            yield block.txt_mod.register_forward_hook(_add_an_axis)

    def by_segment(self, block, args, kwargs):
        n = self.texts.sizes.positive
        return args, {**kwargs, "modulation_dims_txt": [(0, n, 0), (n, None, 1)]}


class _SequenceModulation:
    """Hooks on a single block: the negative's tokens are modulated by the negative's vector.

    The block modulates all by the positive's, in passes over all tokens that ComfyUI has made fast. The negative's few
    are then done over: before the first linear layer, and where the second one's output is added.

    Args:
        shift: of the positive's vector, to get the negative's.
        texts: the prompts' sizes.
        images: the _TwoImageStreams, of which the second is the negative's too, or None.
    """

    def __init__(self, shift, texts, images):
        self.shift, self.texts, self.images = shift, texts, images
        self.tokens, self.modulation, self.added = [], None, None

    @property
    def negatives(self):
        """Where the negative's tokens are, as slices."""
        text = slice(self.texts.sizes.positive, self.texts.sizes.text)
        return [text] if self.images is None else [text, self.images.second]

    def hooks(self, block):
        yield block.register_forward_pre_hook(self.enter)
        yield block.modulation.register_forward_pre_hook(self.shift.both_vectors)
        yield block.modulation.register_forward_hook(self.keep_negatives_modulation)
        yield block.linear1.register_forward_pre_hook(partial(self.modulate, block.pre_norm))
        yield block.linear2.register_forward_hook(self.keep_added)
        yield block.register_forward_hook(self.leave)

    def enter(self, block, args):
        self.tokens = [args[0][:, part].clone() for part in self.negatives]  # the block adds to its input in place

    def keep_negatives_modulation(self, module, args, modulations):
        of_positive, self.modulation = ({k: v[:, i : i + 1] for k, v in vars(modulations[0]).items()} for i in (0, 1))
        return (dataclasses.replace(modulations[0], **of_positive), *modulations[1:])

    def modulate(self, pre_norm, linear, args):
        for part, tokens in zip(self.negatives, self.tokens):
            modulated = torch.addcmul(self.modulation["shift"], pre_norm(tokens), 1 + self.modulation["scale"])
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

    Outside of the blocks the second image is only to be seen between two of them.
    """

    def __init__(self, call, texts):
        self.equation, self.control, self.texts = call.equation, call.control, texts
        self.sizes = None  # of the four parts; only the model knows that of the image
        self.n_controlled = 0  # blocks whose residuals the second image has

    @property
    def second(self) -> slice:
        """Where the second image is."""
        return slice(sum(self.sizes.each[:3]), None)

    def hooks(self, model, blocks):
        for i, block in enumerate(blocks):
            yield block.register_forward_pre_hook(partial(self.enter, i), with_kwargs=True)
        yield model.final_layer.register_forward_pre_hook(self.leave)

    def enter(self, index, block, args, kwargs):
        tokens, pe, n_text = args[0], kwargs["pe"], self.texts.sizes.text
        if self.sizes is None:
            n_image = tokens.shape[1] - n_text
            self.sizes = Sizes(*self.texts.sizes.each, n_image, n_image)
            tokens = torch.cat((tokens, tokens[:, n_text:]), 1)
        else:
            self._add_control(index, tokens[:, self.second])
        self.n_controlled = index
        options = kwargs.get("transformer_options") or {}
        attention = SeparateAttention(self.equation, options, self.sizes)
        changed = {"pe": torch.cat((pe, pe[:, :, n_text:]), 2), "transformer_options": attention.install(options)}
        return (tokens, *args[1:]), {**kwargs, **changed}

    def _add_control(self, index, second_image):
        """The model adds a ControlNet's residuals to the first image only, also behind blocks that another node skips.

        index: of the block that comes next.
        """
        residuals = (self.control or {}).get("output", ())
        for residual in residuals[self.n_controlled : index]:
            if residual is not None:
                second_image[:, : residual.shape[1]] += residual

    def drop_second(self, last_block, args, tokens):
        return tokens[:, : self.second.start]

    def leave(self, final_layer, args):
        """Where another node has skipped the last block."""
        if self.sizes is not None:  # else it has skipped all
            return (args[0][:, : self.sizes.each[2]], *args[1:])
