"""The equation of Normalized Attention Guidance (Chen et al. 2025, arXiv 2505.21179)."""
import functools
import importlib
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

import torch
from torch.linalg import vector_norm

Numbers = tuple[float, float, float] | tuple[torch.Tensor, torch.Tensor, torch.Tensor]
BY_TRITON = (torch.float16, torch.bfloat16, torch.float32)
# How many features are worked on at a time: on the CPU they stay in the cache, elsewhere the launches must not weigh.
CHUNK = {"cpu": 1 << 18}
CHUNK_ON_A_DEVICE = 1 << 22


def guide(
    positive: torch.Tensor,
    negative: torch.Tensor,
    scale: float,
    tau: float,
    alpha: float,
    out: torch.Tensor | None = None,
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
        alpha: share of the guided features in the result, 0 to 1; 0 is off. All three may be tensors, of one float32
            each, where torch.compile traces.
        out: where the result goes, of positive's shape and dtype with any strides: `positive` itself, or memory that
            shares nothing with it. Then guidance takes no memory worth mention.

    Returns:
        `out`, or a new contiguous tensor of positive's shape and dtype; `positive` itself where scale or alpha switch
        NAG off and there is no `out`. A token whose positive features are all zero stays zero, as the cap demands.
        What float16 cannot hold becomes its largest value.
    """
    if is_off(scale, tau, alpha):
        return positive if out is None or out is positive else out.copy_(positive)
    if is_traced(positive, negative):
        z = guide_at_once(positive, negative, scale, tau, alpha, positive.dtype)
        return z if out is None else out.copy_(z)
    if out is None:
        out = torch.empty_like(positive, memory_format=torch.contiguous_format)
    kernels = kernels_for(positive)
    if kernels is None or not kernels.guide(positive, negative, scale, tau, alpha, out):
        tensors, tokens = (positive, negative, out), tokens_at_once(positive)
        chunks = [tensors] if tokens >= out.shape[-2] else zip(*(t.split(tokens, -2) for t in tensors))
        for z_pos, z_neg, z in chunks:
            guide_at_once(z_pos, z_neg, scale, tau, alpha, z.dtype, z)
    return out


class Statistics(Protocol):
    """Counts what `guide` is about to do with features."""

    def add(self, positive: torch.Tensor, negative: torch.Tensor, scale: float, tau: float, alpha: float) -> None: ...


class Witness(Protocol):
    """Told, by `guided`, that attention was guided."""

    guided: bool


class Places(Protocol):
    """How strong NAG is where; see models.places."""

    has_masks: bool

    def numbers_at(self, n: int, *where) -> Numbers: ...

    def key_bias(self, n: int, lengths, like: torch.Tensor, *where) -> torch.Tensor | None: ...

    def elsewhere(self) -> "Places": ...


@dataclass(frozen=True)
class Equation:
    """`guide` with the numbers of one use of NAG.

    Args:
        scale, tau, alpha: as for `guide`.
        on_device: the same as float32 tensors, for torch.compile, which would make a graph for each float.
        statistics, witness: told what it does, unless they are None.
        places: what is strong where, if it is not everywhere alike.
    """

    scale: float
    tau: float
    alpha: float
    on_device: "tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None" = None
    statistics: Statistics | None = None
    witness: Witness | None = None
    places: Places | None = None

    def numbers_for(self, n_tokens: int, *where) -> Numbers:
        """Those for an image of so many tokens; `where`: see models.places.Places."""
        scale, tau, alpha = self.numbers
        if self.places is not None and self.places.has_masks:
            scale, _, alpha = self.places.numbers_at(n_tokens, *where)
        return scale, tau, alpha

    def key_bias(self, n_tokens: int, lengths, like: torch.Tensor, *where) -> torch.Tensor | None:
        """On the scores of the negative's keys, or None; see models.places.Places."""
        return None if self.places is None else self.places.key_bias(n_tokens, lengths, like, *where)

    def elsewhere(self) -> "Equation":
        """For what the negative's masks are not of, such as sound beside a picture."""
        if self.places is None or not self.places.has_masks:
            return self
        places = self.places.elsewhere()
        return Equation(*places.plain_numbers, places.plain_on_device, self.statistics, self.witness, places)

    @property
    def numbers(self) -> Numbers:
        if self.on_device is not None and torch.compiler.is_compiling():
            return self.on_device
        return self.scale, self.tau, self.alpha

    def __call__(
        self, positive: torch.Tensor, negative: torch.Tensor, out: torch.Tensor | None = None, where: tuple = ()
    ) -> torch.Tensor:
        self.note([(positive, negative)])
        return guide(positive, negative, *self.numbers_for(positive.shape[-2], *where), out=out)

    def note(self, features: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Tell of what happens to these features, the positive's and the negative's, part by part."""
        if self.witness is not None:
            self.witness.guided = True
        if self.statistics is not None:
            for positive, negative in features:
                self.statistics.add(positive, negative, *self.numbers)


def is_off(scale: float | torch.Tensor, tau: float | torch.Tensor, alpha: float | torch.Tensor) -> bool:
    """Whether these numbers leave all as it is. Of tensors nobody asks: the host would wait for them."""
    return not isinstance(scale, torch.Tensor) and (scale == 1 or alpha == 0)


def guide_at_once(positive, negative, scale, tau, alpha, dtype, out=None) -> torch.Tensor:
    """`guide` by PyTorch, of some of the tokens, with a float32 copy of them. Result and `out` are of dtype `dtype`.

    Without an `out` the operations are plain ones, and the numbers may be tensors.
    """
    # In float16 the L1 norm of a few thousand features overflows, and the picture turns black.
    precise = torch.promote_types(positive.dtype, torch.float32)
    z_pos, z_neg = positive.to(precise), negative.to(precise)
    z = torch.lerp(z_neg, z_pos, scale)
    norm = _l1_norm(z).clamp_min(torch.finfo(precise).tiny)
    # min(r, tau) / r = min(1, tau |z+| / |z~|), which needs no division by the positive's norm.
    share = (_l1_norm(z_pos) * (alpha * tau) / norm).clamp_max(alpha)
    # From here on z~ is not needed any more, and its overflow harms nothing: the share is zero then.
    if out is None:
        z = (z_pos * (1 - alpha + scale * share) + z_neg * (share * (1 - scale))).to(dtype)
    else:
        share_of_positive = torch.rsub(share, 1 - alpha, alpha=-scale)
        z = torch.addcmul(torch.mul(z_pos, share_of_positive, out=z), share, z_neg, value=1 - scale, out=out)
    largest = torch.finfo(dtype).max
    return z.clamp_(-largest, largest) if dtype == torch.float16 else z


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
