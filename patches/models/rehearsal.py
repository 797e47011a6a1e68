"""The negative's text as the model itself makes it: the model is run for it, as far as the door of its first block.

How a family refines, pads, orders and places its text is nobody's business but the model's.
"""
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..attention.override import OVERRIDE
from .arguments import Arguments, in_front
from .compiled import plain
from .hooks import hooked

OF_OTHERS = ("patches", "patches_replace", "wrappers", "callbacks", OVERRIDE)  # of the transformer_options
NEVER_CAME = "NAG can't guide this model: it never came to its {}."


class _Stopped(BaseException):
    """Ends a rehearsal; no code on the way takes it for an error of its own."""


def rehearse(
    run: Callable[[], object], doors: Sequence[tuple[torch.nn.Module, tuple[str, ...] | None]]
) -> list[Arguments]:
    """What the model is about to hand to each of these modules, when it comes to them for the first time in `run()`.

    Args:
        doors: each with its `names`, see in_front.

    Raises:
        RuntimeError: it does not come to one of them.
    """
    names = dict(doors)
    caught = {}

    def note(given):
        caught.setdefault(given.module, given)
        if len(caught) == len(names):
            raise _Stopped

    try:
        with hooked(in_front(door, note, of_door) for door, of_door in names.items()):
            run()
    except _Stopped:
        return [caught[door] for door, _ in doors]
    missed = next(type(door).__name__ for door in names if door not in caught)
    raise RuntimeError(NEVER_CAME.format(missed))


@dataclass(frozen=True)
class Brought:
    """What the negative brings to a door.

    Args:
        tokens: (rows, tokens, width) of its text.
        places: its tokens' positions, or None.
        image_place: the position of the image's first token in the rehearsal, or None.
        mask: of its tokens, or None.
        vector: its modulation, or None.
    """

    tokens: torch.Tensor
    places: torch.Tensor | None = None
    image_place: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    vector: torch.Tensor | None = None


def brought_to(door, arguments: Arguments, count, image_first: bool) -> Brought:
    """What of a block's arguments is the negative's.

    Args:
        door: of the block, see doors.Door.
        count: what knows `of_text` how many tokens the text has, where it comes in one sequence with the image.
        image_first: whether it is [image | text].
    """
    tokens = arguments[door.text or door.sequence]
    n_text = tokens.shape[1] if door.text else count.of_text(tokens)
    places = arguments[door.places] if door.places else None
    image_place = None
    if places is not None:
        axis = token_axis(places)
        text_at, image_at = (places.shape[axis] - n_text, 0) if image_first else (0, n_text)
        places, image_place = places.narrow(axis, text_at, n_text), places.narrow(axis, image_at, 1)
        places, image_place = places.clone(), image_place.clone()  # a view would keep the image's, too
    given = lambda name: arguments[name] if name else None
    if not door.text:
        tokens = tokens[:, -n_text:].clone() if image_first else tokens[:, :n_text].clone()
    return Brought(tokens, places, image_place, given(door.text_mask), given(door.vector))


def token_axis(places: torch.Tensor) -> int:
    """Rotations come as (rows, tokens, 1, ...) or as (rows, 1, tokens, ...)."""
    return 1 if places.shape[2] == 1 else 2


class Rehearsals:
    """Calls a comfy.model_base.BaseModel for an entry of the negative in the positive's place: see ModelCall.rehearse.

    Through `_apply_model`, so that casts are done, and what the model's class adds; without other nodes' patches, and
    without the code that they have put on the model, which may count calls, or leave blocks out.

    Args:
        x, t, c_concat, transformer_options, given: the positive's call.
    """

    def __init__(self, model, adapter, x, t, c_concat, transformer_options, given: dict):
        self.model, self.x, self.t, self.c_concat = model, x, t, c_concat
        self.of_text, self.given, self.options = adapter.text_inputs, given, transformer_options

    def __call__(self, entry: dict, lists: dict[str, list[torch.nn.Module]], small: bool):
        x, c_concat = self.x, self.c_concat
        if small:
            patch = plain(self.model.diffusion_model).patch_size
            x, c_concat = (t if t is None else t[..., :patch, :patch] for t in (x, c_concat))
        text = dict(entry)
        tokens = text.pop("c_crossattn").to(x.device)
        of_text = {*self.of_text, *entry}  # with "y", unless it is the positive's alone
        of_picture = {name: value for name, value in self.given.items() if name not in of_text}
        options = {name: value for name, value in self.options.items() if name not in OF_OTHERS}
        return bare(self.model, lists)._apply_model(x, self.t, c_concat, tokens, None, options, **of_picture, **text)


def bare(model, lists):
    """A comfy.model_base.BaseModel with the same modules, and nothing on its diffusion model but what its class says.

    No hooks, no functions in the place of its methods, other packs' or torch.compile's, out of which nothing could be
    raised: so each thread can do without these while others go by them.

    Args:
        lists: the blocks of the diffusion model by the names of their lists, which others may have put something into.
    """
    net = _copied(plain(model.diffusion_model))
    for name, value in list(vars(net).items()):
        if callable(value) and hasattr(type(net), name):
            del net.__dict__[name]
    net._forward_hooks, net._forward_pre_hooks = OrderedDict(), OrderedDict()
    changed = {name: blocks for name, blocks in lists.items() if [*net._modules[name]] != blocks}
    net._modules.update({name: torch.nn.ModuleList(blocks) for name, blocks in changed.items()})
    bare = _copied(model)
    bare._modules["diffusion_model"] = net
    return bare


def _copied(module):
    copied = type(module).__new__(type(module))
    copied.__dict__.update(module.__dict__, _modules={**module._modules})
    return copied
