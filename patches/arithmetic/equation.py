"""The equation of Normalized Attention Guidance (Chen et al. 2025, arXiv 2505.21179), and others that can be chosen.

Each says how much of the positive's features and of the negative's there is in the extrapolated ones:

    nag         z~ = z+ + s (z+ - z-)
    orthogonal  z~ = z+ - s (z- - <z-, z+> / <z+, z+> z+)     Ko et al. 2026, arXiv 2605.29390
    nasa        z~ = z+ - s z-                                Nguyen et al. 2024, arXiv 2412.02687, section 3.2

Of the first two NAG caps and blends the outcome; the last is taken as it is. A further one, vsf, is attention to both
prompts at once, the negative's values times -s (Guo and Du 2025, arXiv 2508.10931): see `merge.guide_joint`, and
`attention.sign_flip` for where attention does not tell its log-sum-exps.
"""
import functools
import importlib
import itertools
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

import torch
from torch.linalg import vector_norm

from ..settings import CAPPED, Number

Numbers = tuple[Number, Number, Number]
BY_TRITON = (torch.float16, torch.bfloat16, torch.float32)
# How many features are worked on at a time: on the CPU they stay in the cache, elsewhere the launches must not weigh.
CHUNK = {"cpu": 1 << 18}
CHUNK_ON_A_DEVICE = 1 << 22


def guide(
    positive: torch.Tensor,
    negative: torch.Tensor,
    scale: Number,
    tau: Number,
    alpha: Number,
    out: torch.Tensor | None = None,
    equation: str = "nag",
) -> torch.Tensor:
    """Move attention features away from the negative's, cap how far, and blend.

    With z+ = `positive` and z- = `negative`, per token and over the features of all heads together:

        z~ = z+ + s (z+ - z-)                    extrapolate, s = scale - 1
        r  = |z~|_1 / |z+|_1
        z^ = z~ * min(r, tau) / r                normalise
        z  = alpha z^ + (1 - alpha) z+           refine

    Args:
        positive, negative: (..., tokens, features), of any floating dtype and equal shape, with any strides; before
            the output projection. They are left as they are, unless one is `out` too.
        scale: 1 + s, the `nag_scale` of ComfyUI nodes; 1 is off.
        tau: how many times the positive's L1 norm the extrapolated features may reach, at least 1.
        alpha: share of the guided features in the result, 0 to 1; 0 is off. All three may be tensors of one float32
            each, as where torch.compile traces; scale and alpha also (batch or 1, tokens, 1), a number a token.
        out: where the result goes, of positive's shape and dtype with any strides: `positive` itself, or memory that
            shares nothing with it. Then guidance takes no memory worth mention.
        equation: "nag"; or "orthogonal" or "nasa", which extrapolate otherwise. nasa is not capped nor blended, so it
            takes no tau and no alpha.

    Returns:
        `out`, or a new contiguous tensor of positive's shape and dtype; `positive` itself where scale or alpha switch
        NAG off and there is no `out`. A token whose positive features are all zero stays zero, as the cap demands.
        What float16 cannot hold becomes its largest value.
    """
    numbers = scale, tau, alpha
    if is_off(*numbers, equation):
        return positive if out is None or out is positive else out.copy_(positive)
    if is_traced(positive, negative):
        z = guide_at_once(positive, negative, *numbers, positive.dtype, None, equation)
        return z if out is None else out.copy_(z)
    if out is None:
        out = torch.empty_like(positive, memory_format=torch.contiguous_format)
    kernels = kernels_for(positive)
    if kernels is None or not kernels.guide(positive, negative, *numbers, out, equation):
        for z_pos, z_neg, z, *of_these in in_chunks(tokens_at_once(positive), positive, negative, out, *numbers):
            guide_at_once(z_pos, z_neg, *of_these, z.dtype, z, equation)
    return out


class Statistics(Protocol):
    """Counts what `guide` is about to do with features."""

    def add(self, positive: torch.Tensor, negative: torch.Tensor, *numbers: Number, equation: str) -> None: ...


class Witness(Protocol):
    """Told, by `guided`, that attention was guided."""

    guided: bool


class Places(Protocol):
    """How strong NAG is where; see models.places."""

    has_masks: bool

    def numbers_at(self, n: int, *where) -> Numbers: ...

    def key_bias(self, n: int, lengths, like: torch.Tensor, *where) -> torch.Tensor | None: ...

    def key_bias_of_text(self, lengths, like: torch.Tensor) -> torch.Tensor | None: ...

    def elsewhere(self, equation: "Equation") -> "Equation": ...


@dataclass(frozen=True)
class Equation:
    """An equation with the numbers of one use of NAG.

    Args:
        scale, tau, alpha: as for `guide`.
        on_device: the same as float32 tensors, for torch.compile, which would make a graph for each float; with a
            fourth for vsf_offset where that is not 0.
        statistics, witness: told what it does, unless they are None.
        name: which equation: as for `guide`, or "vsf".
        vsf_offset: what vsf takes off the scores of the negative's keys.
        places: what is how strong where, if that is not alike everywhere, or some of the negative's keys weigh less.
    """

    scale: Number
    tau: Number
    alpha: Number
    on_device: tuple[torch.Tensor, ...] | None = None
    statistics: Statistics | None = None
    witness: Witness | None = None
    name: str = "nag"
    vsf_offset: float = 0.0
    places: Places | None = None

    @property
    def numbers(self) -> Numbers:
        if self.on_device is not None and torch.compiler.is_compiling():
            return self.on_device[:3]
        return self.scale, self.tau, self.alpha

    def numbers_for(self, n_tokens: int, *where) -> Numbers:
        """Those for an image of so many tokens; `where`: see models.places.Places.numbers_at."""
        scale, tau, alpha = self.numbers
        if self.places is not None and self.places.has_masks:
            scale, _, alpha = self.places.numbers_at(n_tokens, *where)
        return scale, tau, alpha

    def key_bias(self, n_tokens: int, lengths, like: torch.Tensor, *where) -> torch.Tensor | None:
        """On the scores of the negative's keys, or None; see models.places.Places.key_bias."""
        return None if self.places is None else self.places.key_bias(n_tokens, lengths, like, *where)

    def elsewhere(self) -> "Equation":
        """For what the negative's masks are not of, such as sound beside a picture."""
        return self if self.places is None else self.places.elsewhere(self)

    @property
    def offset(self) -> Number | None:
        """vsf_offset, as the numbers are; None where it is 0."""
        if self.on_device is not None and torch.compiler.is_compiling():
            return self.on_device[3] if len(self.on_device) > 3 else None
        return self.vsf_offset or None

    @property
    def flips(self) -> bool:
        """Whether the image attends to both prompts at once, and no features of the negative's are made."""
        return self.name == "vsf" and not is_off(*self.numbers, self.name)

    def __call__(
        self, positive: torch.Tensor, negative: torch.Tensor, out: torch.Tensor | None = None, where: tuple = ()
    ) -> torch.Tensor:
        numbers = self.numbers_for(positive.shape[-2], *where)
        self.note([(slice(None), positive, negative)], numbers)
        return guide(positive, negative, *numbers, out=out, equation=self.name)

    def note(self, features: Iterable[tuple[slice, torch.Tensor, torch.Tensor]], numbers: Numbers) -> None:
        """Tell of what happens to these features, part by part: which tokens of the image they are, the positive's and
        the negative's; for vsf, which makes no such, what becomes of the image."""
        if self.witness is not None:
            self.witness.guided = True
        if self.statistics is not None:
            for tokens, positive, negative in features:
                self.statistics.add(positive, negative, *of_tokens(numbers, tokens), equation=self.name)


def is_off(scale: Number, tau: Number, alpha: Number, equation: str = "nag") -> bool:
    """Whether these numbers leave all as it is. Of tensors nobody asks: the host would wait for them."""
    is_zero = lambda number, zero: not isinstance(number, torch.Tensor) and number == zero
    return is_zero(scale, 1) or equation in CAPPED and is_zero(alpha, 0)


def guide_at_once(positive, negative, scale, tau, alpha, dtype, out=None, equation="nag") -> torch.Tensor:
    """`guide` by PyTorch, of some of the tokens, with a float32 copy of them. Result and `out` are of dtype `dtype`.

    Without an `out` the operations are plain ones.
    """
    # In float16 the L1 norm of a few thousand features overflows, and the picture turns black.
    precise = torch.promote_types(positive.dtype, torch.float32)
    z_pos, z_neg = positive.to(precise), negative.to(precise)
    scale, tau, alpha = (n.to(precise) if isinstance(n, torch.Tensor) else n for n in (scale, tau, alpha))
    z, of_positive, of_negative = EXTRAPOLATED[equation](z_pos, z_neg, scale)
    if equation in CAPPED:
        norm = _l1_norm(z).clamp_min(torch.finfo(precise).tiny)
        # min(r, tau) / r = min(1, tau |z+| / |z~|), which needs no division by the positive's norm.
        share = torch.clamp_max(_l1_norm(z_pos) * (alpha * tau) / norm, alpha)
        # From here on z~ is not needed any more, and its overflow harms nothing: the share is zero then.
        z = _refined(z_pos, z_neg, share, of_positive, of_negative, alpha, z, out)
    z = z.to(dtype) if out is None else out if z is out else out.copy_(z)
    return held(z)


def held(z: torch.Tensor) -> torch.Tensor:
    """What float16 cannot hold becomes its largest value, in place."""
    largest = torch.finfo(z.dtype).max
    return z.clamp_(-largest, largest) if z.dtype == torch.float16 else z


def _refined(z_pos, z_neg, share, of_positive, of_negative, alpha, z, out):
    """`share` of z~, of which there is `of_positive` of the positive and `of_negative`, and the rest of the positive.

    z: memory, where there is an `out`.
    """
    if out is None:
        return z_pos * (1 - alpha + of_positive * share) + z_neg * (share * of_negative)
    if any(isinstance(number, torch.Tensor) for number in (of_positive, of_negative, alpha)):
        share_of_positive = 1 - alpha + of_positive * share
        return torch.addcmul(torch.mul(z_pos, share_of_positive, out=z), share * of_negative, z_neg, out=out)
    share_of_positive = torch.rsub(share, 1 - alpha, alpha=-of_positive)
    return torch.addcmul(torch.mul(z_pos, share_of_positive, out=z), share, z_neg, value=of_negative, out=out)


def _nag(z_pos, z_neg, scale):
    return torch.lerp(z_neg, z_pos, scale), scale, 1 - scale


def _orthogonal(z_pos, z_neg, scale):
    tiny = torch.finfo(z_pos.dtype).tiny
    along = (z_neg * z_pos).sum(-1, keepdim=True) / (z_pos * z_pos).sum(-1, keepdim=True).clamp_min(tiny)
    along = along.nan_to_num(0.0, 0.0, 0.0)  # where the products overflow, so does the norm, and the share is zero
    of_positive = 1 + (scale - 1) * along
    return _plus(z_pos * of_positive, z_neg, 1 - scale), of_positive, 1 - scale


def _nasa(z_pos, z_neg, scale):
    return _plus(z_pos, z_neg, 1 - scale), 1, 1 - scale


def _plus(z, other, times):
    return torch.addcmul(z, other, times) if isinstance(times, torch.Tensor) else torch.add(z, other, alpha=times)


# What makes of z+, z- and the scale the extrapolated features, and how much of z+ and of z- there is in them.
EXTRAPOLATED = {"nag": _nag, "orthogonal": _orthogonal, "nasa": _nasa}


def extrapolated(positive: torch.Tensor, negative: torch.Tensor, scale: Number, equation: str = "nag") -> torch.Tensor:
    """z~ of `guide`, in float32 at least; for vsf it is what is given in the negative's place."""
    precise = torch.promote_types(positive.dtype, torch.float32)
    if equation == "vsf":
        return negative.to(precise)
    return EXTRAPOLATED[equation](positive.to(precise), negative.to(precise), scale)[0]


def of_tokens(numbers: Iterable[Number], tokens: slice) -> tuple[Number, ...]:
    """The numbers of `guide` that some of its tokens have."""
    return tuple(n[..., tokens, :] if is_of_tokens(n) else n for n in numbers)


def in_chunks(size: int, *each: Number) -> Iterator[tuple[Number, ...]]:
    """Features of `guide`, and its numbers, of so many tokens at a time."""
    return zip(*(t.split(size, -2) if is_of_tokens(t) else itertools.repeat(t) for t in each))


def is_of_tokens(number: Number) -> bool:
    """Whether it is a number for each token."""
    return isinstance(number, torch.Tensor) and number.ndim > 0


def _l1_norm(z):
    """Over the last axis. On a CPU vector_norm goes number by number; elsewhere it makes do without |z| in memory."""
    return z.abs().sum(-1, keepdim=True) if z.device.type == "cpu" else vector_norm(z, ord=1, dim=-1, keepdim=True)


def is_traced(*tensors: torch.Tensor) -> bool:
    """Whether each operation must be new and plain: inductor fuses these by itself, and autograd wants no `out`."""
    return torch.compiler.is_compiling() or any(t.requires_grad for t in tensors)


def tokens_at_once(features: torch.Tensor) -> int:
    """How many tokens to take at a time of (..., tokens, features), so that float32 copies of them stay small."""
    a_token = features.numel() // max(features.shape[-2], 1)
    return max(CHUNK.get(features.device.type, CHUNK_ON_A_DEVICE) // max(a_token, 1), 1)


def kernels_for(features: torch.Tensor) -> ModuleType | None:
    """The module of Triton kernels where they can work on tensors such as `features`, or None.

    On the CPU that takes Triton's interpreter, TRITON_INTERPRET=1, which is for tests.
    """
    kind = features.device.type
    if kind == "cpu":
        if os.environ.get("TRITON_INTERPRET") != "1":
            return None
    elif kind not in ("cuda", "xpu"):  # ROCm's devices are called cuda
        return None
    return load_kernels(features.device, features.dtype) if features.dtype in BY_TRITON else None


@functools.cache
def load_kernels(device: torch.device, dtype: torch.dtype) -> ModuleType | None:
    """The module of Triton kernels, or None where they fail: Triton may be missing, lack a C compiler, or not know
    the device or what it can do with the dtype. So it is tried, once."""
    try:
        kernels = importlib.import_module(".triton_kernels", __package__)
        z = torch.ones(1, 1, 16, device=device, dtype=dtype)
        kernels.guide(z, z, 2.0, 1.0, 1.0, torch.empty_like(z))
    except Exception:
        logging.debug("NAG does without Triton on %s in %s", device, dtype, exc_info=True)
        return None
    return kernels
