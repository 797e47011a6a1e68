"""Where each part of a joint sequence lies."""
from collections.abc import Sequence

import torch


class Segments:
    """[negative text | positive text | image] or [image | positive text | negative text].

    The negative is at the free end, so that the sequence without it is a view of the whole.

    Args:
        n_tokens: of the whole.
        n_positive, n_negative: of each prompt.
        image_first: which of the two it is.

    Attributes:
        negative, positive, image: slices of the sequence.
        known: the positive and the image, all that the model knows of.
        n_known, n_before: how many tokens that is, and how many lie before it.
    """

    def __init__(self, n_tokens: int, n_positive: int, n_negative: int, image_first: bool = False):
        self.image_first = image_first
        self.n_known = n_known = n_tokens - n_negative
        # torch.compile takes the numbers of a slice for constants when it is asked for them: so these are apart.
        if image_first:
            self.n_before, self.negative, self.known = 0, slice(n_known, n_tokens), slice(0, n_known)
            self.image, self.positive = slice(0, n_known - n_positive), slice(n_known - n_positive, n_known)
            self.image_of_known, self.positive_of_known = self.image, self.positive
        else:
            n_text = n_negative + n_positive
            self.n_before, self.negative, self.known = n_negative, slice(0, n_negative), slice(n_negative, n_tokens)
            self.image, self.positive = slice(n_text, n_tokens), slice(n_negative, n_text)
            self.image_of_known, self.positive_of_known = slice(n_positive, n_known), slice(0, n_positive)

    def of_known(self, tokens: slice) -> slice:
        """Where some tokens of `known` lie in it."""
        return slice(tokens.start - self.n_before, tokens.stop - self.n_before)

    def joined(self, parts: Sequence[torch.Tensor], axis: int = 1) -> torch.Tensor:
        """One sequence of the negative's part, the positive's and the image's."""
        return torch.cat(parts[::-1] if self.image_first else parts, axis)
