"""How strongly each entry of the negative acts at each token of the image: masks and weights, brought to the blocks."""
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from ..arithmetic.equation import Numbers
from ..attention.backends import HIDDEN

MOST = 2.0  # that a strength can be, see settings.RANGES
MISFIT = (
    "The NAG negative has a mask or an area, but NAG can't tell which part of the picture the {found} tokens show that "
    "come to a block: {known}. Take the mask or the area out of the NAG negative, or the node that brings further "
    "pictures or cuts them."
)
POOLS = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
BEFORE, BEHIND = "before", "behind"


@dataclass(frozen=True)
class Layout:
    """How the tokens of a model's image lie in the latent.

    Args:
        patch: how much of the latent a token is, along each axis; None where each block tells its grid of tokens.
        others: where tokens stand that are none of the latent's, such as a reference picture's: "before" its own or
            "behind" them; None where nobody knows, so that there must be none.
    """

    patch: tuple[int, ...] | None
    others: str | None = None

    def tokens(self, masks: torch.Tensor, n: int, grid: tuple[int, ...] | None, plain: torch.Tensor) -> torch.Tensor:
        """(entries, rows, n) of masks, (entries, rows, *sizes): the mean over what each token shows.

        Args:
            grid: the block's, where it tells it.
            plain: (entries,), for the tokens that are not the latent's.

        Raises:
            ValueError: n tokens can't be those of the latent.
        """
        if self.patch is None:
            if grid is None or math.prod(grid) != n:
                raise ValueError(MISFIT.format(found=n, known=f"its grid is {grid}"))
            return functional.interpolate(masks, size=grid, mode="area").flatten(2)
        pool = POOLS[len(self.patch)]
        pooled = pool(masks, self.patch, self.patch, 0, ceil_mode=True, count_include_pad=False).flatten(2)
        more = n - pooled.shape[2]
        if more == 0:
            return pooled
        if more < 0 or self.others is None:
            raise ValueError(MISFIT.format(found=n, known=f"the latent makes {pooled.shape[2]}"))
        further = plain[:, None, None].expand(-1, pooled.shape[1], more)
        return torch.cat((further, pooled) if self.others == BEFORE else (pooled, further), 2)


class Weights:
    """How much each entry of the negative counts at each token, for the same rows of the same latent in all steps.

    Args:
        plain: of each entry, where there is no mask, and for what is not the latent's.
        masks: (entries, rows, *sizes), how strong each is in the latent, the weight included; None: as plain as that.
        layout: of the model.
    """

    def __init__(self, plain: Sequence[float], device: torch.device, masks: torch.Tensor | None, layout: Layout | None):
        self.plain = torch.tensor(plain, dtype=torch.float32).to(device)
        self.masks, self.layout = masks, layout
        self.differ = masks is not None and len(plain) > 1 or len(set(plain)) > 1
        self._kept = {}

    def at(self, n: int, grid: tuple[int, ...] | None = None) -> torch.Tensor:
        """(entries, rows or 1, n or 1)."""
        if self.masks is None:
            return self.plain[:, None, None]
        if torch.compiler.is_compiling():
            return self.layout.tokens(self.masks, n, grid, self.plain)
        if (n, grid) not in self._kept:
            self._kept[n, grid] = self.layout.tokens(self.masks, n, grid, self.plain)
        return self._kept[n, grid]

    def elsewhere(self) -> "Weights":
        """The same without masks."""
        weights = Weights((), self.plain.device, None, None)
        weights.plain, weights.differ = self.plain, self.differ
        return weights


class Places:
    """Weights in one model call.

    Args:
        weights: see Weights.
        strength: of the whole, a float32 tensor without axes.
        numbers: numbers(strength) gives the equation's, of a strength for each token.
    """

    def __init__(self, weights: Weights, strength: torch.Tensor, numbers: Callable[[torch.Tensor], Numbers]):
        self.weights, self.strength, self.numbers = weights, strength, numbers
        self._kept = {}

    def numbers_at(self, n: int, grid: tuple[int, ...] | None = None, rows: slice = slice(None)) -> Numbers:
        """The equation's for n tokens of the image, in their order: (rows or 1, n or 1, 1) each, where they differ.

        Args:
            grid: of these tokens, where a block tells it.
            rows: those of the guided rows that are wanted.
        """
        if torch.compiler.is_compiling():
            numbers = self._numbers(n, grid)
        else:
            if (n, grid) not in self._kept:
                self._kept[n, grid] = self._numbers(n, grid)
            numbers = self._kept[n, grid]
        return tuple(each[rows] if each.ndim and len(each) > 1 else each for each in numbers)

    def _numbers(self, n, grid):
        largest = self.weights.at(n, grid).amax(0).unsqueeze(-1)
        return self.numbers((self.strength * largest).clamp(0, MOST))

    def key_bias(
        self, n: int, lengths: Sequence[tuple[int, int]], grid: tuple[int, ...] | None = None, rows: slice = slice(None)
    ) -> torch.Tensor | None:
        """What the negative's keys get on their scores, (rows or 1, 1, n or 1, keys): the logarithm of their entry's
        share of the largest weight there. None where all entries weigh the same.

        Args:
            lengths: (which entry, how many keys), in the order of the keys.
            n, grid, rows: see numbers_at.
        """
        if not self.weights.differ:
            return None
        weights = self.weights.at(n, grid)
        largest = weights.amax(0)
        shares = torch.where(largest > 0, weights / largest, 1.0).log().clamp_min(HIDDEN)
        if shares.shape[1] > 1:
            shares = shares[:, rows]
        return torch.cat([shares[entry].unsqueeze(-1).expand(-1, -1, keys) for entry, keys in lengths], -1).unsqueeze(1)

    def elsewhere(self) -> "Places":
        """For what the masks are not of, such as sound beside a picture."""
        return Places(self.weights.elsewhere(), self.strength, self.numbers)
