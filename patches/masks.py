"""A model's attention mask, for a sequence with a negative's text in it.

A model builds its mask for the prompt that it knows: (..., tokens, tokens) over [positive text | image], boolean (True:
attend) or added to the scores. Between image tokens it holds for both prompts; nothing masks the negative.
"""
from dataclasses import dataclass

import torch

from .backends import as_bias


@dataclass(frozen=True)
class JointMasks:
    """The mask of each part of the keys, for the queries of [positive text | negative text | image].

    Each is as `backends.as_bias` makes it, or None.
    """

    to_image: torch.Tensor | None = None
    to_positive: torch.Tensor | None = None


class Masks:
    """The masks of one model call, whose blocks all come with the same one: made when first asked for.

    Args:
        n_positive, n_negative: how many text tokens each prompt has.
    """

    def __init__(self, n_positive: int, n_negative: int):
        self.n_positive, self.n_negative = n_positive, n_negative
        self._made_of = self._joint = self._of_negative = None

    def joint(self, mask: torch.Tensor | None, q: torch.Tensor) -> JointMasks:
        """For attention that keeps both prompts in one sequence; `q` is (batch, heads, tokens, head_dim)."""
        if mask is None:
            return JointMasks()
        self._know(mask)
        if self._joint is None:
            self._joint = self._split(mask, q)
        return self._joint

    def of_negative(self, mask: torch.Tensor | None) -> torch.Tensor | None:
        """For the negative's branch by itself, (..., tokens, tokens) over [negative text | image]."""
        if mask is None:
            return None
        self._know(mask)
        if self._of_negative is None:
            between_image = mask[..., self.n_positive :, self.n_positive :]
            free = True if mask.dtype == torch.bool else 0.0
            self._of_negative = torch.nn.functional.pad(between_image, (self.n_negative, 0) * 2, value=free)
        return self._of_negative

    def _know(self, mask):
        if self._made_of is not mask:
            self._made_of, self._joint, self._of_negative = mask, None, None

    def _split(self, mask, q):
        if mask.ndim == 3:  # ComfyUI's (batch, queries, keys)
            mask = mask.unsqueeze(1)
        free = mask.new_full((*mask.shape[:-2], self.n_negative, mask.shape[-1]), mask.dtype == torch.bool)
        of_positive, of_image = mask.tensor_split((self.n_positive,), -2)
        to_positive, to_image = torch.cat((of_positive, free, of_image), -2).tensor_split((self.n_positive,), -1)
        return JointMasks(as_bias(to_image, q.dtype), as_bias(to_positive, q.dtype))
