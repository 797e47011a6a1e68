"""Value Sign Flip (Guo and Du 2025, arXiv 2508.10931): one attention to all keys, the negative's values times -s.

So it is where attention does not tell its log-sum-exps; where it does, `arithmetic.merge` puts the same together.
"""
from collections.abc import Callable

import torch

from ..arithmetic.equation import Equation, is_of_tokens
from .backends import as_bias
from .masks import without


def flipped(
    equation: Equation,
    attend: Callable[..., torch.Tensor],
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    masks: tuple[torch.Tensor | None, torch.Tensor | None],
    negative: slice,
    axis: int = 2,
    where: tuple = (),
) -> torch.Tensor:
    """Attention of the image to both prompts at once, and to itself where its keys are there.

    Args:
        attend: attend(q, k, v, mask=mask), whose result is (batch, tokens, heads * head_dim).
        q: the image's queries.
        k, v: all keys and values.
        masks: of all keys and of those but the negative's, as attend takes them, with all four axes; or None.
        negative: which keys are the negative's.
        axis: that counts the tokens, of q, k and v.
        where: see Equation.numbers_for.
    """
    numbers = equation.numbers_for(q.shape[axis], *where)
    scale, lowered, z_pos = numbers[0], _lowered(masks[0], q, k.shape[axis], negative, equation.offset), None
    if is_of_tokens(scale) or equation.statistics is not None:
        z_pos = attend(q, *(without(t, negative, axis) for t in (k, v)), mask=masks[1])
    if is_of_tokens(scale):  # no values are right for all tokens, but those of the positive and the negative apart
        of_known, of_negative = (
            attend(q, k, _times(v, negative, axis, *factors), mask=lowered) for factors in ((1, 0), (0, 1))
        )
        z = torch.where(scale == 1, z_pos, of_known + (1 - scale) * of_negative).to(z_pos)
    else:
        z = attend(q, k, _times(v, negative, axis, 1, 1 - scale), mask=lowered)
    equation.note([(slice(None), z_pos, z)], numbers)
    return z


def _times(v, negative, axis, of_others, of_negative):
    """A copy of the values, times a factor for the negative's and one for the others'."""
    tokens = (slice(None),) * axis + (negative,)
    turned = v * of_others
    turned[tokens] = v[tokens] * of_negative
    return turned


def _lowered(mask, q, n_keys, negative, offset):
    """The mask with the offset taken off the scores of the negative's keys."""
    if offset is None:
        return mask
    bias = q.new_zeros(1, 1, 1, n_keys)
    bias[..., negative] -= offset
    return as_bias(bias if mask is None else bias + as_bias(mask, q.dtype), q.dtype)
