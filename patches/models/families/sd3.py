"""Stable Diffusion 3 and 3.5: medium with its second attention, large, and their turbo kin."""
import math

import torch

from ...settings import Strength
from ..doors import Door, Doors
from ..modulation import both_vectors
from ..transformer import Transformer


class _TextInRows:
    """Hooks that let each prompt's text have a modulation of its own.

    A text block has one for all tokens of a row, in methods that no hook reaches. So inside of a block the text comes
    in rows of as many tokens as go into both prompts, as a rule one row for each. All of it is views. torch.compile
    would make a graph for each such number, so there each token is a row.

    Args:
        visit: whose blocks these are.
        of_one: whether each token is a row.
    """

    def __init__(self, visit, of_one: bool):
        self.visit, self.of_one = visit, of_one

    @property
    def size(self) -> int:
        """How many tokens a row has."""
        return 1 if self.of_one else math.gcd(*self.visit.sizes.each[:2])

    @property
    def rows(self) -> tuple[int, int]:
        """Of the negative, and of the positive."""
        sizes, size = self.visit.sizes, self.size
        return sizes.negative // size, sizes.positive // size

    def hooks(self, block):
        text = block.context_block
        yield block.register_forward_pre_hook(self.first_in_rows)
        yield text.adaLN_modulation.register_forward_pre_hook(both_vectors(self.visit))
        yield text.adaLN_modulation.register_forward_hook(self.per_row)
        yield text.attn.qkv.register_forward_hook(lambda module, args, qkv: self.in_sequence(qkv))
        if not text.pre_only:
            yield text.attn.proj.register_forward_pre_hook(self.first_in_rows)
        yield block.register_forward_hook(self.first_in_sequence)

    def in_sequence(self, text):
        return text.unflatten(0, (-1, sum(self.rows))).flatten(1, 2)

    def first_in_rows(self, module, args):
        text, *others = args
        return (text.unflatten(1, (sum(self.rows), self.size)).flatten(0, 1), *others)

    def first_in_sequence(self, module, args, out):
        text, *others = out
        return (None if text is None else self.in_sequence(text), *others)

    def per_row(self, module, args, modulations):
        rows = self.rows
        if rows != (1, 1):
            parts = modulations.split(1, 1)
            modulations = torch.cat([part.expand(-1, n, -1) for part, n in zip(parts, rows)], 1)
        return modulations.flatten(0, 1)


def _text_in_rows(visit, call, model):
    return _TextInRows(visit, bool(call.compiled)).hooks


# The text has a stream of its own, `context_block`, that is modulated by the pooled vector as a whole.
STABLE_DIFFUSION_3 = Transformer(
    families={"Stable Diffusion 3 and 3.5": Strength(5.0, 2.5, 0.125)},
    text_encoder="CLIP-L, CLIP-G and T5-XXL (TripleCLIPLoader)",
    needed=("comfy.ldm.modules.diffusionmodules.mmdit:JointBlock",),
    parts=("context_block.adaLN_modulation", "context_block.attn.proj", "context_block.attn.qkv"),
    doors=Doors(
        (
            Door(
                "joint_blocks",
                text="context",
                image="x",
                out=0,
                vector="c",
                within=_text_in_rows,
                names=("context", "x", "c"),
            ),
        ),
        patch_will_do=True,
    ),
    width="context_embedder",
    pooled="y_embedder.mlp.0",
)
