"""Blocks that modulate their text by the pooled output: inside of them each prompt's text goes by its own."""
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial

import torch
from torch.utils.hooks import RemovableHandle

from .arguments import in_front


def both_vectors(visit, before=lambda vector: vector):
    """A hook in front of a modulation layer: (rows, 2, features), the negative's vector and the positive's.

    A model that has several for different parts of the picture, (rows, n, features), has the negative's in front.

    Args:
        before: what the block has done to the vector.
    """

    def join(module, args):
        each = before(visit.vector).to(args[0]), args[0]
        return (torch.cat([vectors.unsqueeze(1) if vectors.ndim == 2 else vectors for vectors in each], 1),)

    return join


def _n_vectors(given):
    return 1 if given["vec"].ndim == 2 else given["vec"].shape[1]


def text_by_its_own(visit, call, model):
    """See doors.Door's `within`, of a double block of Flux's."""
    return TextModulation(visit).hooks


def sequence_by_its_own(visit, call, model):
    """See doors.Door's `within`, of a single block of Flux's."""
    return SequenceModulation(visit).hooks


class TextModulation:
    """Hooks on a double block of Flux's: it can modulate its text by segments.

    Args:
        visit: whose block it is.
    """

    def __init__(self, visit):
        self.visit = visit

    def hooks(self, block) -> Iterator[RemovableHandle]:
        yield in_front(block, self.by_segment)
        yield block.txt_mod.register_forward_pre_hook(both_vectors(self.visit))
        if not _segments_keep_an_axis():
            yield block.txt_mod.register_forward_hook(_add_an_axis)

    def by_segment(self, given):
        ((*_, which), *_) = given["modulation_dims_txt"] or [(0, None, 0)]
        of_each = which, _n_vectors(given) + which
        if self.visit.image_first:
            n, of_each = self.visit.sizes.positive, of_each[::-1]
        else:
            n = self.visit.n_negative
        return given.changed(modulation_dims_txt=[(0, n, of_each[0]), (n, None, of_each[1])])


class SequenceModulation:
    """Hooks on a single block of Flux's: it modulates all by the positive's, in passes that ComfyUI has made fast.

    The negative's few tokens are then done over: before the first linear layer, and where the second one's output is
    added.

    Args:
        visit: whose block it is.
        images: says by `start` where an image of the negative's own begins in the sequence, in blocks in which NAG
            acts; None where there is none.
    """

    def __init__(self, visit, images=None):
        self.visit, self.images = visit, images
        self.tokens, self.modulation, self.added = [], None, []
        self.n_vectors, self.which = 1, 0  # how many the model has, and which is for the text

    @property
    def negatives(self) -> list[slice]:
        """Where the negative's tokens are."""
        text = self.visit.negative
        has_image = self.images is not None and self.visit.acts
        return [text, slice(self.images.start, None)] if has_image else [text]

    def hooks(self, block) -> Iterator[RemovableHandle]:
        yield in_front(block, self.enter)
        yield block.modulation.register_forward_pre_hook(both_vectors(self.visit))
        yield block.modulation.register_forward_hook(self.keep_negatives_modulation)
        yield block.linear1.register_forward_pre_hook(partial(self.modulate, block.pre_norm))
        yield block.linear2.register_forward_hook(self.keep_added)
        yield block.register_forward_hook(self.leave)

    def enter(self, given):
        self.tokens = [given["x"][:, part].clone() for part in self.negatives]  # the block adds to its input in place
        parts = given["modulation_dims"] or [(0, None, 0)]
        self.n_vectors, self.which = _n_vectors(given), parts[-1 if self.visit.image_first else 0][2]

    def keep_negatives_modulation(self, module, args, modulations):
        each = vars(modulations[0])
        self.modulation = {k: v[:, self.which : self.which + 1] for k, v in each.items()}
        of_positive = {k: v[:, self.n_vectors :] for k, v in each.items()}
        return (dataclasses.replace(modulations[0], **of_positive), *modulations[1:])

    def modulate(self, pre_norm, linear, args):
        for part, tokens in zip(self.negatives, self.tokens):
            modulated = torch.addcmul(self.modulation["shift"], pre_norm(tokens), 1 + self.modulation["scale"])
            args[0][:, part] = modulated

    def keep_added(self, linear, args, out):
        self.added = [out[:, part].clone() for part in self.negatives]  # by segments, the block gates it in place

    def leave(self, block, args, out):
        for part, tokens, added in zip(self.negatives, self.tokens, self.added):
            z = torch.addcmul(tokens, added, self.modulation["gate"])
            # What float16 cannot hold, the block replaces in the same way.
            out[:, part] = z.nan_to_num(0.0, 65504, -65504) if z.dtype == torch.float16 else z
        self.tokens, self.modulation, self.added = [], None, []


@dataclasses.dataclass(frozen=True)
class Branch:
    """One of a block's branches, which works on its modulated tokens and whose output is added to them.

    Args:
        entrance: the path of the module that is given the tokens, modulated, as a positional argument.
        end: the path of the module whose output is added.
        modulated: modulated(block, tokens, modulation) gives what goes in.
        added: added(tokens, output, modulation) gives the tokens behind the branch.
        argument: which of the arguments they are.
        out: which of the outputs it is, where there are several.
    """

    entrance: str
    end: str
    modulated: Callable
    added: Callable
    argument: int = 0
    out: int | None = None


class DoneOver:
    """Hooks on a block that modulates all of its text by the positive's vector: the negative's is done over.

    Where it goes into a branch and where it comes out, its few tokens are put in the place of what the block has made
    of them.

    Args:
        visit: whose block it is.
        text: the block's argument with the text.
        out: which of the block's outputs that is, where there are several.
        layer: the path of the module that makes the modulation, n_parts side by side, of the vector.
        branches: of the block, in order.
        before: what the block does to the vector in front of the layer.
    """

    def __init__(
        self,
        visit,
        text: str,
        out: int | None,
        layer: str,
        n_parts: int,
        branches: Sequence[Branch],
        before: Callable = lambda vector: vector,
    ):
        self.visit, self.text, self.out = visit, text, out
        self.layer, self.n_parts, self.branches, self.before = layer, n_parts, branches, before
        self.tokens = self.modulation = None

    def hooks(self, block) -> Iterator[RemovableHandle]:
        layer = block.get_submodule(self.layer)
        yield in_front(block, self.enter)
        yield layer.register_forward_pre_hook(both_vectors(self.visit, self.before))
        yield layer.register_forward_hook(self.keep_negatives_modulation)
        for branch in self.branches:
            entrance, end = block.get_submodule(branch.entrance), block.get_submodule(branch.end)
            yield entrance.register_forward_pre_hook(partial(self.modulate, branch, block))
            yield end.register_forward_hook(partial(self.add, branch))
        yield block.register_forward_hook(self.leave)

    def enter(self, given):
        self.tokens = given[self.text][:, self.visit.negative]

    def keep_negatives_modulation(self, layer, args, modulations):
        self.modulation = modulations[:, :1].chunk(self.n_parts, -1)
        return modulations[:, 1]

    def modulate(self, branch, block, entrance, args):
        args[branch.argument][:, self.visit.negative] = branch.modulated(block, self.tokens, self.modulation)

    def add(self, branch, module, args, out):
        out = out if branch.out is None else out[branch.out]
        self.tokens = branch.added(self.tokens, out[:, self.visit.negative], self.modulation)

    def leave(self, block, args, out):
        text = out if self.out is None else out[self.out]
        text[:, self.visit.negative] = self.tokens
        self.tokens = self.modulation = None


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
