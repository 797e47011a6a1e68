"""The attention functions that NAG puts in place of ComfyUI's, through `optimized_attention_override`.

Each is called as ComfyUI calls an override: with the attention function that the user chose and that function's own
arguments. Each calls that function, or the override that was there before, so that the choice stays in force.
"""
from collections.abc import Callable, Sequence

import torch
from torch.nn.functional import pad

from ..arithmetic.equation import Equation
from ..arithmetic.merge import guide_joint, image_of_each, merge
from .backends import with_log_sum_exp
from .masks import Masks, bias_of_negative, for_branch, of_both, of_queries, of_texts, together, without
from .sign_flip import flipped
from .sizes import Sizes

OVERRIDE = "optimized_attention_override"
ARGUMENTS = ("mask", "attn_precision", "skip_reshape", "skip_output_reshape")  # of attention, behind `heads`
# Those that do not change the scores.
HARMLESS = {"transformer_options", "_inside_attn_wrapper", "low_precision_attention", "attn_precision", "enable_gqa"}


class Override:
    """An attention override that chains to the one it takes the place of.

    Args:
        equation: with the numbers that are in force.
        transformer_options: those of the model call, which may hold an earlier override.
    """

    def __init__(self, equation: Equation, transformer_options: dict):
        self.equation = equation
        self.earlier = transformer_options.get(OVERRIDE)

    def install(self, transformer_options: dict) -> dict:
        """A copy of transformer_options with this override in it."""
        return {**transformer_options, OVERRIDE: self}

    def attention(self, func: Callable, options: dict) -> Callable:
        """The attention that would be called without NAG, with the keyword arguments `options`."""
        if self.earlier is None:
            return lambda *args, **more: func(*args, **options, **more)
        if options.get("transformer_options") is not None:
            options = {**options, "transformer_options": {**options["transformer_options"], OVERRIDE: self.earlier}}
        return lambda *args, **more: self.earlier(func, *args, **options, **more)


def named(args: Sequence, options: dict) -> dict:
    """The arguments of an attention function behind `heads`, all of them by name."""
    return dict(zip(ARGUMENTS, args)) | options


def by_heads(t: torch.Tensor, heads: int) -> torch.Tensor:
    """(batch, heads, tokens, head_dim) of (batch, tokens, heads * head_dim)."""
    return t.unflatten(-1, (heads, -1)).transpose(1, 2)


class CrossAttention(Override):
    """Cross-attention to the positive's text, followed by the negative's in the same sequence of keys.

    Args:
        sizes: of the two prompts. Attention to another number of keys is left alone.
        n_image: how many keys the same module's attention to an image embedding has, which comes before that to the
            text; None where there is no such attention.
        negative_mask: of the negative's keys, where the module's mask is of the positive's alone.
        lengths: see models.places.Places.key_bias.
    """

    def __init__(
        self,
        equation,
        transformer_options,
        sizes: Sizes,
        n_image: int | None = None,
        negative_mask: torch.Tensor | None = None,
        lengths: Sizes | None = None,
    ):
        super().__init__(equation, transformer_options)
        self.sizes, self.negative_mask, self.lengths = sizes, negative_mask, lengths
        self.image_comes_first = n_image == sizes.text  # then the number of keys does not tell them apart

    def __call__(self, func, q, k, v, heads, *args, **options):
        options, sizes = named(args, options), self.sizes.each
        tokens = 2 if options.get("skip_reshape") else 1
        if k.shape[tokens] != sum(sizes) or self.image_comes_first:
            self.image_comes_first = False
            return self.attention(func, options)(q, k, v, heads)
        mask, by_head = options.pop("mask", None), options.pop("skip_output_reshape", False)
        masks = of_texts(mask, q, q.shape[tokens], *sizes)
        if self.negative_mask is not None:
            masks = masks[0], of_texts(self.negative_mask, q, q.shape[tokens], sizes[1], 0)[0]
        masks = masks[0], together(masks[1], self.equation.key_bias(q.shape[tokens], self.lengths, q))
        attention = self.attention(func, options)
        if self.equation.flips:
            negative, attend = slice(sizes[0], sum(sizes)), lambda q, k, v, mask: attention(q, k, v, heads, mask=mask)
            z = flipped(self.equation, attend, q, k, v, (of_both(masks, sizes), masks[0]), negative, tokens)
            return by_heads(z, heads) if by_head else z
        positive, negative = (
            attention(q, k, v, heads, mask=mask)
            for k, v, mask in zip(k.split_with_sizes(sizes, tokens), v.split_with_sizes(sizes, tokens), masks)
        )
        # ComfyUI's own attention returns a tensor of its own; what another node returns may be in use elsewhere.
        z = self.equation(positive, negative, out=positive if self.earlier is None else None)
        return by_heads(z, heads) if by_head else z


class JointAttention(Override):
    """Joint attention over two prompts and an image in one sequence, as Segments has it.

    One image serves both. Each prompt attends to itself and the image; the image attends to itself and the positive,
    and, apart, to itself and the negative, and NAG guides the first away from the second. Where the attention in use
    can return the log-sum-exp of its scores, everything meets the image's keys once and the prompts' are merged in;
    elsewhere the two branches are computed apart.

    Args:
        sizes: of the two prompts' texts; and of the image where the model also has attention over other sequences,
            which is left alone (SD3.5-medium's second one, over the image).
        masks: of these sizes, for all blocks of a model call; None makes some for this one.
        lengths: see models.places.Places.key_bias.
    """

    def __init__(
        self, equation, transformer_options, sizes: Sizes, masks: Masks | None = None, lengths: Sizes | None = None
    ):
        super().__init__(equation, transformer_options)
        self.sizes, self.masks, self.lengths = sizes, masks or Masks(sizes), lengths

    def __call__(self, func, q, k, v, heads, *args, **options):
        options, sizes = named(args, options), self.sizes.each
        if len(sizes) == 3 and q.shape[2 if options.get("skip_reshape") else 1] != sum(sizes):
            return self.attention(func, options)(q, k, v, heads)
        mask, by_head = options.pop("mask", None), options.pop("skip_output_reshape", False)
        if not options.pop("skip_reshape", False):
            # SD3's values come as (batch, tokens, heads, head_dim), its queries and keys with these two flattened.
            head_dim = q.shape[-1] // heads
            q, k, v = (t.reshape(*t.shape[:2], -1, head_dim).transpose(1, 2) for t in (q, k, v))
        stock = self.earlier is None and set(options) <= HARMLESS
        bias = bias_of_negative(self.equation, self.sizes, self.lengths, q)
        masked = mask is not None or bias is not None
        attend = with_log_sum_exp(func, q, masked, q.shape[1] // k.shape[1]) if stock else None
        attention = self.attention(func, options)
        plain = lambda *qkv, mask: attention(*qkv, heads, mask=mask, skip_reshape=True)
        out = self._attended(attend, plain, q, k, v, mask, bias)
        return by_heads(out, heads) if by_head else out

    def _attended(self, attend, plain, q, k, v, mask, bias):
        """attend: see with_log_sum_exp; plain: the same attention without the log-sum-exp; bias: of the negative."""
        if attend is not None:
            return self._merged(attend, q, k, v, mask, bias)
        return (self._at_once if self.equation.flips else self._apart)(plain, q, k, v, mask, bias)

    def _merged(self, attend, q, k, v, mask, bias):
        segments, masks = self.sizes.segments(q.shape[2]), self.masks.joint(mask, q)
        keys = self.sizes.segments(k.shape[2])  # another node may have put further ones behind the image's
        # All slices are views: the image is never concatenated with a prompt. The positive's queries meet the
        # negative's keys for nothing, which costs less than a further call for the negative's few queries.
        meet = lambda q, segment, mask: attend(q, k[:, :, segment], v[:, :, segment], mask)
        parts = (
            meet(q, keys.image, masks.to_image),
            meet(q[:, :, segments.known], keys.positive, masks.to_positive),
            meet(q, keys.negative, together(masks.to_negative, bias)),
        )
        equation, numbers = self.equation, self.equation.numbers_for(q.shape[2] - self.sizes.text)
        flip = (numbers[0], equation.offset) if equation.flips else None
        equation.note(image_of_each(*parts, segments, flip), numbers)
        return guide_joint(*parts, segments, *numbers, equation.name, equation.offset)

    def _at_once(self, attend, q, k, v, mask, bias):
        """Each prompt's tokens as in `_apart`, the image's in one attention to everything."""
        segments, keys = self.sizes.segments(q.shape[2]), self.sizes.segments(k.shape[2])
        of_positive, of_negative = self._of_branches(mask, bias, q, k)
        parts = (
            (segments.negative, keys.positive, of_queries(of_negative, self._text_of_branch(self.sizes.negative))),
            (segments.positive, keys.negative, of_queries(of_positive, self._text_of_branch(self.sizes.positive))),
        )
        texts = [
            attend(q[:, :, text], *(without(t, other, 2) for t in (k, v)), mask=of_text)
            for text, other, of_text in parts
        ]
        others = (k.shape[2] - self.sizes.negative, 0)
        bias = None if bias is None else pad(bias, others if self.sizes.image_first else others[::-1])
        of_all = together(self.masks.of_image(mask, q), of_queries(bias, segments.image))
        of_image = of_all, of_queries(of_positive, segments.image_of_known)
        image = flipped(self.equation, attend, q[:, :, segments.image], k, v, of_image, keys.negative)
        return segments.joined([*texts, image])

    def _of_branches(self, mask, bias, q, k):
        """The masks of each prompt's branch."""
        of_positive, of_negative = self.masks.of_each(mask, q)
        return of_positive, together(of_negative, for_branch(bias, self.sizes, k.shape[2]))

    def _text_of_branch(self, n_text):
        """Where a branch has its prompt."""
        return slice(-n_text, None) if self.sizes.image_first else slice(0, n_text)

    def _apart(self, attend, q, k, v, mask, bias):
        segments = self.sizes.segments(q.shape[2])
        of_pos, of_neg = self._of_branches(mask, bias, q, k)
        pos, neg = (
            attend(*(without(t, other, 2) for t in (q, k, v)), mask=of_branch)
            for other, of_branch in ((segments.negative, of_pos), (segments.positive, of_neg))
        )
        out = pos.new_empty(pos.shape[0], q.shape[2], pos.shape[2])
        z_pos, out[:, segments.positive] = self._parted(pos, self.sizes.positive)
        z_neg, out[:, segments.negative] = self._parted(neg, self.sizes.negative)
        self.equation(z_pos, z_neg, out=out[:, segments.image])
        return out

    def _parted(self, z, n_text):
        """The image's part and a prompt's, of a branch over both."""
        if self.sizes.image_first:
            return z.tensor_split((z.shape[1] - n_text,), 1)
        return z.tensor_split((n_text,), 1)[::-1]


class CarryingAttention(JointAttention):
    """Joint attention where NAG does not act, in front of where it does: the negative goes through.

    The positive's text and the image attend as without NAG, the negative's text to itself and the image.
    """

    def _attended(self, attend, plain, q, k, v, mask, bias):
        segments, keys = self.sizes.segments(q.shape[2]), self.sizes.segments(k.shape[2])
        bias = of_queries(bias, segments.negative)
        known = (t[:, :, of.known] for t, of in ((q, segments), (k, keys), (v, keys)))
        of_known, of_negative = self.masks.of_each(mask, q)
        z = plain(*known, mask=of_known)
        if attend is None:
            negative = self._of_negative_at_once(plain, q, k, v, of_negative, bias)
        else:
            negative = self._of_negative_in_parts(attend, q, k, v, self.masks.joint(mask, q), bias)
        return torch.cat((z, negative) if self.sizes.image_first else (negative, z), 1)

    def _of_negative_at_once(self, plain, q, k, v, mask, bias):
        segments, keys = self.sizes.segments(q.shape[2]), self.sizes.segments(k.shape[2])
        mask = of_queries(mask, self._text_of_branch(self.sizes.negative))
        if bias is not None:
            n_image = k.shape[2] - self.sizes.text
            mask = together(mask, pad(bias, (n_image, 0) if self.sizes.image_first else (0, n_image)))
        return plain(q[:, :, segments.negative], *(without(t, keys.positive, 2) for t in (k, v)), mask=mask)

    def _of_negative_in_parts(self, attend, q, k, v, masks, bias):
        """Without copies of the image's keys and values."""
        segments, keys = self.sizes.segments(q.shape[2]), self.sizes.segments(k.shape[2])
        to_image, to_negative = (of_queries(each, segments.negative) for each in (masks.to_image, masks.to_negative))
        parts = (
            attend(q[:, :, segments.negative], k[:, :, part], v[:, :, part], mask)
            for part, mask in ((keys.image, to_image), (keys.negative, together(to_negative, bias)))
        )
        return merge(*parts).to(q.dtype).transpose(1, 2).flatten(2)
