"""A model's attention mask, for attention that meets a negative's text, too.

A model builds its mask for the prompt that it knows, the positive: without the negative's tokens, which nothing masks
then. Where it builds it for all tokens that it gets, the negative's part is the negative's. Between image tokens a mask
holds for both prompts.

It comes as ComfyUI's attention functions take it: boolean (True attends) or added to the scores, as
(batch or 1, heads or 1, queries or 1, keys), (batch or 1, queries or 1, keys) or (queries or 1, keys); and as
(batch, keys), which some of them take. With 1 in the place of the queries it is the same for all of them.
"""
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .backends import as_bias
from .sizes import Sizes

_MISFIT = "An attention mask of shape {} does not fit {}."


@dataclass(frozen=True)
class JointMasks:
    """The mask of each part of the keys, as `backends.as_bias` makes it, or None where all is visible.

    Args:
        to_image, to_negative: for the queries of all tokens.
        to_positive: for those of `segments.known`.
    """

    to_image: torch.Tensor | None = None
    to_positive: torch.Tensor | None = None
    to_negative: torch.Tensor | None = None


class Masks:
    """The masks of one model call, whose blocks all come with the same one: made when first asked for.

    Args:
        sizes: of the two prompts' texts, first of all.
    """

    def __init__(self, sizes: Sizes):
        self.sizes = sizes
        self._made_of = self._joint = self._of_each = self._of_image = None

    def joint(self, mask: torch.Tensor | None, q: torch.Tensor) -> JointMasks:
        """For attention that keeps both prompts in one sequence; `q` is (batch, heads, tokens, head_dim)."""
        if mask is None:
            return JointMasks()
        self._know(mask)
        if self._joint is None:
            self._joint = self._split(mask, q)
        return self._joint

    def of_each(self, mask: torch.Tensor | None, q: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """For the positive's branch by itself and for the negative's; `q` as for `joint`, with all tokens."""
        if mask is None:
            return None, None
        self._know(mask)
        if self._of_each is None:
            self._of_each = tuple(self._branches(mask, q))
        return self._of_each

    def of_image(self, mask: torch.Tensor | None, q: torch.Tensor) -> torch.Tensor | None:
        """Of all keys, for the image's queries; `q` as for `joint`, with all tokens."""
        if mask is None:
            return None
        self._know(mask)
        if self._of_image is None:
            joined, _ = self._joined(mask, q)
            self._of_image = _added(of_queries(joined, self.sizes.segments(q.shape[2]).image), q.dtype)
        return self._of_image

    def _know(self, mask):
        if self._made_of is not mask:
            self._made_of, self._joint, self._of_each, self._of_image = mask, None, None, None

    def _split(self, mask, q):
        joined, knows_negative = self._joined(mask, q)
        segments = self.sizes.segments(q.shape[2])
        of_known = of_queries(joined, segments.known)
        return JointMasks(
            as_bias(joined[..., segments.image], q.dtype),
            as_bias(of_known[..., segments.positive], q.dtype),
            as_bias(joined[..., segments.negative], q.dtype) if knows_negative else None,
        )

    def _branches(self, mask, q):
        joined, _ = self._joined(mask, q)
        segments = self.sizes.segments(q.shape[2])
        for other in (segments.negative, segments.positive):
            of_one = without(joined, other, -1)
            yield _added(without(of_one, other, -2) if of_one.shape[-2] > 1 else of_one, q.dtype)

    def _joined(self, mask, q):
        """(batch or 1, heads or 1, queries or 1, keys) over all tokens, and whether the model masks the negative's."""
        n_all = q.shape[2]
        n_known = n_all - self.sizes.negative
        mask = with_all_axes(mask, q.shape[0], n_known, n_all)
        n_queries, n_keys = mask.shape[-2:]
        if n_keys != n_all and n_keys != n_known or n_queries != n_all and n_queries != n_known and n_queries != 1:
            raise ValueError(_MISFIT.format(tuple(mask.shape), f"{n_known} tokens, or {n_all} with the negative's"))
        for axis, n in ((-2, n_queries), (-1, n_keys)):
            if n == n_known:
                mask = self._with_negative(mask, axis)
        return mask, n_keys == n_all

    def _with_negative(self, mask, axis):
        """With the negative's tokens put in, which nothing masks."""
        shape = list(mask.shape)
        shape[axis] = self.sizes.negative
        free = mask.new_full(shape, mask.dtype == torch.bool)
        return torch.cat((mask, free) if self.sizes.image_first else (free, mask), axis)


def of_texts(
    mask: torch.Tensor | None, q: torch.Tensor, n_queries: int, n_positive: int, n_negative: int
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """The masks of cross-attention to the positive's text and of that to the negative's.

    Args:
        mask: over the positive's keys, or over these followed by the negative's.
        q: its batch, the first axis, and its dtype matter.
        n_queries, n_positive, n_negative: how many tokens the image and each prompt have.
    """
    if mask is None:
        return None, None
    mask, n_keys = with_all_axes(mask, q.shape[0], n_queries), mask.shape[-1]
    if n_keys != n_positive and n_keys != n_positive + n_negative:
        raise ValueError(_MISFIT.format(tuple(mask.shape), f"prompts of {n_positive} and {n_negative} tokens"))
    positive, negative = mask.tensor_split((n_positive,), -1)
    return _added(positive, q.dtype), _added(negative, q.dtype) if n_keys != n_positive else None


def bias_of_negative(equation, sizes: Sizes, lengths: Sizes | None, q: torch.Tensor) -> torch.Tensor | None:
    """What the negative's keys get on their scores, (rows or 1, 1, queries or 1, keys), or None.

    Args:
        sizes: of the two prompts' texts, first of all.
        lengths: see models.places.Places.key_bias.
        q: (batch, heads, tokens, head_dim), of a joint sequence.
    """
    of_image = equation.key_bias(q.shape[2] - sizes.text, lengths, q)
    if of_image is None or not equation.places.has_masks:
        return of_image
    of_text = equation.places.key_bias_of_text(lengths, q)
    if of_text is None:
        of_text = of_image.new_zeros(1, 1, 1, of_image.shape[3])
    of_text = of_text.expand(len(of_image), -1, sizes.text, -1)
    return as_bias(torch.cat((of_image, of_text) if sizes.image_first else (of_text, of_image), 2), q.dtype)


def for_branch(bias: torch.Tensor | None, sizes: Sizes, n_tokens: int) -> torch.Tensor | None:
    """A bias of the negative's keys, for the queries and keys of negative and image alone; n_tokens: of all."""
    if bias is None:
        return None
    segments, n_image = sizes.segments(n_tokens), n_tokens - sizes.text
    bias = without(bias, segments.positive, 2) if bias.shape[2] > 1 else bias
    return torch.nn.functional.pad(bias, (n_image, 0) if sizes.image_first else (0, n_image))


def together(mask: torch.Tensor | None, bias: torch.Tensor | None) -> torch.Tensor | None:
    """A mask that is added to the scores, and a bias, or one of them."""
    if mask is None or bias is None:
        return bias if mask is None else mask
    return as_bias(mask + bias, bias.dtype)


def of_both(masks: Sequence[torch.Tensor | None], n_keys: Sequence[int]) -> torch.Tensor | None:
    """One mask of all keys, of masks that are added to the scores of each part of them; None where all is visible."""
    there = [mask for mask in masks if mask is not None]
    if not there:
        return None
    axes = torch.broadcast_shapes(*(mask.shape[:-1] for mask in there))
    free = lambda n: there[0].new_zeros(1).expand(*axes, n)
    return torch.cat([free(n) if mask is None else mask.expand(*axes, -1) for mask, n in zip(masks, n_keys)], -1)


def of_queries(mask: torch.Tensor | None, tokens: slice) -> torch.Tensor | None:
    """A mask of some of the queries, with all its axes."""
    return mask if mask is None or mask.shape[-2] == 1 else mask[..., tokens, :]


def _added(mask, dtype):
    """As all of ComfyUI's attention functions take it: a boolean mask that depends on the query not all do."""
    return as_bias(mask, dtype) if mask.dtype == torch.bool else mask


def with_all_axes(mask: torch.Tensor, batch: int, *n_queries: int) -> torch.Tensor:
    """(batch or 1, heads or 1, queries or 1, keys) of a mask; n_queries: how many of these there can be."""
    if mask.ndim == 2:
        by_rows = len(mask) == batch and all(len(mask) != n for n in n_queries)
        mask = mask.unsqueeze(1 if by_rows else 0)
    return mask.unsqueeze(1) if mask.ndim == 3 else mask


def without(t: torch.Tensor, tokens: slice, axis: int) -> torch.Tensor:
    """A tensor without some of its tokens; a view where they are the first or the last."""
    before, _, after = t.tensor_split((tokens.start, tokens.stop), axis)
    parts = [part for part in (before, after) if part.shape[axis] > 0]
    return torch.cat(parts, axis) if len(parts) > 1 else parts[0]
