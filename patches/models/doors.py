"""The negative waits at the doors: in front of each block its tokens join the text's, behind it they leave.

What lies between the blocks (other nodes' patches, ControlNets, caches, the model's own slices) sees a sequence without
them. Inside of a block they stand between the positive's and the image's, and the attention override parts the prompts.
"""
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch

from ..attention.masks import Masks
from ..attention.override import CrossAttention, JointAttention, attending_by
from ..attention.sizes import Sizes
from ..settings import MODALITIES
from .arguments import Arguments, takes
from .compiled import plain
from .hooks import hooked
from .rehearsal import rehearse

OPTIONS = "transformer_options"


@dataclass(frozen=True)
class Door:
    """The facts about one kind of block.

    Args:
        blocks: the name of the model's list of them.
        text: the argument with the text alone; None where it comes in one sequence with the image.
        sequence: the argument with [text | image]; None where the text comes alone.
        out: which of a block's outputs is the text, where it comes alone.
        places: the argument with the positions of [text | image], as rotations.
        text_mask: the argument with a mask of the text's keys, added to the scores: (rows, keys) or with axes between.
        indices: the argument with places in the sequence, as (start, stop, ...) or as one.
        cross: the path, inside of a block, of the module in which the image attends to the text alone. The negative
            joins the text in front of the block, which may modulate both; no block hands on a text.
        modality: which of settings.MODALITIES the text is for, where each has one of its own.
    """

    blocks: str
    text: str | None = None
    sequence: str | None = None
    out: int | None = None
    places: str | None = None
    text_mask: str | None = None
    indices: str | None = None
    cross: str | None = None
    modality: str | None = None

    def find(self, model: torch.nn.Module) -> list[torch.nn.Module]:
        """The modules of a diffusion model, in order."""
        return list(getattr(plain(model), self.blocks, ()))

    def meets_in(self, block: torch.nn.Module) -> torch.nn.Module:
        """The module of a block in which its text meets its image."""
        return block if self.cross is None else plain(block).get_submodule(self.cross)

    def missing(self, block: torch.nn.Module) -> list[str]:
        """The arguments without which NAG does not get into a block, and that it does not have."""
        wanted = [(block, self.text or self.sequence), (self.meets_in(block), OPTIONS)]
        return [f"{type(module).__name__}.forward({name})" for module, name in wanted if not takes(module, name)]

    def serves(self, modality: str) -> bool:
        """Whether NAG is to act here; modality: one of settings.MODALITIES."""
        return modality == MODALITIES[0] or self.modality in (None, modality)


@dataclass(frozen=True)
class Doors:
    """The doors of a family, and what is to be known to stand at them.

    Args:
        kinds: of blocks, in the model's order.
        text_module: the path of the last module that has the text alone, where no block has.
        image_is_behind: the image's positions begin behind the text's, so they differ between the prompts.
        refines_image: modules in front of the first block work on the image; a rehearsal then makes do with a patch.
    """

    kinds: tuple[Door, ...]
    text_module: str | None = None
    image_is_behind: bool = False
    refines_image: bool = False

    @contextmanager
    def held(self, model: torch.nn.Module, call) -> Iterator[None]:
        """For one guided call of a diffusion model: see ModelCall."""
        kinds = [door for door in self.kinds if door.serves(call.settings.options.modality)]
        found = [(door, blocks) for door in kinds if (blocks := door.find(model))]
        count = _Count()
        counting = [model.get_submodule(self.text_module)] if self.text_module else []
        with hooked(module.register_forward_hook(count) for module in counting):
            brought = [self._rehearsed(found, call, entry, count) for entry in call.entries]
            count.n_tokens = None  # of the positive's, from now on
            visit = _Visit(call.equation, [*zip(*brought)], count, self.image_is_behind)
            with hooked(_hooks(found, visit)):
                yield

    def _rehearsed(self, found, call, entry, count):
        """What one entry of the negative brings, to each kind of cross-attention or to the first kind of block."""
        kinds = found if found[0][0].cross else found[:1]
        caught = rehearse(lambda: call.rehearse(entry, self.refines_image), [blocks[0] for _, blocks in kinds])
        return [_brought_to(door, arguments, count.n_tokens) for (door, _), arguments in zip(kinds, caught)]


class _Count:
    """A forward hook that keeps how many tokens the text has."""

    n_tokens = None

    def __call__(self, module, args, out):
        self.n_tokens = out.shape[1]


@dataclass(frozen=True)
class _Brought:
    """What the negative brings to a door.

    Args:
        tokens: (rows, tokens, width) of its text.
        places: its tokens' positions, or None.
        image_place: the position of the image's first token in the rehearsal, or None.
        mask: of its tokens, or None.
    """

    tokens: torch.Tensor
    places: torch.Tensor | None
    image_place: torch.Tensor | None
    mask: torch.Tensor | None


def _brought_to(door, arguments, n_counted):
    tokens = arguments[door.text or door.sequence]
    n_text = tokens.shape[1] if door.text else n_counted
    places = arguments[door.places] if door.places else None
    image_place = None
    if places is not None:
        axis = _token_axis(places)
        places, image_place = places.narrow(axis, 0, n_text), places.narrow(axis, n_text, 1)
    return _Brought(tokens[:, :n_text], places, image_place, arguments[door.text_mask] if door.text_mask else None)


def _token_axis(places):
    """Rotations come as (rows, tokens, 1, ...) or as (rows, 1, tokens, ...)."""
    return 1 if places.shape[2] == 1 else 2


class _Visit:
    """The negative at the doors, in one model call.

    Args:
        brought: for each kind of door, what each entry of the negative brings.
    """

    def __init__(self, equation, brought: Sequence[tuple[_Brought, ...]], count: _Count, image_is_behind: bool):
        self.equation, self.brought, self.count, self.image_is_behind = equation, brought, count, image_is_behind
        self.of_kinds = [torch.cat([entry.tokens for entry in entries], 1) for entries in brought]
        self.tokens = self.of_kinds[0]  # as they are between two blocks
        self.masks_of_kinds = [
            _joined_masks([entry.tokens.shape[1] for entry in entries], [entry.mask for entry in entries])
            for entries in brought
        ]
        self.n_positive = self.sizes = self.masks = None
        self.places = (None, None)  # those of a block and the joined ones, which as a rule are the same for all blocks

    @property
    def n_negative(self) -> int:
        return self.tokens.shape[1]

    def enter(self, door, block, args, kwargs):
        given, name = Arguments(block, args, kwargs), door.text or door.sequence
        self._know_positive(given[name].shape[1] if door.text else self.n_positive or self.count.n_tokens)
        changed = {name: self._joined(given[name], 1, self.tokens)}
        if door.places and given[door.places] is not None:
            changed[door.places] = self._joined_places(given[door.places])
        if door.text_mask:
            changed[door.text_mask] = self._joined_mask(given[name], given[door.text_mask])
        if door.indices and given[door.indices] is not None:
            changed[door.indices] = self._moved(given[door.indices])
        options = given[OPTIONS] or {}
        attention = JointAttention(self.equation, options, self.sizes, self.masks)
        return given.changed(**changed, **{OPTIONS: attention.install(options)})

    def leave(self, door, block, args, out):
        if door.text:
            parts = list(out)
            parts[door.out], self.tokens = self._parted(parts[door.out])
            return tuple(parts)
        out, self.tokens = self._parted(out)
        return out

    def join(self, number, door, block, args, kwargs):
        """In front of a block with cross-attention, whose text is the model's own for each block."""
        given = Arguments(block, args, kwargs)
        text, negative = given[door.text], self.of_kinds[number]
        self.n_positive = text.shape[1]
        return given.changed(**{door.text: torch.cat((text, negative.to(text)), 1)})

    def attend(self, number, options):
        """The override inside of the module that attends to the text."""
        sizes = Sizes(self.n_positive, self.of_kinds[number].shape[1])
        return CrossAttention(self.equation, options, sizes, negative_mask=self.masks_of_kinds[number])

    def _know_positive(self, n):
        if self.n_positive != n:
            self.n_positive, self.sizes = n, Sizes(n, self.n_negative)
            self.masks, self.places = Masks(self.sizes), (None, None)

    def _joined(self, t, axis, negative):
        """With the negative's part behind the positive's."""
        before, after = t.tensor_split((self.n_positive,), axis)
        shape = list(t.shape)
        shape[axis] = negative.shape[axis]
        return torch.cat([before, negative.expand(shape).to(t), *([after] if after.shape[axis] else [])], axis)

    def _parted(self, t):
        n, end = self.n_positive, self.n_positive + self.n_negative
        if t.shape[1] == end:
            return t[:, :n], t[:, n:]
        return torch.cat((t[:, :n], t[:, end:]), 1), t[:, n:end].clone()

    def _joined_places(self, places):
        if self.places[0] is not places:
            axis = _token_axis(places)
            image_place = places.narrow(axis, self.n_positive, 1)
            parts = [self._turned(entry, image_place) for entry in self.brought[0]]
            self.places = places, self._joined(places, axis, torch.cat(parts, axis))
        return self.places[1]

    def _turned(self, entry, image_place):
        """An entry's positions, as far from the image's as they are in a run of that entry alone.

        Attention knows of positions only how far they are apart: so all of an entry's are turned from where the image
        stands in the rehearsal to where it stands now.
        """
        if not self.image_is_behind:
            return entry.places
        return (image_place @ entry.image_place.transpose(-1, -2) @ entry.places).to(entry.places)

    def _joined_mask(self, text, mask):
        entries = self.brought[0]
        sizes = [text.shape[1], *(entry.tokens.shape[1] for entry in entries)]
        return _joined_masks(sizes, [mask, *(entry.mask for entry in entries)])

    def _moved(self, indices):
        """Places in the sequence behind the positive's text, of which a block knows by number."""
        if isinstance(indices, int):
            return indices + self.n_negative
        n = self.n_positive
        moved = lambda at, is_behind: at + self.n_negative if is_behind else at
        return [
            (moved(start, start >= n), moved(stop, stop is not None and stop > n), *rest)
            for start, stop, *rest in indices
        ]


def _joined_masks(sizes, masks):
    """One mask of keys from those of so many keys each; None where nothing is hidden."""
    if all(mask is None for mask in masks):
        return None
    like = next(mask for mask in masks if mask is not None)
    free = lambda n: like.new_zeros(*like.shape[:-1], n)
    return torch.cat([free(n) if mask is None else mask for n, mask in zip(sizes, masks)], -1)


def _hooks(found, visit):
    for number, (door, blocks) in enumerate(found):
        for block in blocks:
            if door.cross is not None:
                yield block.register_forward_pre_hook(partial(visit.join, number, door), with_kwargs=True)
                attending = attending_by(partial(visit.attend, number))
                yield door.meets_in(block).register_forward_pre_hook(attending, with_kwargs=True)
            else:
                yield block.register_forward_pre_hook(partial(visit.enter, door), with_kwargs=True)
                yield block.register_forward_hook(partial(visit.leave, door))
