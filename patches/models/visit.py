"""The negative at the doors of one kind, in one model call."""
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial

import torch
from torch.utils.hooks import RemovableHandle

from ..arithmetic.equation import Equation
from ..attention.masks import Masks
from ..attention.override import CarryingAttention, CrossAttention, JointAttention, Override
from ..attention.sizes import Sizes
from .arguments import OPTIONS, Arguments, in_front
from .compiled import marked
from .places import weighted_mean
from .rehearsal import Brought, by_part, of_keys, token_axis

PATCHES_OF_ATTENTION = {"attn1_patch", "attn1_output_patch"}
IMAGE = "img_slice"  # of the sequence: in the transformer_options, as (start, stop)


def attending_by(make: Callable[[Arguments, dict], Override | None]) -> Callable:
    """A hook for `in_front` of a module that attends.

    Inside of the module, attention goes by the override that `make`, given the module's arguments and its
    transformer_options, returns. These may hold an override that another node has put there since the model was
    called, or be missing.
    """

    def enter(given):
        options = given[OPTIONS] or {}
        override = make(given, options)
        return None if override is None else given.changed(**{OPTIONS: override.install(options)})

    return enter


class CrossVisit:
    """At cross-attention, where the text is the model's own for each block: the negative's follows it.

    Args:
        door: see Door.
        use: see ModelCall.
        entries: what each entry of the negative brings.
    """

    def __init__(self, door, equation: Equation, use: Hashable, entries: Sequence[Brought]):
        self.door, self.equation, self.use = door, equation, use
        self.tokens = torch.cat([entry.tokens for entry in entries], 1)
        self.places, self.mask = [entry.places for entry in entries], joined_masks(entries)
        self.lengths, self.sizes = lengths_of(entries), None

    def hooks(self, blocks: Sequence[torch.nn.Module]) -> Iterator[RemovableHandle]:
        attending = attending_by(self.attend)
        for block in blocks:
            yield in_front(block, self.join, self.door.names)
            yield in_front(self.door.meets_in(block), attending)

    def join(self, given):
        text, axis = given[self.door.text], self.door.text_axis
        if self.sizes is None or self.sizes.positive != text.shape[axis]:
            self.sizes = Sizes(text.shape[axis], self.tokens.shape[1])
        joined = torch.cat((text, self.tokens.movedim(1, axis).to(text)), axis)
        changed = {self.door.text: marked(joined, given.module, self.use)}
        if self.door.text_places:
            changed[self.door.text_places] = self._joined_places(given[self.door.text_places])
        return given.changed(**changed)

    def _joined_places(self, places):
        joined = lambda *parts: torch.cat([part.to(parts[0]) for part in parts], token_axis(parts[0]))
        return by_part(joined, places, *self.places)

    def attend(self, given, options):
        """The override inside of the module that attends to the text."""
        return CrossAttention(self.equation, options, self.sizes, None, self.mask, self.lengths)


class JointVisit:
    """At joint attention: the negative stands at the free end of the text, and its tokens go from block to block.

    Args:
        use: see ModelCall.
        entries: what each entry of the negative brings.
        count: see rehearsal.brought_to.
        image_is_behind: see Doors.
        image_first: whether it is [image | text].
        weights: see ModelCall.

    Attributes:
        tokens: the negative's, as they are between two blocks.
        acts: whether NAG acts in the block at work.
        sizes: of the two prompts, and of the image where a block attends within it, too.
        vector: the negative's modulation, or None.
        own: further tokens, for each block those that it alone is given; or nothing.
    """

    def __init__(
        self,
        equation: Equation,
        use: Hashable,
        entries: Sequence[Brought],
        count,
        image_is_behind: bool,
        image_first: bool,
        weights: Sequence[float] = (),
    ):
        self.equation, self.use, self.entries = equation, use, entries
        self.count, self.image_is_behind, self.image_first = count, image_is_behind, image_first
        self.tokens = torch.cat([entry.tokens for entry in entries], -2)
        self.vector = _mean([entry.vector for entry in entries], weights)
        self.own = [torch.cat(of_block, -2) for of_block in zip(*(entry.own for entry in entries))]
        self.lengths, self.sizes, self.masks = lengths_of(entries), None, None
        self.places = (None, None)  # those of a block and the joined ones, which as a rule are the same for all blocks
        self.mask = None  # in the same way, of all keys
        self.acts = True
        self.whole = (None, None)  # what the last block has handed on, without the negative and with it
        self.padding = None  # of the positive, which waits outside of a block

    @property
    def n_negative(self) -> int:
        return self.sizes.negative

    @property
    def negative(self) -> slice:
        """Where the negative's tokens are inside of a block: in its text, and in its sequence."""
        return slice(-self.n_negative, None) if self.image_first else slice(0, self.n_negative)

    def hooks(
        self, door, block: torch.nn.Module, number: int, within=None, acts: bool = True
    ) -> Iterator[RemovableHandle]:
        """number: of the block; within: see Door, its hooks see the block with the negative in it.

        acts: whether NAG acts in it; else the negative only goes through, for later blocks.
        """
        yield in_front(block, partial(self.enter, door, number, acts), door.names)
        if within is not None:
            yield from within(block)
        yield block.register_forward_hook(partial(self.leave, door))

    def enter(self, door, number, acts, given):
        name, self.acts = door.text or door.sequence, acts
        use = self.use if acts else (self.use, "carries")
        if self.own:
            self.tokens = torch.cat((self.tokens, self.own[number].to(self.tokens)), -2)
        tokens, changed = given[name], {}
        if door.attended:
            n = given[door.attended]
            tokens, self.padding = tokens[..., :n, :], tokens[..., n:, :]
            changed[door.attended] = n + self.tokens.shape[-2]
        self._know_sizes(door, given, tokens)
        changed[name] = self._joined_tokens(tokens)
        places = door.places or door.text_places
        if places and given[places] is not None:
            joined = given[places] if door.projection else self._joined_places(given[places])
            changed[places] = by_part(lambda t: marked(t, given.module, use), joined)
        if door.text_mask:
            changed[door.text_mask] = self._joined_mask(given[name], given[door.text_mask])
        if door.mask:
            changed[door.mask] = self._joined_mask_of_all(self._n_tokens(door, given, tokens), given[door.mask])
        if door.indices and given[door.indices] is not None:
            changed[door.indices] = self._moved(given[door.indices])
        if door.segments:
            changed[door.segments] = self._with_own_segments(given[door.segments])
        if door.projection:
            return given.changed(**changed)
        options = given[OPTIONS] or {}
        if not door.text:
            options = self._pointing_at_image(options)
        kind = JointAttention if acts else CarryingAttention
        attention = kind(self.equation, options, self.sizes, self.masks, self.lengths)
        return given.changed(**changed, **{OPTIONS: attention.install(options)})

    def leave(self, door, block, args, out):
        if not door.text:
            return self._parted(out)
        parts = list(out)
        if parts[door.out] is not None:  # what a last block does not make
            parts[door.out] = self._parted(parts[door.out])
            if door.attended:
                parts[door.out] = torch.cat((parts[door.out], self.padding), -2)
        return tuple(parts)

    def _know_sizes(self, door, given, tokens):
        if door.text:
            n_positive = tokens.shape[-2]
        else:
            n_positive = self.sizes.positive if self.sizes else self.count.of_text(tokens)
        sizes = n_positive, self.tokens.shape[-2], *([given[door.image].shape[-2]] if door.image else [])
        if self.sizes is None or self.sizes.each != sizes:
            self.sizes = Sizes(*sizes, image_first=self.image_first)
            self.masks, self.places, self.mask = Masks(self.sizes), (None, None), None

    def _joined_tokens(self, tokens):
        without, whole = self.whole
        self.whole = (None, None)
        if tokens is without:  # nobody has put another in its place, and what was written into it is in the whole
            return whole
        return self._joined(tokens, self.tokens.to(tokens), -2)

    def _parted(self, whole):
        """The tokens without the negative's: a view, as are the negative's."""
        n = whole.shape[-2] - self.n_negative if self.image_first else self.n_negative
        parts = whole[..., :n, :], whole[..., n:, :]
        self.tokens, without = parts[::-1] if self.image_first else parts
        if self.own:
            self.tokens = self.tokens[..., : -self.own[0].shape[-2], :]
        self.whole = without, whole
        return without

    def _joined(self, theirs, negatives, axis):
        return torch.cat((theirs, negatives) if self.image_first else (negatives, theirs), axis)

    def _joined_places(self, places):
        if self.places[0] is not places:
            self.places = places, by_part(self._with_entries, places, *(self._turned(e, places) for e in self.entries))
        return self.places[1]

    def _with_entries(self, places, *entries):
        axis = token_axis(places)
        shape = list(places.shape)
        shape[axis] = self.n_negative
        return self._joined(places, torch.cat(entries, axis).expand(shape).to(places), axis)

    def _turned(self, entry, places):
        """An entry's positions, as far from the image's as they are in a run of that entry alone.

        Attention knows of positions only how far they are apart: so all of an entry's are turned from where the image
        stands in the rehearsal to where it stands now.
        """
        if not self.image_is_behind:
            return entry.places
        image_place = places.narrow(token_axis(places), 0 if self.image_first else self.sizes.positive, 1)
        turn = image_place.float() @ entry.image_place.float().transpose(-1, -2)
        return (turn @ entry.places.float()).to(entry.places)

    def _pointing_at_image(self, options):
        """Other nodes' patches of attention work inside of the block, and look up where the image lies in it."""
        if self.image_first or not PATCHES_OF_ATTENTION & options.get("patches", {}).keys() or IMAGE not in options:
            return options
        return {**options, IMAGE: [at + self.n_negative for at in options[IMAGE]]}

    def _n_tokens(self, door, given, tokens):
        """Of text and image, which have positions together where the text comes alone."""
        places = given[door.places] if door.text and door.places else None
        return tokens.shape[-2] if places is None else places.shape[token_axis(places)]

    def _joined_mask_of_all(self, n_tokens, mask):
        if self.mask is None or self.mask[0] is not mask:
            of_image = None if mask is None else of_keys(mask, self.image_first)
            self.mask = mask, self._joined_mask(self.tokens.new_empty(1, n_tokens, 0), of_image)
        return self.mask[1]

    def _joined_mask(self, text, mask):
        parts = [*self.entries, Brought(text, mask=mask)]
        return joined_masks([parts[-1], *parts[:-1]] if self.image_first else parts)

    def _moved(self, indices):
        """Places in the sequence, of which a block knows by number: the negative belongs to the first part."""
        if self.image_first:
            return indices
        if isinstance(indices, int):
            return indices + self.n_negative
        moved = lambda at: at + self.n_negative if at else at
        return [(moved(start), moved(stop), *rest) for start, stop, *rest in indices]

    def _with_own_segments(self, segments):
        joined, start = [], 0
        parts = [*((entry.segments, entry.tokens.shape[-2]) for entry in self.entries), (segments, 0)]
        for of_part, n in parts:
            joined += [(first + start, last + start, *rest) for first, last, *rest in of_part]
            start += n
        return joined


def _mean(vectors, weights):
    """All entries' tokens go by one vector."""
    return vectors[0] if len(vectors) == 1 or vectors[0] is None else weighted_mean(vectors, weights)


def lengths_of(entries: Sequence[Brought]) -> Sizes:
    """See Places.key_bias. Behind all entries' tokens stand those that each has for a block alone."""
    of_blocks = [entry.own[0].shape[-2] for entry in entries if entry.own]
    return Sizes(*(entry.tokens.shape[1] for entry in entries), *of_blocks)


def joined_masks(parts: Sequence[Brought]) -> torch.Tensor | None:
    """One mask of keys from those of each part; None where nothing is hidden."""
    if all(part.mask is None for part in parts):
        return None
    like = next(part.mask for part in parts if part.mask is not None)
    free = lambda part: like.new_zeros(*like.shape[:-1], part.tokens.shape[1])
    return torch.cat([free(part) if part.mask is None else part.mask.to(like) for part in parts], -1)
