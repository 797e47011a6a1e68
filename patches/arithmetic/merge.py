"""The exact merge of attention over two sets of keys, by the log-sum-exp of the scores over each.

Attention over the union of the sets is the mean of the attention over each, weighted by the exponential of their
log-sum-exps (Dao et al., flash decoding). It lets the image's keys be met once for several prompts.
"""
from collections.abc import Iterator

import torch

from .equation import (
    Number,
    guide_at_once,
    held,
    is_of_tokens,
    is_off,
    is_traced,
    kernels_for,
    of_tokens,
    tokens_at_once,
)
from .segments import Segments

Part = tuple[torch.Tensor, torch.Tensor]


def merge(a: Part, b: Part, out: torch.Tensor | None = None) -> torch.Tensor:
    """Attention over the keys of both, from the outputs and log-sum-exps of attention over each.

    Args:
        a, b: (output (batch, heads, tokens, head_dim), log-sum-exp (batch, heads, tokens)), from the same queries and
            with any strides. Where a log-sum-exp is -inf no key was visible, and the output there may be anything:
            the other counts alone, and where both are, the result is zero.
        out: where the result goes, of the outputs' shape, any floating dtype and any strides.

    Returns:
        `out`, or a new tensor of the outputs' shape, in float32 at least.
    """
    return _merge(_visible(a), _visible(b), out)


def guide_joint(
    to_image: Part,
    to_positive: Part,
    to_negative: Part,
    segments: Segments,
    scale: Number,
    tau: Number,
    alpha: Number,
    equation: str = "nag",
    offset: Number | None = None,
) -> torch.Tensor:
    """Joint attention over two prompts and an image in one sequence, from attention to each of the three apart.

    A prompt's tokens get attention to that prompt and the image. The image's get the same for both prompts, the first
    guided away from the second by `equation.guide` (arXiv 2505.21179, section 3), with all heads' features together.
    By vsf (arXiv 2508.10931) they get attention to all three, from z and l, output and log-sum-exp, of each head:

        (e^li zi + e^lp zp - s e^(ln - offset) zn) / (e^li + e^lp + e^(ln - offset))

    Args:
        to_image, to_positive, to_negative: (output (batch, heads, tokens, head_dim), log-sum-exp (batch, heads,
            tokens) in float32), as `merge` takes them: from the queries of all tokens, for the positive from those
            of `segments.known`.
        segments: of the sequence.
        scale, tau, alpha, equation: as for `equation.guide`, or "vsf", which takes the scale alone; a number a token is
            of the image's tokens.
        offset: of vsf, 0 or more; None is 0.

    Returns:
        (batch, tokens, heads * head_dim), contiguous and new, in the outputs' dtype.

    Raises:
        ValueError: the parts' shapes do not fit together.
    """
    parts, numbers = (to_image, to_positive, to_negative), (scale, tau, alpha)
    flip = (scale, offset) if equation == "vsf" else None
    _check(parts, segments)
    if is_traced(*(z for z, _ in parts)):
        return _plain(*parts, segments, numbers, equation, flip)
    z = to_image[0]
    batch, heads, tokens, dim = z.shape
    out = z.new_empty(batch, tokens, heads * dim)
    kernels = kernels_for(z)
    if kernels is None or not kernels.guide_joint(*parts, segments, *numbers, out, equation, offset):
        _in_chunks(*parts, segments, numbers, out, equation, flip)
    return out


def image_of_each(
    to_image: Part,
    to_positive: Part,
    to_negative: Part,
    segments: Segments,
    flip: tuple[Number, Number | None] | None = None,
) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
    """What `guide_joint`, given the same, guides: the image tokens' attention with each prompt.

    Args:
        flip: of vsf, its scale and offset.

    Yields:
        Which of the image's tokens; and (batch, tokens, heads * head_dim) of them, in float32 at least, for the
        positive and for the negative, or what becomes of them by vsf.
    """
    if is_traced(*(z for z, _ in (to_image, to_positive, to_negative))):
        yield slice(None), *_all_of_each(to_image, to_positive, to_negative, segments, flip)
        return
    for chunk in _chunks(segments.image, tokens_at_once(to_image[0])):
        z_pos, z_neg = _of_each(to_image, to_positive, to_negative, segments, chunk, flip)
        yield _of_image(chunk, segments), z_pos, z_neg


def _all_of_each(to_image, to_positive, to_negative, segments, flip):
    image, positive = _of(to_image, segments.image), _of(to_positive, segments.image_of_known)
    z_pos = merge(image, positive)
    if flip is None:
        z_neg = merge(image, _of(to_negative, segments.image))
    else:
        z_neg = _all_flipped(z_pos, to_image, to_positive, to_negative, segments, flip)
    return torch.stack((z_pos, z_neg)).transpose(2, 3).flatten(3)


def _all_flipped(z_pos, to_image, to_positive, to_negative, segments, flip):
    """z_pos: the image's attention to what it knows but the negative."""
    image, negative = (_visible(_of(part, segments.image)) for part in (to_image, to_negative))
    positive = _visible(_of(to_positive, segments.image_of_known))
    return _flipped((z_pos, _log_sum_exp(image, positive)), negative, *flip)


def _check(parts, segments):
    """A kernel would read whatever lies behind a tensor that is too small."""
    batch, heads, tokens, dim = parts[0][0].shape
    for (z, lse), n in zip(parts, (tokens, segments.n_known, tokens)):
        if z.shape != (batch, heads, n, dim) or lse.shape != (batch, heads, n):
            shapes = [(tuple(z.shape), tuple(lse.shape)) for z, lse in parts]
            of = f"{tokens} tokens, {segments.n_known} without the negative's"
            raise ValueError(f"{of}, do not fit attention of {shapes}")


def _plain(to_image, to_positive, to_negative, segments, numbers, equation, flip):
    dtype, by_token = to_image[0].dtype, lambda z: z.transpose(1, 2).flatten(2)
    z_pos, z_neg = merge(_of(to_image, segments.known), to_positive), merge(to_image, to_negative)
    z = z_pos[:, :, segments.image_of_known]
    if flip is not None and not is_off(*numbers, equation):
        z = held(_all_flipped(z, to_image, to_positive, to_negative, segments, flip).to(dtype))
    z_pos, z_neg, z = map(by_token, (z_pos, z_neg, z))
    if flip is None and not is_off(*numbers, equation):
        z = guide_at_once(z, z_neg[:, segments.image], *numbers, dtype, None, equation)
    positive, negative = z_pos[:, segments.positive_of_known], z_neg[:, segments.negative]
    return segments.joined([part.to(dtype) for part in (negative, positive, z)])


def _in_chunks(to_image, to_positive, to_negative, segments, numbers, out, equation, flip):
    """Some tokens at a time, from and to views, so that the float32 tensors in between stay small."""
    batch, heads, n_tokens, dim = to_image[0].shape
    at_once, off = tokens_at_once(out), is_off(*numbers, equation)
    by_head = out.unflatten(2, (heads, dim)).transpose(1, 2)
    for chunk in _chunks(segments.negative, at_once):
        merge(_of(to_image, chunk), _of(to_negative, chunk), by_head[:, :, chunk])
    for chunk in _chunks(segments.known if off else segments.positive, at_once):
        merge(_of(to_image, chunk), _of(to_positive, segments.of_known(chunk)), by_head[:, :, chunk])
    for chunk in () if off else _chunks(segments.image, at_once):
        z_pos, z_neg = _of_each(to_image, to_positive, to_negative, segments, chunk, flip)
        if flip is not None:
            held(out[:, chunk].copy_(z_neg))
            continue
        of_these = of_tokens(numbers, _of_image(chunk, segments))
        guide_at_once(z_pos, z_neg, *of_these, out.dtype, out[:, chunk], equation)


def _of_each(to_image, to_positive, to_negative, segments, chunk, flip):
    """(2, batch, tokens, heads * dim) of a chunk of the image, with the positive and with the negative, or flipped."""
    image = _visible(_of(to_image, chunk))
    batch, heads, tokens, dim = image[0].shape
    precise = torch.promote_types(image[0].dtype, torch.float32)
    # In the order of the features, whatever that of the outputs.
    z = image[0].new_empty(2, batch, tokens, heads, dim, dtype=precise)
    z_pos, z_neg = z.transpose(2, 3)
    positive, negative = _visible(_of(to_positive, segments.of_known(chunk))), _visible(_of(to_negative, chunk))
    _merge(image, positive, z_pos)
    if flip is None:
        _merge(image, negative, z_neg)
    else:
        flip = of_tokens(flip, _of_image(chunk, segments))
        _flipped((z_pos, _log_sum_exp(image, positive)), negative, *flip, out=z_neg)
    return z.flatten(3)


def _flipped(known, negative, scale, offset, out=None):
    """Attention to the known keys and the negative's, with its values times 1 - scale; of finite log-sum-exps."""
    (z, lse), (z_neg, lse_neg) = known, negative
    lse_neg = lse_neg if offset is None else lse_neg - offset
    share = torch.sigmoid(lse_neg - lse).unsqueeze(-1)
    if is_of_tokens(scale):
        scale = scale.to(lse.dtype).unsqueeze(1)  # the same for all heads
        share = share.masked_fill(scale == 1, 0)
    return torch.addcmul(z * (1 - share), z_neg, share * (1 - scale), out=out)


def _log_sum_exp(a, b):
    """Over the keys of both."""
    return torch.logaddexp(a[1], b[1])


def _of_image(chunk, segments):
    """Which tokens of the image some of the sequence's are."""
    return slice(chunk.start - segments.image.start, chunk.stop - segments.image.start)


def _chunks(segment, size):
    return (slice(i, min(i + size, segment.stop)) for i in range(segment.start, segment.stop, size))


def _of(part, tokens):
    """Views of some tokens."""
    return part[0][:, :, tokens], part[1][:, :, tokens]


def _visible(part):
    """Zero, and a finite log-sum-exp, where no key was visible."""
    out, lse = part
    lse = lse.to(torch.promote_types(out.dtype, torch.float32))
    hidden = lse == -torch.inf
    if out.device.type == "cpu" and not is_traced(out) and not hidden.any():  # elsewhere the host would wait for that
        return out, lse
    return torch.where(hidden.unsqueeze(-1), 0, out), lse.clamp_min(torch.finfo(lse.dtype).min)


def _merge(a, b, out=None):
    """`merge`, of finite log-sum-exps."""
    (z_a, lse_a), (z_b, lse_b) = a, b
    share = torch.sigmoid(lse_b - lse_a).unsqueeze(-1)
    if z_a.dtype == z_b.dtype == share.dtype and (out is None or out.dtype == share.dtype):
        return torch.lerp(z_a, z_b, share, out=out)  # one pass, where nothing has to be converted
    return torch.addcmul(z_b * share, z_a, 1 - share, out=out)
