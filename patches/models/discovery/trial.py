"""Found doors are tried: an image that follows the negative alone must become that of a run of the negative alone."""
from dataclasses import dataclass, field

import torch

from ...arithmetic.equation import Equation
from ...settings import Settings
from ..adapter import ModelCall
from ..hooks import hooked
from ..rehearsal import Rehearsals
from .calls import Given, TinyCalls, copied
from .comparing import tolerance
from .reading import Found, Unsure
from .watching import axis_and_result

OFF = (
    "an image that follows one of two texts by the doors that were seen ({doors}) "
    "is not that of a run of this text alone"
)


@dataclass(frozen=True, eq=False)
class _Following(Equation):
    """The image becomes the negative's. Keeps each, and what it was the positive's."""

    scale: float = 0.0
    tau: float = 1.0
    alpha: float = 1.0
    images: list[torch.Tensor] = field(default_factory=list)

    def __call__(self, positive, negative, out=None, where=()):
        self.images.append(negative.clone())
        return negative.clone() if out is None else out.copy_(negative)


class _Listening:
    """An override that keeps what attention returns, as (rows, tokens, features), and of how many queries and keys."""

    def __init__(self):
        self.outs, self.sizes = [], []

    def __call__(self, func, q, k, v, heads, *args, **options):
        out = func(q, k, v, heads, *args, **options)
        tokens, result = axis_and_result(out, args, options)
        self.sizes.append((q.shape[tokens], k.shape[tokens]))
        self.outs.append(result.flatten(2).clone())
        return out

    def to_projections(self, adapter, net):
        """Hooks that keep what comes to the projections in front of which the prompts meet."""
        for door in adapter.doors.kinds:
            for block in door.find(net) if door.projection else ():
                attention = door.projection.attention(door.meets_in(block))
                projection = attention.get_submodule(door.projection.path)
                yield projection.register_forward_pre_hook(lambda module, args: self.outs.append(args[0].clone()))


def try_doors(calls: TinyCalls, adapter, found: Found, positive: Given, negative: Given) -> None:
    """Raise Unsure if it is not.

    Args:
        adapter: a Transformer with the found doors.
        positive, negative: the long text and the short one, with one picture and one pooled output.
    """
    following, listening = _Following(), _Listening()
    given, text = copied(positive.conds), copied(negative.conds)
    context, c_concat = given.pop("c_crossattn"), given.pop("c_concat", None)
    pooled = () if adapter.pooled_size is None else ("y",)
    of_text = ("c_crossattn", *pooled, *adapter.text_inputs)
    call = ModelCall(
        x=positive.x,
        context=context,
        entries=({name: text[name] for name in of_text if name in text},),
        rehearse=Rehearsals(calls.model, adapter, positive.x, calls.t, c_concat, calls.options, given),
        guided=(slice(0, 1),),
        settings=Settings(),
        equation=following,
        control=None,
        transformer_options=calls.options,
    )
    with adapter.guided(calls.net, call):
        # With an override of another's the branches are computed apart, by the equation that is called here.
        guided = calls(positive, lambda func, *args, **options: func(*args, **options))
    with hooked(listening.to_projections(adapter, calls.net)):
        alone = calls(negative, listening)
    other = calls(positive)
    # Rounding may be half of what two texts make of a picture in a few blocks.
    most = tolerance(torch.float32) * alone.norm()
    if calls.dtype not in (torch.float32, torch.float64):
        most = max(most, 0.5 * (other - alone).norm())
    met = [size for size in listening.sizes if _is_meeting(adapter, found, *size)]
    is_off = (guided - alone).norm() > most or len(met) > len(following.images)
    part = _part(adapter, calls.net, found.n_image)
    if is_off or not _are_among(following.images, listening.outs, part, calls.dtype):
        kinds = adapter.doors.kinds
        raise Unsure(OFF.format(doors=", ".join(f"{door.blocks}: {door.text or door.sequence}" for door in kinds)))


def _is_meeting(adapter, found, queries, keys):
    """Whether an attention of these sizes is that of the image to the short text, which the override guides."""
    if any(door.projection for door in adapter.doors.kinds):
        return False
    if adapter.is_joint:
        return queries == keys == found.n_short + found.n_image
    return keys == found.n_short != queries


def _part(adapter, net, n_image):
    """The image's, of what attention returns."""
    if not adapter.is_joint:
        return lambda out: out
    return lambda out: out[:, :n_image] if adapter.doors.image_first(net) else out[:, -n_image:]


def _are_among(images, outs, part, dtype):
    """Whether each image is, in this order, among what attention has returned."""
    ahead = iter(outs)
    return bool(images) and all(any(_is_same(image, part(out), dtype) for out in ahead) for image in images)


def _is_same(a, b, dtype):
    return a.shape == b.shape and bool((a - b).norm() <= tolerance(dtype) * b.norm())
