"""Where no override reaches the attention: the module runs for the negative, too, and the prompts meet behind it.

A forward pre-hook on the module calls its forward() for the negative first; in front of the output projection what
comes of that is kept. Then the module goes on for the positive, and what comes to the projection is guided. So a block
costs one more attention, and nothing is projected twice: the layers in front of the attention are asked by the first
run, the projection by the second. From the other run such a layer gets a token. It can't be none: layers with quantised
weights need some, a hook can skip no layer, and out of a graph of torch.compile's nothing can be raised. A layer of
ours in their place would be another one in each model call, of which older versions of PyTorch make a graph each time.
"""
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch.utils.hooks import RemovableHandle

from ..arithmetic.equation import Equation
from .arguments import Arguments, in_front
from .compiled import marked, plain
from .rehearsal import Brought, token_axis


@dataclass(frozen=True)
class Projection:
    """The facts about an attention module in which the prompts meet in front of the output projection.

    Args:
        path: of the projection inside of the module.
        once: of the layers that the image goes through in front of the attention.
        text: what the module calls the text, or the sequence, where that is not what the block calls it.
        lengths: the argument of block and module with the number of tokens that each row's text has.
        module: the path of the module inside of a block where text and image attend together.
        places: what it calls the positions of text and image there.
    """

    path: str
    once: tuple[str, ...]
    text: str | None = None
    lengths: str | None = None
    module: str | None = None
    places: str | None = None

    def attention(self, block: torch.nn.Module) -> torch.nn.Module:
        """The module, of a block of joint attention, or of the module itself."""
        return plain(block).get_submodule(self.module or "")

    def missing(self, module: torch.nn.Module) -> list[str]:
        """The layers that an attention module does not have."""
        there = dict(module.named_modules())
        return [f"{path} in {type(module).__name__}" for path in (self.path, *self.once) if path not in there]


class _TwoRuns:
    """The hooks on attention modules by which each runs for the negative, then for the positive, in one model call.

    Args:
        at: of these modules.
        equation: see ModelCall.
    """

    def __init__(self, at: Projection, equation: Equation):
        self.at, self.equation = at, equation
        self.features = None  # of the negative's run, in front of the projection
        self.known = {}  # what layers have made in that run
        self.is_over = False  # so is the positive's, as far as the projection

    def hooks_on(self, module: torch.nn.Module) -> Iterator[RemovableHandle]:
        yield in_front(module, self.run_twice)
        for path in self.at.once:
            layer = plain(module).get_submodule(path)
            yield layer.register_forward_pre_hook(partial(self.leave_out_known, path))
            yield layer.register_forward_hook(partial(self.know, path))
        projection = plain(module).get_submodule(self.at.path)
        yield projection.register_forward_pre_hook(self.meet)
        yield projection.register_forward_hook(self.of_full_size)

    def run_twice(self, given):
        self.features, self.known, self.is_over = None, {}, False
        args, kwargs = given.changed(**self.negatives(given))
        plain(given.module).forward(*args, **kwargs)
        return given.changed(**self.positives(given))

    def leave_out_known(self, path, layer, args):
        tokens, *others = args
        return (self.whole(tokens) if self.features is None else tokens[:, :1], *others)

    def know(self, path, layer, args, out):
        if self.features is None:
            self.known[path] = out
            return self.of_negative(out)
        return self.of_positive(self.known.pop(path))

    def meet(self, projection, args):
        features, *others = args
        if self.features is None:
            self.features = features
            return (features[:, :1], *others)
        self.is_over = True
        return (self.guided(features), *others)

    def of_full_size(self, projection, args, out):
        """What the module does with the negative's, for nothing, it can do with one token in many places, too."""
        return None if self.is_over else out.expand(-1, self.features.shape[1], -1)


class CrossProjectionVisit(_TwoRuns):
    """At cross-attention that no override reaches, in one model call.

    Args:
        door: see Door.
        n_rows: of the model call.
        use: see ModelCall.
        entries: what each entry of the negative brings.
    """

    def __init__(self, door, equation: Equation, n_rows: int, use: Hashable, entries: Sequence[Brought]):
        super().__init__(door.projection, equation)
        self.door, self.use = door, use
        self.tokens = side_by_side([entry.tokens for entry in entries], n_rows)
        self.lengths = [sum(of_row) for of_row in zip(*(entry.lengths for entry in entries if entry.lengths))]

    def hooks(self, blocks: Sequence[torch.nn.Module]) -> Iterator[RemovableHandle]:
        for block in blocks:
            yield in_front(block, self.mark)
            yield from self.hooks_on(self.door.meets_in(block))

    def mark(self, given):
        return given.changed(**{self.door.text: marked(given[self.door.text], given.module, self.use)})

    def negatives(self, given: Arguments) -> dict:
        name = self.at.text or self.door.text
        lengths = {self.at.lengths: self.lengths} if self.at.lengths else {}
        return {name: self.tokens.to(given[name]), **lengths}

    def positives(self, given: Arguments) -> dict:
        return {}

    def whole(self, tokens):
        return tokens

    def of_negative(self, known):
        return known

    of_positive = of_negative

    def guided(self, features):
        return self.equation(features, self.features, out=features)


class JointProjection(_TwoRuns):
    """Inside of a block of joint attention that no override reaches: each prompt attends with the image by itself.

    Each has positions of its own, the image's too, which need be no rotations. Inside, the tokens are [positive | image
    | negative], so that those of each run are a view.

    Args:
        visit: the JointVisit whose blocks these are, of [image | text].
    """

    def __init__(self, at: Projection, visit):
        super().__init__(at, visit.equation)
        self.visit = visit
        self.tokens = None
        self.places = side_by_side_places(visit.entries)
        self.places_of_positive = (None, None)  # a block's, and in the order of the tokens

    def hooks(self, block: torch.nn.Module) -> Iterator[RemovableHandle]:
        yield from self.hooks_on(self.at.attention(block))

    def negatives(self, given: Arguments) -> dict:
        tokens = given[self.at.text]
        of = self.visit.sizes.segments(tokens.shape[1])
        self.tokens = torch.cat((tokens[:, of.positive], tokens[:, of.image], tokens[:, of.negative]), 1)
        return {self.at.text: self.of_negative(self.tokens), self.at.places: self.places}

    def positives(self, given: Arguments) -> dict:
        tokens, self.tokens = self.tokens, None
        places = given[self.at.places]
        if self.places_of_positive[0] is not places:
            n, axis = self.visit.sizes.positive, token_axis(places)
            image, text = places.split((places.shape[axis] - n, n), axis)
            self.places_of_positive = places, torch.cat((text, image), axis)
        return {self.at.text: self.of_positive(tokens), self.at.places: self.places_of_positive[1]}

    def whole(self, tokens):
        return self.tokens

    def of_negative(self, known):
        return known[:, self.visit.sizes.positive :]

    def of_positive(self, known):
        return known[:, : known.shape[1] - self.visit.n_negative]

    def guided(self, features):
        text, image = features[:, : self.visit.sizes.positive], features[:, self.visit.sizes.positive :]
        if self.visit.acts:
            self.equation(image, self.features[:, : image.shape[1]], out=image)
        return torch.cat((image, text, self.features[:, image.shape[1] :]), 1)


def side_by_side(texts: Sequence[torch.Tensor], n_rows: int) -> torch.Tensor:
    """Texts one behind the other in each row: (rows, tokens, width), or all rows in one, (1, rows * tokens, width)."""
    if len(texts) == 1:
        return texts[0]
    rows_in_one = n_rows // texts[0].shape[0]
    return torch.cat([text.unflatten(1, (rows_in_one, -1)) for text in texts], 2).flatten(1, 2)


def side_by_side_places(entries: Sequence[Brought]) -> torch.Tensor:
    """The positions of [image | text] for texts one behind the other: the image's are those of the longest."""
    longest = max(entries, key=lambda entry: entry.tokens.shape[1])
    return torch.cat([longest.image_place, *(entry.places for entry in entries)], token_axis(longest.places))
