"""How strongly each entry of the negative acts at each token of the image: masks and weights, brought to the blocks."""
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn import functional

from ..arithmetic.equation import Equation, Numbers
from ..attention.backends import HIDDEN, as_bias
from ..attention.sizes import Sizes

MISFIT = (
    "The NAG negative has a mask or an area, but NAG can't tell which part of the picture the {found} tokens show that "
    "come to a block: {known}. Take the mask or the area out of the NAG negative, or the node that brings further "
    "pictures or cuts them."
)
POOLS = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
BEFORE, BEHIND = "before", "behind"


def weighted_mean(vectors: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """The mean of tensors of one shape, by their weights: none, or one for each."""
    stacked = torch.stack(vectors)
    if len(set(weights)) <= 1:
        return stacked.mean(0)
    return sum(weight / sum(weights) * each for weight, each in zip(weights, stacked))


def patch_of(n_numbers: int, n_axes: int) -> tuple[int, ...] | None:
    """How large a token of so many numbers of a channel is along each of a latent's axes, of which the last two are
    alike, and the first of three as small as can be; None if no token is."""
    if n_axes == 1:
        return (n_numbers,)
    for frames in range(1, n_numbers + 1) if n_axes == 3 else (1,):
        side = math.isqrt(n_numbers // frames)
        if frames * side**2 == n_numbers:
            return (frames, side, side)[-n_axes:]
    return None


def patch_of_sizes(size: int | Sequence[int], n_axes: int) -> tuple[int, ...]:
    """The same, of a model's own `patch_size`, for which a picture may be a video of one frame."""
    size = (size,) * min(n_axes, 2) if isinstance(size, int) else tuple(size)
    return ((1,) * n_axes + size)[-n_axes:]


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
        self.differ_elsewhere = len(set(plain)) > 1
        self.differ = self.differ_elsewhere or masks is not None and len(plain) > 1
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
        weights.plain, weights.differ = self.plain, self.differ_elsewhere
        return weights


class Places:
    """Weights in one model call.

    Args:
        weights: see Weights.
        strength: of the whole, a float32 tensor without axes.
        numbers: numbers(strength) gives the equation's, of a strength for each token.
        plain_numbers, plain_on_device: those where there is no mask, as numbers and as tensors.
    """

    def __init__(
        self,
        weights: Weights,
        strength: torch.Tensor,
        numbers: Callable[[torch.Tensor], Numbers],
        plain_numbers: Numbers,
        plain_on_device: Numbers,
    ):
        self.weights, self.strength, self.numbers = weights, strength, numbers
        self.plain_numbers, self.plain_on_device = plain_numbers, plain_on_device
        self._kept = {}

    @property
    def has_masks(self) -> bool:
        return self.weights.masks is not None

    def numbers_at(self, n: int, grid: tuple[int, ...] | None = None, rows: slice = slice(None)) -> Numbers:
        """The equation's for n tokens of the image, in their order: (rows or 1, n, 1) for each that differs.

        Args:
            grid: of these tokens, where a block tells it.
            rows: those of the guided rows that are wanted.
        """
        numbers = self._once((n, grid), lambda: self._numbers(n, grid))
        return tuple(_of_rows(each, rows) if each.ndim else each for each in numbers)

    def _numbers(self, n, grid):
        largest = self.weights.at(n, grid).amax(0).unsqueeze(-1)
        return self.numbers(self.strength * largest)

    def key_bias(
        self,
        n: int,
        lengths: Sizes | None,
        like: torch.Tensor,
        grid: tuple[int, ...] | None = None,
        rows: slice = slice(None),
    ) -> torch.Tensor | None:
        """What the negative's keys get on their scores, (rows or 1, 1, n or 1, keys): the logarithm of their entry's
        share of the largest weight there. None where all entries weigh the same.

        Args:
            lengths: how many keys each entry has, and then, where it has more behind these, how many.
            like: the queries, whose dtype it has.
            n, grid, rows: see numbers_at.
        """
        if not self.weights.differ:
            return None
        make = lambda: as_bias(self._key_bias(n, lengths.each, grid), like.dtype)
        return _of_rows(self._once((n, grid, lengths.each, like.dtype), make), rows)

    def key_bias_of_text(self, lengths: Sizes, like: torch.Tensor) -> torch.Tensor | None:
        """The same, (1, 1, 1, keys), for queries that are none of the image's."""
        if not self.weights.differ_elsewhere:
            return None
        make = lambda: as_bias(self._of_keys(self.weights.plain[:, None, None], lengths.each), like.dtype)
        return self._once((lengths.each, like.dtype), make)

    def _key_bias(self, n, lengths, grid):
        return self._of_keys(self.weights.at(n, grid), lengths)

    def _of_keys(self, weights, lengths):
        largest = weights.amax(0)
        shares = torch.where(largest > 0, weights / largest, 1.0).log().clamp_min(HIDDEN)
        parts = [shares[i % len(shares), ..., None].expand(-1, -1, keys) for i, keys in enumerate(lengths)]
        return torch.cat(parts, -1).unsqueeze(1)

    def elsewhere(self, equation: Equation) -> Equation:
        """An equation for what the masks are not of, such as sound beside a picture."""
        if not self.has_masks:
            return equation
        plain = self.plain_numbers, self.plain_on_device
        places = Places(self.weights.elsewhere(), self.strength, self.numbers, *plain)
        scale, tau, alpha = self.plain_numbers
        on_device = equation.on_device and (*self.plain_on_device, *equation.on_device[3:])
        return replace(equation, scale=scale, tau=tau, alpha=alpha, on_device=on_device, places=places)

    def _once(self, key, make):
        if torch.compiler.is_compiling():
            return make()
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]


def _of_rows(t, rows):
    return t[rows] if len(t) > 1 else t
