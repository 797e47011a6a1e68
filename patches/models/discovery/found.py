"""What is found of a model."""
import math
from dataclasses import dataclass

import torch

from ...settings import Strength
from ..compiled import plain
from ..foreign import named
from ..transformer import Transformer, padded

GENERIC = Strength(5.0, 2.5, 0.25, whose="generic: found, not declared")
TEXT_ENCODER = "the model's own"


def name_of(model: torch.nn.Module) -> str:
    """What a diffusion model's family is called."""
    return f"found, not declared: {named(type(plain(model)))}"


@dataclass(frozen=True, eq=False)
class FoundTransformer(Transformer):
    """A Transformer that nobody has declared.

    Args:
        notices: what is to be said of it, in sentences.
        pooled_size: the width of the pooled output that comes with its prompts; None: it makes nothing of it.
    """

    notices: tuple[str, ...] = ()
    pooled_size: int | None = None

    def pooled_width(self, model):
        return self.pooled_size


@dataclass(frozen=True)
class Made:
    """How many tokens the model makes of a text of n: about, for the estimate of memory."""

    multiple: int = 1
    least: int = 0
    more: int = 0

    @classmethod
    def seen(cls, made: dict[int, int], least: int) -> "Made":
        """made: of some lengths; least: up to how many it makes the same number of all."""
        more = {tokens - n for n, tokens in made.items()}
        multiple = math.gcd(*made.values())
        return cls(1, least, *more) if len(more) == 1 else cls(multiple if multiple >= 8 else 1, least)

    def __call__(self, model, n):
        return padded(self.multiple, max(n, self.least)) + self.more
