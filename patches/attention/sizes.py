"""Numbers of tokens, in a form in which torch.compile lets them change."""
import sys

import torch

from ..arithmetic.segments import Segments


class Sizes:
    """How many tokens each part of a sequence has.

    Of an int torch.compile makes a constant, and a graph of each; where its guards are filtered, as by ComfyUI's
    TorchCompileModel, it would even take the graph of another. So each is kept as the size of a tensor that holds
    nothing, marked as one that changes.

    Args:
        sizes: of the positive's text, of the negative's, and of further parts.
        image_first: see Segments.
    """

    def __init__(self, *sizes: int, image_first: bool = False):
        self.parts, self.image_first = tuple(_of_size(n) for n in sizes), image_first

    @property
    def each(self) -> tuple[int, ...]:
        return tuple(part.shape[0] for part in self.parts)

    @property
    def positive(self) -> int:
        return self.parts[0].shape[0]

    @property
    def negative(self) -> int:
        return self.parts[1].shape[0]

    @property
    def text(self) -> int:
        return self.positive + self.negative

    def segments(self, n_tokens: int) -> Segments:
        """Of a joint sequence of so many tokens."""
        return Segments(n_tokens, self.positive, self.negative, self.image_first)


def may_change(t: torch.Tensor, dim: int) -> torch.Tensor:
    """Tell torch.compile that this size of a tensor will not stay."""
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None and not torch.compiler.is_compiling():
        dynamo.maybe_mark_dynamic(t, dim)
    return t


def _of_size(n):
    return may_change(torch.empty(n, 0), 0)
