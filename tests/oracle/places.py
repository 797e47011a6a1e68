"""How strong NAG is at each token, written down: the mean of each entry's mask over what the token shows."""
import dataclasses
import itertools
import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Places:
    """
    Args:
        masks: of each entry of the negative, (rows or 1, *sizes of the latent), its weight included.
        patch: how much of the latent a token shows; None for a UNet, whose levels halve the picture.
        plain: of each entry, for tokens that are not the latent's.
        before: whether these come before its own.
        lengths: of each entry, in tokens.
    """

    masks: tuple
    patch: tuple | None
    plain: tuple = (1.0,)
    before: bool = False
    lengths: tuple = ()

    def of(self, prompt):
        """For those entries alone that hold at a step."""
        masks, plain = ([each[i] for i in prompt.which] for each in (self.masks, self.plain))
        return dataclasses.replace(self, masks=tuple(masks), plain=tuple(plain), lengths=prompt.lengths)

    def within(self, window):
        """For a part of the latent."""
        return dataclasses.replace(self, masks=tuple(mask[(slice(None), *window)] for mask in self.masks))

    def weights(self, n):
        """(entries, rows, n)."""
        return torch.stack([self.of_one(mask.double(), weight, n) for mask, weight in zip(self.masks, self.plain)])

    def of_one(self, mask, weight, n):
        sizes = mask.shape[1:]
        cells = [*itertools.product(*(self.cells(size, axis, n, sizes) for axis, size in enumerate(sizes)))]
        shown = torch.stack([mask[(slice(None), *cell)].flatten(1).mean(1) for cell in cells], 1)
        others = torch.full((len(mask), n - len(cells)), weight, dtype=torch.float64)
        return torch.cat((others, shown) if self.before else (shown, others), 1)

    def cells(self, size, axis, n, sizes):
        """What the tokens along an axis show of it."""
        if self.patch is not None:
            step = self.patch[axis]
            return [slice(at, at + step) for at in range(0, size, step)]
        halved = list(sizes)
        while math.prod(halved) != n:
            halved = [math.ceil(each / 2) for each in halved]
        return [
            slice(size * i // halved[axis], -(-size * (i + 1) // halved[axis])) for i in range(halved[axis])
        ]

    def at(self, nag, n):
        """The numbers for n tokens: as the dial turns them."""
        strength = self.weights(n).amax(0)[..., None].clamp(max=2)
        if nag.equation in ("vsf", "nasa"):
            return dataclasses.replace(nag, scale=1 + (nag.scale - 1) * strength, places=None)
        of_alpha = torch.where(strength <= 1, strength, (2 * strength - 1).clamp(max=2))
        scale = 1 + (nag.scale - 1) * (2 * strength - 2).clamp(min=1)
        alpha = (nag.alpha * of_alpha).clamp(max=1)
        return dataclasses.replace(nag, scale=scale, alpha=alpha, places=None)

    def bias(self, n):
        """(rows, 1, n, keys), on the scores of the negative's keys."""
        return self.of_keys(self.weights(n))

    def of_keys(self, weights):
        shares = (weights / weights.amax(0)).log()
        each = [share[..., None].expand(-1, -1, length) for share, length in zip(shares, self.lengths)]
        return torch.cat(each, 2)[:, None].nan_to_num(0.0, neginf=-1e30)

    def joint_bias(self, n_image):
        """The same for [text | image], of which the text goes by the plain weights."""
        n_text = sum(self.lengths)
        plain = torch.tensor(self.plain, dtype=torch.float64)[:, None, None].expand(-1, len(self.masks[0]), n_text)
        on_text = torch.cat((self.of_keys(plain), self.bias(n_image)), 2)
        return torch.nn.functional.pad(on_text, (0, n_image))
