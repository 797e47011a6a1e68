"""Joint attention with an image for each prompt, as the authors' code has it in Flux's single blocks."""
import torch

from .masks import Masks, bias_of_negative, for_branch, together
from .override import Override, named
from .sizes import Sizes


class SeparateAttention(Override):
    """Joint attention over [negative text | positive text | image | image], with an image stream for each prompt.

    Both image streams go on from the guided features, as in the authors' code for Flux's single blocks.

    Args:
        sizes: of the positive's text, of the negative's, and of the image, twice.
        lengths: see models.places.Places.key_bias.
    """

    def __init__(self, equation, transformer_options, sizes: Sizes, lengths: Sizes | None = None):
        super().__init__(equation, transformer_options)
        self.sizes, self.masks, self.lengths = sizes, Masks(sizes), lengths

    def __call__(self, func, q, k, v, heads, *args, **options):
        options, (n_positive, n_negative, n_image, _) = named(args, options), self.sizes.each
        second = n_positive + n_negative + n_image  # where the second image begins
        mask_pos, mask_neg = self.masks.of_each(options.pop("mask", None), q[:, :, :second])
        bias = bias_of_negative(self.equation, self.sizes, self.lengths, q[:, :, :second])
        mask_neg = together(mask_neg, for_branch(bias, self.sizes, second))
        attention = self.attention(func, options)
        of_positive = [t[:, :, n_negative:second] for t in (q, k, v)]
        of_negative = [torch.cat((t[:, :, :n_negative], t[:, :, second:]), 2) for t in (q, k, v)]
        pos = attention(*of_positive, heads, mask=mask_pos)
        neg = attention(*of_negative, heads, mask=mask_neg)
        z = self.equation(pos[:, n_positive:], neg[:, n_negative:])
        return torch.cat((neg[:, :n_negative], pos[:, :n_positive], z, z), 1)
