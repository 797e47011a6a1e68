"""Runs of a model side by side: what grows with the text, what with the picture, what another text makes other."""
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Runs:
    """The same place in four runs: with a long text, a short one, a smaller picture, another text as long."""

    long: object
    short: object
    small: object
    other: object

    @property
    def each(self):
        return self.long, self.short, self.small, self.other

    def map(self, function) -> "Runs":
        return Runs(*map(function, self.each))

    def parts(self) -> list["Runs"]:
        """Of tensors, or of tuples of tensors and other things."""
        if all(torch.is_tensor(each) for each in self.each):
            return [self]
        if not all(isinstance(each, (tuple, list)) for each in self.each):
            return []
        parts = (Runs(*parts) for parts in zip(*self.each))
        return [part for part in parts if all(torch.is_tensor(each) for each in part.each)]

    @property
    def by_text(self) -> list[int]:
        """The axes that grow with the text."""
        return grown(self.long, self.short)

    @property
    def by_image(self) -> list[int]:
        return grown(self.long, self.small)

    @property
    def by_value(self) -> bool:
        """Whether another text of the same length makes it other."""
        return not same(self.long, self.other)


def grown(a, b):
    return [i for i in range(a.ndim) if a.ndim == b.ndim and a.shape[i] != b.shape[i]]


def tensors(value):
    if torch.is_tensor(value):
        return [value]
    return [each for each in value if torch.is_tensor(each)] if isinstance(value, (tuple, list)) else []


def whole_numbers(value):
    """Those in an argument that is one, or has (start, stop, ...) of them."""
    if isinstance(value, int) and not isinstance(value, bool):
        return [value]
    if isinstance(value, (list, tuple)) and all(isinstance(each, (list, tuple)) for each in value):
        return [n for each in value for n in each[:2] if isinstance(n, int)]
    return []


def tolerance(dtype: torch.dtype) -> float:
    """By how much two tensors that should be the same may be off, relative to what they are."""
    return 1e-3 if dtype in (torch.float32, torch.float64) else 0.05


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether they are, but for rounding."""
    if a.shape != b.shape or not a.is_floating_point() or not a.numel():
        return torch.equal(a, b)
    return bool((a - b).abs().max() <= tolerance(a.dtype) * b.abs().max())


def agreeing(a, b) -> int:
    """How many of the first tokens of two sequences, (rows, tokens, width), agree."""
    n = min(a.shape[1], b.shape[1])
    a, b = a[:, :n], b[:, :n]
    agree = ((a - b).abs().amax((0, 2)) <= tolerance(a.dtype) * b.abs().amax((0, 2))).tolist()
    return (agree + [False]).index(False)
