"""The equation and the merge in Triton: a program a token, which reads the features once and writes them once.

Importing this imports Triton; `equation.load_kernels` does, where it is of use. The functions return whether they
serve such tensors; where they do not, nothing has happened.
"""
import functools
from contextlib import nullcontext

import torch
import triton
import triton.language as tl

WIDEST = 8192  # features a token


def guide(positive, negative, scale, tau, alpha, out, equation="nag") -> bool:
    """`equation.guide` with an `out`, for (batch, tokens, features) of which a token's features lie side by side."""
    if positive.dim() != 3 or not positive.shape == negative.shape == out.shape:
        return False
    batch, tokens, width = positive.shape
    strides = (*positive.stride(), *negative.stride(), *out.stride())
    if width > WIDEST or strides[2] != 1 or strides[5] != 1 or strides[8] != 1:
        return False
    block, warps = _program(width)
    with _current(positive):
        _guide_kernel[tokens, batch](
            positive, negative, out, *strides[:2], *strides[3:5], *strides[6:8],
            *_numbers(scale, tau, alpha, batch, tokens), width, block, equation, num_warps=warps,
        )  # fmt: skip
    return True


def guide_joint(
    to_image, to_positive, to_negative, segments, scale, tau, alpha, out, equation="nag", offset=None
) -> bool:
    """`merge.guide_joint` with an `out`, contiguous, for outputs of which a head's features lie side by side."""
    parts = (to_image, to_positive, to_negative)
    batch, heads, tokens, dim = to_image[0].shape
    block = triton.next_power_of_2(heads), triton.next_power_of_2(dim)
    if block[0] * block[1] > WIDEST or any(z.stride(3) != 1 for z, _ in parts):
        return False
    tensors = [t for part in parts for t in part]
    strides = [stride for t in tensors for stride in t.stride()[:3]]
    negative, image = segments.negative, segments.image
    places = segments.n_before, negative.start, negative.stop, image.start, image.stop
    with _current(out):
        _joint_kernel[tokens, batch](
            *tensors, out, *strides, tokens, *places, *_numbers(scale, tau, alpha, batch, image.stop - image.start),
            float(offset or 0.0), heads, dim, *block, equation, num_warps=_warps(block[0] * block[1]),
        )  # fmt: skip
    return True


def _numbers(scale, tau, alpha, batch, tokens):
    """Of a kernel: scale, tau and alpha; how far scale and alpha lie apart by row and by token; whether they do."""
    maps = [n.expand(batch, tokens, 1) if isinstance(n, torch.Tensor) and n.ndim else None for n in (scale, alpha)]
    scale, alpha = (float(n) if of_each is None else of_each for n, of_each in zip((scale, alpha), maps))
    strides = [(0, 0) if of_each is None else of_each.stride()[:2] for of_each in maps]
    return scale, float(tau), alpha, *strides[0], *strides[1], *(of_each is not None for of_each in maps)


def _current(z):
    """Makes z's device the current one, on which Triton launches."""
    kind = z.device.type
    return nullcontext() if kind == "cpu" else getattr(torch, kind).device_of(z)


@functools.cache
def _program(width):
    """How many features a program is for, and its warps."""
    block = triton.next_power_of_2(width)
    return block, _warps(block)


def _warps(features):
    """Sixteen features a thread: two loads of 16 bytes in half precision, and room for three tensors of float32."""
    return min(max(features // 512, 1), 16)


@triton.jit(do_not_specialize=["scale_row", "scale_token", "alpha_row", "alpha_token"])
def _guide_kernel(
    positive, negative, out, positive_row, positive_token, negative_row, negative_token, out_row, out_token,
    scale, tau, alpha, scale_row, scale_token, alpha_row, alpha_token, SCALES: tl.constexpr, ALPHAS: tl.constexpr,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, EQUATION: tl.constexpr,
):  # fmt: skip
    token, row = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    feature = tl.arange(0, BLOCK)
    there = feature < WIDTH
    z_pos = tl.load(positive + row * positive_row + token * positive_token + feature, there, 0.0).to(tl.float32)
    z_neg = tl.load(negative + row * negative_row + token * negative_token + feature, there, 0.0).to(tl.float32)
    own_scale = _of_token(scale, row * scale_row + token * scale_token, SCALES)
    own_alpha = _of_token(alpha, row * alpha_row + token * alpha_token, ALPHAS)
    z = _guided(z_pos, z_neg, own_scale, tau, own_alpha, EQUATION)
    _store(out + row * out_row + token * out_token + feature, z, there)


# A prompt's length must not cost a compilation: it decides these, but no alignment of the features.
@triton.jit(
    do_not_specialize=[
        "n_tokens", "known_start", "negative_start", "negative_stop", "image_start", "image_stop",
        "image_lse_row", "image_lse_head", "image_lse_token",
        "positive_lse_row", "positive_lse_head", "positive_lse_token",
        "negative_lse_row", "negative_lse_head", "negative_lse_token",
        "scale_row", "scale_token", "alpha_row", "alpha_token",
    ]
)  # fmt: skip
def _joint_kernel(
    image, image_lse, positive, positive_lse, negative, negative_lse, out,
    image_row, image_head, image_token, image_lse_row, image_lse_head, image_lse_token,
    positive_row, positive_head, positive_token, positive_lse_row, positive_lse_head, positive_lse_token,
    negative_row, negative_head, negative_token, negative_lse_row, negative_lse_head, negative_lse_token,
    n_tokens, known_start, negative_start, negative_stop, image_start, image_stop,
    scale, tau, alpha, scale_row, scale_token, alpha_row, alpha_token, SCALES: tl.constexpr, ALPHAS: tl.constexpr,
    offset, HEADS: tl.constexpr, DIM: tl.constexpr, BLOCK_HEADS: tl.constexpr, BLOCK_DIM: tl.constexpr,
    EQUATION: tl.constexpr,
):  # fmt: skip
    token, row = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    z_image, lse_image = _load_part(
        image + row * image_row + token * image_token, image_head,
        image_lse + row * image_lse_row + token * image_lse_token, image_lse_head,
        HEADS, DIM, BLOCK_HEADS, BLOCK_DIM,
    )  # fmt: skip
    is_image = (token >= image_start) & (token < image_stop)
    is_negative = (token >= negative_start) & (token < negative_stop)
    z_pos, lse_pos = z_image, lse_image
    if not is_negative:
        own = token - known_start
        z_prompt, lse_prompt = _load_part(
            positive + row * positive_row + own * positive_token, positive_head,
            positive_lse + row * positive_lse_row + own * positive_lse_token, positive_lse_head,
            HEADS, DIM, BLOCK_HEADS, BLOCK_DIM,
        )  # fmt: skip
        z_pos = _merged(z_image, lse_image, z_prompt, lse_prompt)
        if EQUATION == "vsf":
            lse_pos = _log_sum_exp(lse_image, lse_prompt)
    z = z_pos
    if is_image | is_negative:
        z_prompt, lse_prompt = _load_part(
            negative + row * negative_row + token * negative_token, negative_head,
            negative_lse + row * negative_lse_row + token * negative_lse_token, negative_lse_head,
            HEADS, DIM, BLOCK_HEADS, BLOCK_DIM,
        )  # fmt: skip
        z_neg = _merged(z_image, lse_image, z_prompt, lse_prompt)
        if is_negative:
            z = z_neg
        else:
            own = token - image_start
            own_scale = _of_token(scale, row * scale_row + own * scale_token, SCALES)
            own_alpha = _of_token(alpha, row * alpha_row + own * alpha_token, ALPHAS)
            if _acts(own_scale, own_alpha, EQUATION):
                if EQUATION == "vsf":
                    z = _flipped(z_pos, lse_pos, z_prompt, lse_prompt - offset, own_scale)
                else:
                    z = _guided(z_pos, z_neg, own_scale, tau, own_alpha, EQUATION)
    head, feature = tl.arange(0, BLOCK_HEADS)[:, None], tl.arange(0, BLOCK_DIM)[None, :]
    there = (head < HEADS) & (feature < DIM)
    _store(out + (row * n_tokens + token) * (HEADS * DIM) + head * DIM + feature, z, there)


@triton.jit
def _load_part(
    out, out_head, lse, lse_head,
    HEADS: tl.constexpr, DIM: tl.constexpr, BLOCK_HEADS: tl.constexpr, BLOCK_DIM: tl.constexpr,
):  # fmt: skip
    """A token's output, (heads, features), and its log-sum-exp, finite; the output is zero where no key was visible."""
    head, feature = tl.arange(0, BLOCK_HEADS), tl.arange(0, BLOCK_DIM)[None, :]
    score = tl.load(lse + head * lse_head, head < HEADS, 0.0).to(tl.float32)
    visible = score != float("-inf")
    there = (head < HEADS)[:, None] & (feature < DIM)
    z = tl.load(out + head[:, None].to(tl.int64) * out_head + feature, there, 0.0).to(tl.float32)
    return tl.where(visible[:, None], z, 0.0), tl.where(visible, score, -3.4e38)


@triton.jit
def _merged(a, lse_a, b, lse_b):
    share = tl.sigmoid(lse_b - lse_a)[:, None]
    return b * share + a * (1 - share)


@triton.jit
def _log_sum_exp(a, b):
    top = tl.maximum(a, b)
    return top + tl.log(tl.exp(a - top) + tl.exp(b - top))


@triton.jit
def _flipped(z, lse, z_neg, lse_neg, scale):
    """`merge._flipped`, of one token."""
    share = tl.sigmoid(lse_neg - lse)[:, None]
    return z * (1 - share) + z_neg * (share * (1 - scale))


@triton.jit
def _of_token(number, place, IS_MAP: tl.constexpr):
    """A number that all tokens have, or one of a map of theirs."""
    if IS_MAP:
        number = tl.load(number + place)
    return number


@triton.jit
def _acts(scale, alpha, EQUATION: tl.constexpr):
    acts = scale != 1
    if EQUATION == "nag" or EQUATION == "orthogonal":
        acts = acts & (alpha != 0)
    return acts


@triton.jit
def _guided(z_pos, z_neg, scale, tau, alpha, EQUATION: tl.constexpr):
    """`equation.guide_at_once`, over all the features of one token."""
    if EQUATION == "nasa":
        z = z_pos + (1 - scale) * z_neg
    else:
        of_positive = scale
        if EQUATION == "orthogonal":
            along = tl.sum(z_neg * z_pos) / tl.maximum(tl.sum(z_pos * z_pos), 1.1754944e-38)
            of_positive = 1 + (scale - 1) * tl.where(tl.abs(along) < float("inf"), along, 0.0)
            norm = tl.sum(tl.abs(z_pos * of_positive + (1 - scale) * z_neg))
        else:
            norm = tl.sum(tl.abs(z_pos + (scale - 1) * (z_pos - z_neg)))
        share = tl.minimum(tl.sum(tl.abs(z_pos)) * (alpha * tau) / tl.maximum(norm, 1.1754944e-38), alpha)
        z = z_pos * (1 - alpha + of_positive * share) + z_neg * (share * (1 - scale))
    return z


@triton.jit
def _store(pointers, z, there):
    if pointers.dtype.element_ty == tl.float16:
        z = tl.clamp(z, -65504.0, 65504.0, propagate_nan=tl.PropagateNan.ALL)
    tl.store(pointers, z.to(pointers.dtype.element_ty), there)
