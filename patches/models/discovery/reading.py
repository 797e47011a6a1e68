"""From what a model does for two texts and two pictures: where its text meets its picture.

What grows with the text alone is the text, with the picture alone the image, with both the sequence.
"""
from dataclasses import dataclass

import torch

from ..arguments import OPTIONS
from ..doors import Door, Doors
from ..foreign import is_comfys
from ..rehearsal import token_axis
from .watching import Seen


class Unsure(Exception):
    """Why no doors are found: a clause on what was seen."""


class Alike(Unsure):
    """Both texts came out of the same length."""


@dataclass(frozen=True)
class FoundDoor(Door):
    """A door whose blocks may be another pack's, if the model is."""

    def find(self, model):
        return super().find(model) if is_comfys(model) else [*getattr(model, self.blocks)]

    def missing(self, block):
        return []


@dataclass(frozen=True)
class Found:
    """
    Args:
        doors: of the model.
        n_text, n_image: how many tokens the longer text and the larger picture have in the blocks.
        own_vector: the argument of the blocks that the pooled output goes into, where it modulates the text, too.
    """

    doors: Doors
    n_text: int
    n_image: int
    own_vector: str | None


@dataclass(frozen=True)
class Three:
    """The same place in the run with the longer text, with the shorter one, and with the smaller picture."""

    long: object
    short: object
    small: object

    def map(self, function):
        return Three(*(function(each) for each in (self.long, self.short, self.small)))

    @property
    def each(self):
        return self.long, self.short, self.small

    @property
    def is_tensors(self):
        return all(torch.is_tensor(each) for each in self.each)

    @property
    def is_picture(self) -> bool:
        """Whether it is several things of which one grows with the image alone, and none with the text."""
        parts = [Three(*parts) for parts in zip(*self.map(_tensors_in).each)]
        return any(part.by_image for part in parts) and not any(part.by_text for part in parts)

    @property
    def by_text(self) -> list[int]:
        """The axes that grow with the text."""
        return _grown(self.long, self.short)

    @property
    def by_image(self) -> list[int]:
        return _grown(self.long, self.small)


def read(seen: Three, other_pooled: Seen | None) -> Found:
    """The doors of a model.

    Args:
        seen: of the three runs.
        other_pooled: of a run with the longer text and another pooled output, where there is one.

    Raises:
        Unsure: it says what was seen.
    """
    lists = [_List(name, seen, other_pooled) for name in seen.long.blocks if _is_in_all(name, seen)]
    if not any(each.grows_with_text for each in lists):
        raise Alike("nothing that it hands to its blocks grows with the text")
    meeting = [each for each in lists if each.is_meeting]
    if not meeting:
        kinds = ", ".join(each.name for each in lists)
        raise Unsure(f"none of its lists ({kinds}) is of blocks that get both text and picture")
    crossing = {each.name: each.cross_doors() for each in meeting}
    if any(crossing.values()):
        joint = [name for name, doors in crossing.items() if not doors]
        if joint:
            raise Unsure(f"the blocks of {meeting[0].name} and of {joint[0]} let text and picture meet in different ways")
        doors = [door for each in crossing.values() for door in each]
        return Found(Doors(tuple(doors)), meeting[0].texts[0][1], meeting[0].n_queries, None)
    doors = [each.joint_door() for each in meeting]
    image_first, n_text, n_image = meeting[0].order()
    path = _counting(seen, meeting[0], n_text, n_image) if doors[0].sequence else {}
    behind = meeting[0].image_is_behind(doors[0].places, image_first, n_text)
    found = Doors(tuple(doors), image_is_behind=behind, image_first=(lambda model: True) if image_first else lambda model: False, **path)
    return Found(found, n_text, n_image, next((v for each in meeting for v in each.vectors), None))


class _List:
    """What the first two blocks of one list are handed."""

    def __init__(self, name, seen, other_pooled):
        self.name = name
        self.blocks = [Three(*blocks) for blocks in zip(*(each.blocks[name] for each in seen.each))]
        self.first = self.blocks[0]
        frames = self.first.map(lambda block: block.frame.given)
        self.given = {
            argument: Three(value, frames.short[argument], frames.small[argument])
            for argument, value in frames.long.items()
            if argument != OPTIONS and argument in frames.short and argument in frames.small
        }
        self.other_pooled = other_pooled and other_pooled.blocks[name][0].frame.given
        self._sort()
        self.n_queries = None  # of the picture, to a text that comes alone

    def _sort(self):
        self.texts, self.images, self.sequences, self.riders, self.fixed = [], [], [], [], []
        for argument, value in self.given.items():
            if not value.is_tensors:
                if value.is_picture:
                    self.images.append(argument)
                continue
            t, by_text, by_image = value.long, value.by_text, value.by_image
            tokens = t.ndim == 3 and t.is_floating_point() and t.shape[2] > 1
            if tokens and by_text == [1] and by_image == [1] and not self.sequences and not self.texts:
                self.sequences.append(argument)
            elif tokens and by_text == [1] and not by_image:
                self.texts.append((argument, t.shape[1]))
            elif t.is_floating_point() and t.ndim >= 3 and by_image and not by_text:
                self.images.append(argument)
            elif by_text:
                self.riders.append(argument)
            elif not by_image:
                self.fixed.append(argument)

    @property
    def grows_with_text(self):
        return bool(self.texts or self.sequences)

    @property
    def is_meeting(self):
        return bool(self.sequences or self.texts and self.images)

    @property
    def vectors(self):
        """What the pooled output changes, of that which neither grows."""
        if self.other_pooled is None:
            return []
        given, other = self.given, self.other_pooled
        return [a for a in self.fixed if not _same(given[a].long, other.get(a))]

    def attentions(self, k: int = 0) -> list[Three]:
        return [Three(*calls) for calls in zip(*self.blocks[k].map(lambda block: block.attentions).each)]

    def _calls(self):
        """[(what the queries and the keys grow with, the call)] of attention in the first block."""
        calls = self.attentions()
        grows = lambda n: (n.long != n.short, n.long != n.small)
        return [((*grows(c.map(lambda a: a.queries)), *grows(c.map(lambda a: a.keys))), c) for c in calls]

    # Cross-attention

    def cross_doors(self) -> list[Door]:
        """One for each text that the picture attends to alone."""
        crossing = [call for grows, call in self._calls() if not grows[0] and grows[2:] == (True, False)]
        if self.sequences or not crossing:
            return []
        found = []
        for argument, n in self.texts:
            for call in crossing:
                module = self._attending(call, argument, n)
                if module is not None and module not in (door.cross for door in found):
                    self.n_queries = self.n_queries or call.long.queries
                    found.append(FoundDoor(self.name, text=argument, cross=module, text_mask=self._mask()))
                    break
            else:
                keys = ", ".join(str(call.long.keys) for call in crossing)
                raise Unsure(
                    f"the blocks of {self.name} get {n} tokens of text as {argument!r}, and no module in them lets the "
                    f"picture attend to just these, but to {keys} tokens of text"
                )
        self._check_riders()
        return found

    def _attending(self, call: Three, argument, n):
        """The path, in the block, of the innermost module that is handed this text and attends to all of it."""
        width, block = self.given[argument].long.shape[2], self.first.long.frame
        if call.long.keys != n:
            return None
        for frame in reversed(call.long.frames):
            for value in frame.given.values():
                if torch.is_tensor(value) and value.ndim == 3 and value.shape[1:] == (n, width):
                    if frame.path == block.path:
                        return None
                    if OPTIONS not in frame.given:
                        raise Unsure(f"{frame.path} attends to the text without transformer_options")
                    return frame.path.removeprefix(f"{block.path}.")
        return None

    # Joint attention

    def joint_door(self) -> Door:
        if not any(all(grows) for grows, _ in self._calls()):
            raise Unsure(self._unreached())
        if OPTIONS not in self.first.long.frame.given:
            raise Unsure(f"the blocks of {self.name} are not handed transformer_options")
        self._check_riders()
        places = [a for a in self.riders if self._is_places(a)]
        facts = {"places": places[0] if places else None, "indices": self._indices(), "names": self._names()}
        if self.sequences:
            (argument,) = self.sequences
            self._check_handed_on(argument, lambda out: out)
            return FoundDoor(self.name, sequence=argument, **facts)
        if len(self.texts) > 1:
            raise Unsure(f"the blocks of {self.name} get several texts: {', '.join(a for a, _ in self.texts)}")
        ((argument, n),) = self.texts
        out = self._out(n)
        self._check_handed_on(argument, lambda made: made[out])
        of_tokens = [a for a in self.images if self.given[a].is_tensors and self.given[a].long.ndim == 3]
        image = of_tokens[0] if of_tokens else None
        return FoundDoor(self.name, text=argument, image=image, out=out, text_mask=self._mask(), **facts)

    def order(self) -> tuple[bool, int, int]:
        """(whether the image comes first, how many tokens of text, of the image) where they attend together."""
        if self.sequences:
            tokens = self.given[self.sequences[0]]
        else:
            tokens = next(call for grows, call in self._calls() if all(grows)).map(lambda a: a.values)
        text_in_front, total = _agreeing(tokens.long, tokens.small), tokens.long.shape[1]
        image_in_front = _agreeing(tokens.long, tokens.short)
        image_first = image_in_front > text_in_front
        n_text = self.texts[0][1] if self.texts else total - image_in_front if image_first else text_in_front
        if not 0 < n_text < total:
            raise Unsure(f"neither end of what the blocks of {self.name} get is the same for both texts or both pictures")
        return image_first, n_text, total - n_text

    def image_is_behind(self, places, image_first, n_text) -> bool:
        """Whether the image's positions are others for another text."""
        if places is None:
            return False
        t, axis = self.given[places], token_axis(self.given[places].long)
        n_image = t.long.shape[axis] - n_text
        of_image = lambda t: t.narrow(axis, 0 if image_first else t.shape[axis] - n_image, n_image)
        long, short = of_image(t.long), of_image(t.short)
        if _same(long, short):
            return False
        if t.long.shape[-2:] != (2, 2):
            raise Unsure(f"the picture's {places!r} hang on the text, and are no rotations")
        turned = long.narrow(axis, 0, 1) @ short.narrow(axis, 0, 1).transpose(-1, -2) @ short
        off = (turned - long).abs().flatten(axis + 1).amax(-1) > 1e-2
        if off.float().mean() > 0.5:  # some may be of tokens that only pad the picture
            raise Unsure(f"the picture's {places!r} hang on the text in more than where it begins")
        return True

    def _indices(self):
        grown = self._n_grown()
        for argument, value in self.given.items():
            pairs = zip(_numbers(value.long), _numbers(value.short))
            if any(long - short == grown for long, short in pairs):
                return argument
        return None

    def _n_grown(self):
        argument = self.sequences[0] if self.sequences else self.texts[0][0]
        value = self.given[argument]
        return value.long.shape[1] - value.short.shape[1]

    def _names(self):
        given = self.first.long.frame.given
        numbered = tuple(name for name in given if name.startswith("argument_"))
        return numbered or None

    def _out(self, n):
        made, shorter = self.first.long.frame.out, self.first.short.frame.out
        if isinstance(made, (tuple, list)):
            for i, (t, s) in enumerate(zip(made, shorter)):
                if torch.is_tensor(t) and t.ndim == 3 and t.shape[1] == n != s.shape[1]:
                    return i
        raise Unsure(f"the blocks of {self.name} do not return their text among others")

    def _check_handed_on(self, argument, part):
        """Raise Unsure if the second block gets another text than the first has made."""
        made = part(self.first.long.frame.out)
        if not torch.is_tensor(made):
            raise Unsure(f"the blocks of {self.name} return more than their {argument!r}")
        given = self.given[argument].long
        second = self.blocks[1].long.frame.given[argument] if len(self.blocks) > 1 else given
        if made.shape != given.shape or second.shape != given.shape:
            raise Unsure(f"new text comes to each block of {self.name}")

    # What rides along

    def _is_places(self, argument):
        value = self.given[argument]
        return value.long.ndim >= 4 and value.by_text == value.by_image == [token_axis(value.long)]

    def _is_mask(self, argument):
        value = self.given[argument]
        last = value.long.ndim - 1
        return value.long.is_floating_point() and value.long.ndim in (2, 3, 4) and value.by_text == [last] and not value.by_image

    def _mask(self):
        masks = [a for a in self.riders if self._is_mask(a)]
        return masks[0] if masks else None

    def _check_riders(self):
        nested = [a for a, v in self.given.items() if isinstance(v.long, (tuple, list)) and _nested_grows(v)]
        odd = [a for a in self.riders if not self._is_places(a) and not self._is_mask(a)] + nested
        if odd:
            raise Unsure(f"the blocks of {self.name} get {odd[0]!r}, which grows with the text in a way NAG has no door for")

    def _unreached(self):
        calls = self.attentions()
        block = type(self.first.long.frame.module).__name__
        if not calls:
            return f"the attention in {block} of {self.name} does not go by ComfyUI's optimized_attention with transformer_options"
        sizes = ", ".join(f"{c.long.queries} to {c.long.keys}" for c in calls)
        return f"no attention in {self.name} is of text and picture together, but of {sizes} tokens"


def _is_in_all(name, seen):
    return all(name in each.blocks for each in seen.each)


def _counting(seen, meeting, n_text, n_image):
    """The path of a module by whose output the text's tokens, or the image's, can be counted: as Doors has it."""
    argument = meeting.sequences[0]
    totals = meeting.given[argument].map(lambda t: t.shape[1])
    grown = totals.long - totals.short
    texts = n_text, n_text - grown, n_text
    images = tuple(total - n for total, n in zip(totals.each, texts))
    for kind, wanted in (("text_module", texts), ("image_module", images)):
        counts = [_counts(run, block.n_before) for run, block in zip(seen.each, meeting.first.each)]
        paths = [path for path in counts[0] if tuple(count.get(path) for count in counts) == wanted]
        if paths:
            return {kind: paths[-1]}
    raise Unsure("no module of it has the text alone, or the picture alone, by which the text's tokens could be counted")


def _counts(run: Seen, n_before):
    """{path: tokens} of what modules had returned before a block, in the order in which they did it for the last time."""
    counts = {}
    for frame in run.returned[:n_before]:
        if torch.is_tensor(frame.out) and frame.out.ndim >= 2:
            counts.pop(frame.path, None)
            counts[frame.path] = frame.out.shape[1]
    return counts


def _grown(a, b):
    return [i for i in range(a.ndim) if a.ndim == b.ndim and a.shape[i] != b.shape[i]]


def _nested_grows(value: Three):
    return any(Three(*parts).by_text for parts in zip(*value.map(_tensors_in).each))


def _tensors_in(value):
    return [each for each in value if torch.is_tensor(each)] if isinstance(value, (tuple, list)) else []


def _numbers(value):
    """The whole numbers in an argument that is one, or has (start, stop, ...) of them."""
    if isinstance(value, int) and not isinstance(value, bool):
        return [value]
    if isinstance(value, (list, tuple)) and all(isinstance(each, (list, tuple)) for each in value):
        return [n for each in value for n in each[:2] if isinstance(n, int)]
    return []


def tolerance(dtype: torch.dtype) -> float:
    """By how much two tensors that should be the same may be off, relative to what they are."""
    return 1e-3 if dtype in (torch.float32, torch.float64) else 0.05


def _same(a, b) -> bool:
    if not torch.is_tensor(a) or not torch.is_tensor(b) or a.shape != b.shape:
        return a is b
    return bool(((a - b).float().abs().max() <= tolerance(a.dtype) * b.float().abs().max()).item())


def _agreeing(a, b) -> int:
    """How many of the first tokens of two sequences, (rows, tokens, width), agree."""
    n = min(a.shape[1], b.shape[1])
    a, b = a[:, :n], b[:, :n]
    same = ((a - b).abs().amax((0, 2)) <= tolerance(a.dtype) * b.abs().amax((0, 2))).tolist()
    return (same + [False]).index(False)
