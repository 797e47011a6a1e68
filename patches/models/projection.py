"""Where no override reaches the attention: the module runs for the negative, too, and the prompts meet behind it.

A forward pre-hook on the module calls its forward() for the negative's text first; in front of the output projection
what comes of that is kept. Then the module goes on for the positive, and what comes to the projection is guided. So a
block costs one more attention, and no layer is computed twice: what makes the queries is asked by the first run, the
projection by the second. The other run gives the layer one token. It can't be none: layers with quantised weights need
some, a hook can skip no layer, and out of a graph of torch.compile's nothing can be raised. A layer of ours in their
place would be another one in each model call, of which older versions of PyTorch make a graph each time.
"""
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.utils.hooks import RemovableHandle

from ..arithmetic.equation import Equation
from .arguments import in_front
from .compiled import marked, plain
from .rehearsal import Brought


@dataclass(frozen=True)
class Projection:
    """The facts about an attention module in which the prompts meet in front of the output projection.

    Args:
        path: of the projection inside of the module.
        queries: of the layer that makes the queries.
        text: what the module calls the text, where that is not what the block calls it.
        lengths: the argument of both with the number of tokens that each row's text has.
    """

    path: str
    queries: str
    text: str | None = None
    lengths: str | None = None

    def missing(self, module: torch.nn.Module) -> list[str]:
        """The layers that an attention module does not have."""
        there = dict(module.named_modules())
        return [f"{path} in {type(module).__name__}" for path in (self.path, self.queries) if path not in there]


class ProjectionVisit:
    """At cross-attention that no override reaches, in one model call.

    Args:
        door: see Door.
        n_rows: of the model call.
        use: see ModelCall.
        entries: what each entry of the negative brings.
    """

    def __init__(self, door, equation: Equation, n_rows: int, use, entries: Sequence[Brought]):
        self.door, self.equation, self.use = door, equation, use
        self.tokens = side_by_side([entry.tokens for entry in entries], n_rows)
        self.lengths = [sum(of_row) for of_row in zip(*(entry.lengths for entry in entries if entry.lengths))]
        self.queries = self.features = None  # of the module at work, from the negative's run

    def hooks(self, blocks: Sequence[torch.nn.Module]) -> Iterator[RemovableHandle]:
        for block in blocks:
            module = self.door.meets_in(block)
            queries, projection = (plain(module).get_submodule(p) for p in (self.at.queries, self.at.path))
            yield in_front(block, self.mark)
            yield in_front(module, self.run_for_negative)
            yield queries.register_forward_pre_hook(self.skip_known)
            yield queries.register_forward_hook(self.know)
            yield projection.register_forward_pre_hook(self.meet)

    @property
    def at(self) -> Projection:
        return self.door.projection

    def mark(self, given):
        return given.changed(**{self.door.text: marked(given[self.door.text], given.module, self.use)})

    def run_for_negative(self, given):
        self.queries = self.features = None
        name = self.at.text or self.door.text
        changed = {name: self.tokens.to(given[name])}
        if self.at.lengths:
            changed[self.at.lengths] = self.lengths
        args, kwargs = given.changed(**changed)
        plain(given.module).forward(*args, **kwargs)

    def skip_known(self, layer, args):
        return None if self.queries is None else (args[0][:, :1], *args[1:])

    def know(self, layer, args, out):
        if self.queries is None:
            self.queries = out
            return None
        return self.queries

    def meet(self, projection, args):
        features, *others = args
        if self.features is None:
            self.features = features
            return (features[:, :1], *others)
        return (self.equation(features, self.features, out=features), *others)


def side_by_side(texts: Sequence[torch.Tensor], n_rows: int) -> torch.Tensor:
    """Texts one behind the other in each row: (rows, tokens, width), or all rows in one, (1, rows * tokens, width)."""
    if len(texts) == 1:
        return texts[0]
    rows_in_one = n_rows // texts[0].shape[0]
    return torch.cat([text.unflatten(1, (rows_in_one, -1)) for text in texts], 2).flatten(1, 2)
