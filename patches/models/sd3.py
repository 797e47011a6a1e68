"""Stable Diffusion 3 and 3.5: medium with its second attention, large, and their turbo kin."""
import math
from contextlib import contextmanager

import torch

from ..attention.masks import Masks
from ..attention.override import JointAttention, attending_by
from ..settings import Strength
from .adapter import Adapter
from .compiled import entrances, is_compiled
from .hooks import hooked, modules_of_kind
from .modulation import PooledShift


class SD3(Adapter):
    """The text has a stream of its own, `context_block`, that is modulated by the pooled vector as a whole.

    In that stream each prompt has a modulation of its own; the image stream is shared.
    """

    families = {"Stable Diffusion 3 and 3.5": Strength(nag_scale=5.0, nag_tau=2.5, nag_alpha=0.125)}
    text_encoder = "CLIP-L, CLIP-G and T5-XXL (TripleCLIPLoader)"
    needed = ("comfy.ldm.modules.diffusionmodules.mmdit:JointBlock",)
    block_lists = ("joint_blocks",)
    parts = (
        "context_block.adaLN_modulation",
        "context_block.attn.proj",
        "context_block.attn.qkv",
        "context_embedder",
        "y_embedder.mlp",
    )

    def blocks(self, model):
        from comfy.ldm.modules.diffusionmodules.mmdit import JointBlock

        return modules_of_kind(model, JointBlock)

    def text_width(self, model):
        return model.context_embedder.in_features

    def pooled_width(self, model):
        return model.y_embedder.mlp[0].in_features

    @contextmanager
    def guided(self, model, call):
        with hooked(_hooks(self.blocks(model), model, call)):
            yield call.joined_text(), call.transformer_options


def _hooks(blocks, model, call):
    n_image = math.prod(math.ceil(size / model.patch_size) for size in call.x.shape[-2:])
    sizes = call.sizes(n_image)
    shift = PooledShift(call.pooled)
    yield model.y_embedder.register_forward_hook(shift)
    if model.context_processor is not None:
        yield from _prompts_apart(model.context_processor, sizes)
    equation, masks = call.equation, Masks(sizes)
    joint = attending_by(lambda options: JointAttention(equation, options, sizes, masks))
    rows = _TextInRows(sizes, 1 if is_compiled(model) else math.gcd(*sizes.each[:2]), shift)
    for block in entrances(blocks, model):
        yield block.register_forward_pre_hook(joint, with_kwargs=True)
        yield from rows.hooks(block)


def _prompts_apart(module, sizes):
    """Hooks that let a module that mixes tokens see one prompt at a time."""
    negative = []

    def keep_positive(module, args):
        negative.append(args[0][:, sizes.positive :])
        return (args[0][:, : sizes.positive],)

    def add_negative(module, args, out):
        return torch.cat((out, module.forward(negative.pop())), 1)

    yield module.register_forward_pre_hook(keep_positive)
    yield module.register_forward_hook(add_negative)


class _TextInRows:
    """Hooks that let each prompt's text have a modulation of its own.

    A text block has one for all tokens of a row, in methods that no hook reaches. So inside of a block the text comes
    in rows of as many tokens as go into both prompts, as a rule one row for each. All of it is views. torch.compile
    would make a graph for each such number, so there each token is a row.

    Args:
        sizes: of the two prompts' texts, first of all.
        size: how many tokens a row has.
        shift: of the positive's modulation vector, to get the negative's.
    """

    def __init__(self, sizes, size, shift):
        self.sizes, self.size, self.shift = sizes, size, shift

    @property
    def rows(self):
        return self.sizes.positive // self.size, self.sizes.negative // self.size

    def hooks(self, block):
        text = block.context_block
        yield block.register_forward_pre_hook(self.first_in_rows)
        yield block.register_forward_hook(self.first_in_sequence)
        yield text.adaLN_modulation.register_forward_pre_hook(self.shift.both_vectors)
        yield text.adaLN_modulation.register_forward_hook(self.per_row)
        yield text.attn.qkv.register_forward_hook(lambda module, args, qkv: self.in_sequence(qkv))
        if not text.pre_only:
            yield text.attn.proj.register_forward_pre_hook(self.first_in_rows)

    def in_sequence(self, text):
        return text.unflatten(0, (-1, sum(self.rows))).flatten(1, 2)

    def first_in_rows(self, module, args):
        text, *others = args
        return (text.unflatten(1, (sum(self.rows), self.size)).flatten(0, 1), *others)

    def first_in_sequence(self, module, args, out):
        text, *others = out
        return (None if text is None else self.in_sequence(text), *others)

    def per_row(self, module, args, modulations):
        if self.rows != (1, 1):
            positive, negative = modulations.split(1, 1)
            positive, negative = positive.expand(-1, self.rows[0], -1), negative.expand(-1, self.rows[1], -1)
            modulations = torch.cat((positive, negative), 1)
        return modulations.flatten(0, 1)
