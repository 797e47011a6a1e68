"""From what a model does for several texts and pictures: where its text meets its picture.

What grows with the text alone is the text, with the picture alone the image, with both the sequence.
"""
from dataclasses import dataclass

import torch

from ..arguments import OPTIONS
from ..doors import Door, Doors
from ..foreign import is_comfys
from ..lists import listed
from ..projection import Projection
from ..rehearsal import token_axis
from .comparing import Runs, agreeing, same, tensors, whole_numbers
from .watching import NUMBERED, Frame, Seen


class Unsure(Exception):
    """Why no doors are found: a clause on what was seen."""


class Alike(Unsure):
    """Both texts came out of the same length."""


@dataclass(frozen=True)
class FoundDoor(Door):
    """A door whose blocks may be another pack's, if the model is."""

    def find(self, model):
        return super().find(model) if is_comfys(model) else listed(model, self.blocks)

    def missing(self, block):
        return []


@dataclass(frozen=True)
class Found:
    """
    Args:
        doors: of the model.
        n_text, n_short, n_image: how many tokens the long text, the short one and the larger picture have there.
        vector: the argument of the blocks that the pooled output goes into, where these modulate the text by it.
    """

    doors: Doors
    n_text: int
    n_short: int
    n_image: int
    vector: str | None = None


def read(seen: Runs, other_pooled: Seen | None) -> Found:
    """The doors of a model.

    Args:
        seen: of the runs.
        other_pooled: of a run with the long text and another pooled output, where there is one.

    Raises:
        Unsure: it says what was seen.
    """
    lists = [_List(path, seen, other_pooled) for path in seen.long.blocks if all(path in s.blocks for s in seen.each)]
    if not any(each.texts or each.sequence for each in lists):
        raise Alike("nothing that it hands to its blocks grows with the text")
    meeting = [each for each in lists if each.sequence or each.texts and each.has_image]
    if not meeting:
        raise Unsure(f"none of its lists ({', '.join(each.path for each in lists)}) gets both text and picture")
    vectors = [vector for each in meeting for vector in each.vectors]
    if any(of_text for _, of_text in vectors):
        raise Unsure(f"its blocks are modulated by what it makes of the text itself ({vectors[0][0]})")
    crossing = [each.cross_doors() for each in meeting]
    if any(crossing):
        if not all(crossing):
            raise Unsure(f"text and picture meet otherwise in {meeting[0].path} than in another of its lists")
        doors = tuple(door for doors in crossing for door in doors)
        return Found(Doors(doors), meeting[0].n_text, meeting[0].n_text - meeting[0].n_grown, meeting[0].n_queries)
    doors = tuple(each.joint_door() for each in meeting)
    image_first, possible, total = meeting[0].order()
    n_text, facts = _counting(seen, meeting[0], possible) if doors[0].sequence else (possible[0], {})
    n_image = total - n_text
    if image_first:
        facts["image_first"] = _yes
    if any(door.projection for door in doors) and not image_first:
        raise Unsure(meeting[0].unreached())
    behind = not doors[0].projection and meeting[0].image_is_behind(doors[0].places, image_first, n_text)
    vector = vectors[0][0] if vectors else None
    n_short = n_text - meeting[0].n_grown
    return Found(Doors(doors, image_is_behind=behind, **facts), n_text, n_short, n_image, vector)


def _yes(model):
    return True


class _List:
    """What the first blocks of one list are handed.

    Attributes:
        sequence: the argument with text and image, or None.
        texts: those with a text alone, each with the axis of its tokens.
        image: the argument with the tokens of the image alone, or None.
        has_image: whether there is an image alone, in whatever form.
        places, text_places, mask, text_mask: see Door.
    """

    def __init__(self, path, seen, other_pooled):
        self.path = path
        self.blocks = [Runs(*blocks) for blocks in zip(*(each.blocks[path] for each in seen.each))]
        given = self.blocks[0].map(lambda block: block.frame.given)
        self.given = {
            argument: Runs(*(each[argument] for each in given.each))
            for argument in given.long
            if argument != OPTIONS and all(argument in each for each in given.each)
        }
        self.other_pooled = other_pooled and other_pooled.blocks[path][0].frame.given
        self.sequence = self.image = self.places = self.text_places = self.mask = self.text_mask = None
        self.has_image, self.texts, self.vectors, self.odd = False, [], [], []
        for argument, value in self.given.items():
            if value.parts():
                self._sort(argument, value)

    def _sort(self, argument, value):
        """Note what an argument is."""
        parts = value.parts()
        t, by_text, by_image = value.long, parts[0].by_text, parts[0].by_image
        is_one = parts[0] is value
        is_tokens = is_one and t.ndim == 3 and t.is_floating_point() and t.shape[2] > 1
        if is_tokens and by_text == by_image == [1] and value.by_value and not self.sequence and not self.texts:
            self.sequence = argument
        elif is_tokens and by_text in ([0], [1]) and not by_image and value.by_value:
            self.texts.append((argument, by_text[0]))
        elif not any(part.by_text for part in parts):
            if any(part.by_image and part.long.is_floating_point() and part.long.ndim > 2 for part in parts):
                self.has_image = True
                if is_tokens and by_image == [1]:
                    self.image = self.image or argument
            else:
                self._note_vector(argument, value, parts)
        elif all(p.by_text == p.by_image == [token_axis(p.long)] for p in parts):
            self.places = self.places or argument
        elif all(self._is_place_of_text(part) for part in parts):
            self.text_places = self.text_places or argument
        elif is_one and self._grows_at_end(value, by_image):
            if by_image:
                self.mask = self.mask or argument
            else:
                self.text_mask = self.text_mask or argument
        else:
            self.odd.append(argument)

    def _is_place_of_text(self, part):
        axis = token_axis(part.long)
        return part.by_text == [axis] and axis < part.long.ndim - 1 and not part.by_image and not part.by_value

    def _grows_at_end(self, value, by_image):
        """Whether it is like a mask: of keys, or of queries and keys."""
        last = value.long.ndim - 1
        if by_image:
            return last > 1 and value.by_text == by_image and by_image in ([last], [last - 1, last])
        return value.long.is_floating_point() and last in (1, 2, 3) and value.by_text == [last]

    def _note_vector(self, argument, value, parts):
        floats = [part for part in parts if part.long.is_floating_point()]
        if any(part.by_value for part in floats):
            self.vectors.append((argument, True))
        elif self.other_pooled is not None:
            pairs = zip(tensors(value.long), tensors(self.other_pooled.get(argument)))
            if not all(same(*pair) for pair in pairs):
                self.vectors.append((argument, False))

    @property
    def first(self):
        return self.blocks[0]

    @property
    def n_text(self):
        argument, axis = self.texts[0]
        return self.given[argument].long.shape[axis]

    def _calls(self) -> list[tuple[list[bool], Runs]]:
        """The calls of attention in the first block, each with what it grows by: queries by text, by picture, keys."""
        calls = [Runs(*calls) for calls in zip(*self.first.map(lambda block: block.attentions).each)]
        numbers = [(call.map(lambda a: a.queries), call.map(lambda a: a.keys)) for call in calls]
        grows = [[n.long != m for n in of_one for m in (n.short, n.small)] for of_one in numbers]
        return list(zip(grows, calls))

    # Cross-attention

    def cross_doors(self) -> list[Door]:
        """One for each text that the picture attends to alone."""
        calls = self._calls()
        crossing = [call for grows, call in calls if not grows[0] and grows[2:] == [True, False]]
        if self.sequence or any(all(grows) for grows, _ in calls):
            return []
        if not crossing:
            return self._projected_doors()
        if len(self.texts) == 1 and len(crossing) > 1:  # whose sum or difference is guided as a whole
            return self._projected_doors()
        self.n_queries, found = crossing[0].long.queries, {}
        for argument, axis in self.texts:
            modules = [module for call in crossing if (module := self._attending(call, argument, axis)) is not None]
            module = next((module for module in modules if module not in found), None)
            if module is None:
                keys, n = ", ".join(str(call.long.keys) for call in crossing), self.given[argument].long.shape[axis]
                raise Unsure(
                    f"its blocks ({self.path}) get {n} tokens of text as {argument!r}, and no module in them lets the "
                    f"picture attend to just these, but to {keys} tokens of text"
                )
            found[module] = FoundDoor(
                self.path, text=argument, text_axis=axis, text_places=self.text_places, text_mask=self.text_mask,
                cross=module, names=self._names(),
            )  # fmt: skip
        self._check_known()
        return list(found.values())

    def _attending(self, call: Runs, argument, axis):
        """The path, in the block, of the innermost module that is handed this text and attends to all of it."""
        text, block = self.given[argument].long, self.first.long.frame
        n, width = text.shape[axis], text.shape[2]
        frames = call.long.frames
        own = frames[frames.index(block) + 1 :]
        for frame in reversed(own if call.long.keys == n else ()):
            handed = [t for t in frame.given.values() if torch.is_tensor(t) and t.ndim == 3]
            if any((t.shape[axis], t.shape[2]) == (n, width) for t in handed):
                if OPTIONS not in frame.given:
                    raise Unsure(f"{frame.path} attends to the text without transformer_options")
                return _inside(frame, block)
        return None

    # Cross-attention that no override reaches

    def _projected_doors(self) -> list[Door]:
        """One for the text, if a module that is handed it and the image ends in a projection of the latter."""
        if len(self.texts) != 1:
            return []
        (argument, axis), frames = self.texts[0], self._frames()
        text = self.given[argument].long
        for module in reversed(frames):
            name = next((name for name, value in module.long.given.items() if _is_like(value, text)), None)
            layers = self._layers(module, lambda given: given.by_image and not given.by_text)
            if name is None or len(layers) < 2 or axis != 1:
                continue
            self.n_queries = layers[0].given_tensor.shape[-2]
            self._check_known()
            *once, last = (_inside(layer, module.long) for layer in layers)
            name = None if name == argument else name
            how = Projection(last, once=tuple(once), text=name, lengths=self._lengths(module))
            path = _inside(module.long, self.first.long.frame)
            return [FoundDoor(self.path, text=argument, cross=path, projection=how, names=self._names())]
        return []

    def _projected_sequence(self) -> Projection | None:
        """How the prompts meet in a module that is handed text and image in one, and their positions."""
        sequence = self.given[self.sequence].long
        places = self.places and self.given[self.places].long
        for module in reversed(self._frames()):
            given = module.long.given
            text = next((name for name, value in given.items() if _is_like(value, sequence)), None)
            at = next((name for name, value in given.items() if places is not None and _is_like(value, places)), None)
            layers = self._layers(module, lambda given: given.by_image and given.by_text)
            if text is not None and len(layers) > 1 and (places is None) == (at is None):
                *once, last = (_inside(layer, module.long) for layer in layers)
                path = _inside(module.long, self.first.long.frame)
                return Projection(last, once=tuple(once), text=text, module=path, places=at)
        return None

    def _layers(self, module: Runs, is_of) -> list[Frame]:
        """The linear layers in a module whose input grows like this, in the order in which they were called."""
        inside = [frame for frame in self._frames() if frame.long.path.startswith(f"{module.long.path}.")]
        linear = [frame for frame in inside if hasattr(frame.long.module, "in_features")]
        inputs = [(frame.long, frame.map(lambda each: each.given_tensor)) for frame in linear]
        return [frame for frame, given in inputs if given.parts() and is_of(given)]

    def _frames(self) -> list[Runs]:
        return [Runs(*frames) for frames in zip(*self.first.map(lambda block: block.frames).each)]

    def _lengths(self, module):
        """The argument of block and module with how many tokens each row's text has."""
        for name, value in module.long.given.items():
            theirs = self.given.get(name)
            if isinstance(value, list) and theirs is not None and theirs.long == value != theirs.short:
                return name
        return None

    # Joint attention

    def joint_door(self) -> Door:
        reached = any(all(grows) for grows, _ in self._calls())
        projection = self._projected_sequence() if self.sequence and not reached else None
        if not reached and projection is None:
            raise Unsure(self.unreached())
        if OPTIONS not in self.first.long.frame.given and reached:
            raise Unsure(f"its blocks ({self.path}) are not handed transformer_options")
        self._check_known()
        facts = {"places": self.places, "mask": self.mask, "indices": self._indices(), "names": self._names()}
        if self.sequence:
            self._check_handed_on(self.sequence, lambda out: out)
            return FoundDoor(self.path, sequence=self.sequence, projection=projection, **facts)
        if len(self.texts) > 1:
            names = ", ".join(argument for argument, _ in self.texts)
            raise Unsure(f"its blocks ({self.path}) get several texts: {names}")
        ((argument, axis),), out = self.texts, self._out()
        self._check_handed_on(argument, lambda made: made[out])
        return FoundDoor(
            self.path, text=argument, text_axis=axis, image=self.image, out=out, text_places=self.text_places,
            text_mask=self.text_mask, **facts,
        )  # fmt: skip

    def order(self) -> tuple[bool, list[int], int]:
        """(whether the image comes first, how many tokens the text may have, and all) where they attend together."""
        if self.sequence:
            tokens = self.given[self.sequence]
        else:
            tokens = next(call for grows, call in self._calls() if all(grows)).map(lambda a: a.values)
        text_in_front, total = agreeing(tokens.long, tokens.small), tokens.long.shape[1]
        image_in_front = agreeing(tokens.long, tokens.short)
        image_first = image_in_front > text_in_front
        if self.texts:
            possible = [self.n_text]
        elif image_first:  # behind the text's first tokens in front of it there may be pads
            possible = [total - agreeing(tokens.long, tokens.other), total - image_in_front]
        else:  # behind the text there may be pads, or pictures that are the same for all
            behind = agreeing(tokens.long.flip(1), tokens.other.flip(1))
            possible = [total - behind, text_in_front]
        if not all(0 < n < total for n in possible):
            raise Unsure(f"no end of what its blocks ({self.path}) get is the same for two texts or for two pictures")
        return image_first, possible, total

    def image_is_behind(self, places, image_first, n_text) -> bool:
        """Whether the image's positions are others for another text."""
        return places is not None and any(
            self._is_behind(places, part, image_first, n_text) for part in self.given[places].parts()
        )

    def _is_behind(self, places, part, image_first, n_text):
        axis = token_axis(part.long)
        n_image = part.long.shape[axis] - n_text
        long, short = (t.narrow(axis, 0 if image_first else t.shape[axis] - n_image, n_image) for t in part.each[:2])
        if same(long, short):
            return False
        if part is not self.given[places] or part.long.shape[-2:] != (2, 2):
            raise Unsure(f"the picture's {places!r} hang on the text, and are no rotations")
        turned = long.narrow(axis, 0, 1) @ short.narrow(axis, 0, 1).transpose(-1, -2) @ short
        off = (turned - long).abs().movedim(axis, 0).flatten(1).amax(1) > 1e-2
        if off.float().mean() > 0.5:  # some may be of tokens that only pad the picture
            raise Unsure(f"the picture's {places!r} hang on the text in more than where it begins")
        return True

    @property
    def n_grown(self):
        """By how many tokens the long text has more than the short one."""
        value = self.given[self.sequence] if self.sequence else self.given[self.texts[0][0]]
        (axis,) = value.by_text
        return value.long.shape[axis] - value.short.shape[axis]

    def _indices(self):
        for argument, value in self.given.items():
            pairs = zip(whole_numbers(value.long), whole_numbers(value.short))
            if any(long - short == self.n_grown for long, short in pairs):
                return argument
        return None

    def _names(self):
        """Of the arguments in their order, where these had to be numbered."""
        return tuple(name for name in self.first.long.frame.given if name.startswith(NUMBERED)) or None

    def _out(self):
        """Which of the outputs is the text."""
        made = self.first.map(lambda block: block.frame.out)
        parts = made.each if all(isinstance(each, (tuple, list)) for each in made.each) else ((), (), (), ())
        for i, outs in enumerate(zip(*parts)):
            out = Runs(*outs)
            if out.parts() == [out] and out.long.ndim == 3 and out.by_text == [1] and not out.by_image:
                return i
        raise Unsure(f"its blocks ({self.path}) do not return their text among others")

    def _check_handed_on(self, argument, part):
        """Raise Unsure if the second block gets another text than the first has made."""
        made, given = part(self.first.long.frame.out), self.given[argument].long
        if not torch.is_tensor(made):
            raise Unsure(f"its blocks ({self.path}) return more than their {argument!r}")
        second = self.blocks[1].long.frame.given[argument] if len(self.blocks) > 1 else given
        if made.shape != given.shape or second.shape != given.shape:
            raise Unsure(f"new text comes to each of its blocks ({self.path})")

    def _check_known(self):
        if self.odd:
            raise Unsure(f"its blocks ({self.path}) get {self.odd[0]!r}, which grows with the text as nothing known")

    def unreached(self):
        calls = [call.long for _, call in self._calls()]
        block = type(self.first.long.frame.module).__name__
        if not calls:
            return f"no attention in {block} ({self.path}) goes by optimized_attention with transformer_options"
        sizes = ", ".join(f"{call.queries} to {call.keys} tokens" for call in calls)
        return f"no attention in {block} ({self.path}) is of text and picture together, but of {sizes}"


def _counting(seen, meeting, possible):
    """(the text's tokens, the path of a module by whose output these, or the image's, can be counted: as Doors has it).

    possible: how many the text may have.
    """
    totals = meeting.given[meeting.sequence].map(lambda t: t.shape[1])
    grown = totals.long - totals.short
    counts = [_counts(run, block.n_before) for run, block in zip(seen.each, meeting.first.each)]
    for n_text in possible:
        texts = n_text, n_text - grown, n_text, n_text
        images = tuple(total - n for total, n in zip(totals.each, texts))
        for kind, wanted in (("text_module", texts), ("image_module", images)):
            paths = [path for path in counts[0] if tuple(count.get(path) for count in counts) == wanted]
            if paths:
                return n_text, {kind: paths[-1]}
    raise Unsure("no module of it has the text or the picture alone, by which the text's tokens could be counted")


def _counts(run: Seen, n_before):
    """{path: tokens} of what modules had returned before a block, in the order of their last calls."""
    counts = {}
    for frame in run.returned[:n_before]:
        if torch.is_tensor(frame.out) and frame.out.ndim >= 2:
            counts.pop(frame.path, None)
            counts[frame.path] = frame.out.shape[1]
    return counts


def _is_like(value, text):
    return torch.is_tensor(value) and value.shape == text.shape


def _inside(frame: Frame, of: Frame) -> str:
    """The path of a module in another."""
    return frame.path.removeprefix(f"{of.path}.")
