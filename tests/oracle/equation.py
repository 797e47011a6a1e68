"""The paper's equations 7 to 10, those of other papers, and attention, as they are written down."""
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True)
class Nag:
    """The settings, with nag_scale = 1 + s, and the negative, a ComfyUI CONDITIONING.

    Args:
        over: gives alpha at a sigma, in the place of the one that stays.
        blocks: those in which it acts, as (name of the model's list, number in it); None: all.
    """

    negative: list
    scale: float = 4.0
    tau: float = 1.3
    alpha: float = 0.6
    sigma_end: float = 0.0
    start_percent: float = 0.0
    end_percent: float = 1.0
    image_stream: str = "shared"
    modality: str = "both"
    places: object = None  # see places.Places
    equation: str = "nag"
    offset: float = 0.0
    over: Callable[[float], float] | None = None
    blocks: frozenset[tuple[str, int]] | None = None

    def at(self, sigma):
        """What acts at a sigma; None: nothing."""
        if self.over is None:
            return self
        now = replace(self, alpha=self.over(float(sigma)), over=None)
        return now if now.alpha else None

    def within(self, *block):
        """What acts in a block; None: nothing."""
        return self if self.blocks is None or block in self.blocks else None


@dataclass(frozen=True)
class Prompt:
    """A text: (batch, tokens, width), and its pooled vector, (batch, width), where the family has one.

    Of several entries, `lengths` has the numbers of their tokens, and `which` they are.
    """

    tokens: torch.Tensor
    pooled: torch.Tensor | None = None
    lengths: tuple[int, ...] = ()
    which: tuple[int, ...] = ()

    @property
    def entries(self) -> list[torch.Tensor]:
        return list(self.tokens.split(self.lengths, 1)) if self.lengths else [self.tokens]


def guide(z_pos, z_neg, nag):
    """Over (batch, tokens, features of all heads). No Nag leaves the positive's."""
    if nag is None:
        return z_pos
    nag = nag if nag.places is None else nag.places.at(nag, z_pos.shape[1])
    s = nag.scale - 1
    dot = lambda a, b: (a * b).sum(-1, keepdim=True)
    if nag.equation == "nasa":
        return z_pos - s * z_neg
    if nag.equation == "orthogonal":
        extrapolated = z_pos - s * (z_neg - dot(z_neg, z_pos) / dot(z_pos, z_pos) * z_pos)
    else:
        extrapolated = z_pos + s * (z_pos - z_neg)
    ratio = extrapolated.abs().sum(-1, keepdim=True) / z_pos.abs().sum(-1, keepdim=True)
    normalised = extrapolated * ratio.clamp(max=nag.tau) / ratio
    return nag.alpha * normalised + (1 - nag.alpha) * z_pos


def attention(q, k, v, heads, mask=None):
    """Softmax attention over (batch, tokens, heads * head_dim), with a mask added to the scores."""
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores + mask
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


def flips(nag):
    """Whether the image attends to both prompts at once."""
    return nag is not None and nag.equation == "vsf"


def flipped(q, known, negative, heads, nag, masks=(None, None)):
    """Attention to the known keys and to the negative's under one softmax, the negative's values times -s.

    Args:
        known, negative: keys and values, as for `attention`.
        masks: of each.
    """
    nag = nag if nag.places is None else nag.places.at(nag, q.shape[1])
    scale = torch.as_tensor(nag.scale, dtype=torch.float64)
    scale = scale[:, None] if scale.ndim else scale
    q, *each = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, *known, *negative))
    scores = [q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 for k in each[::2]]
    scores = [one if mask is None else one + mask for one, mask in zip(scores, masks)]
    of_known, of_negative = (z.exp() for z in (scores[0], scores[1] - nag.offset))
    of_negative = torch.where(scale == 1, 0, of_negative)  # off, the negative is not there
    z = of_known @ each[1] - (scale - 1) * (of_negative @ each[3])
    return (z / (of_known.sum(-1, keepdim=True) + of_negative.sum(-1, keepdim=True))).transpose(1, 2).flatten(2)


def rotate(x, positions, axes, theta, heads):
    """Rotary embedding of (batch, tokens, heads * head_dim): each axis of (tokens, axes) turns its share of pairs."""
    angles = []
    for axis, dim in enumerate(axes):
        frequencies = theta ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        angles.append(positions[:, axis, None] * frequencies)
    angles = torch.cat(angles, -1)[:, None]  # (tokens, 1, head_dim / 2)
    a, b = x.unflatten(-1, (heads, -1, 2)).unbind(-1)
    turned = (a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos())
    return torch.stack(turned, -1).flatten(2)


def grid(*sizes):
    """The positions of the cells of a grid: (cells, axes), the last axis running fastest."""
    return torch.cartesian_prod(*(torch.arange(size, dtype=torch.float64) for size in sizes)).reshape(-1, len(sizes))
