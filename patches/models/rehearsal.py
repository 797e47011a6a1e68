"""The negative's text as the model itself makes it: the model is run for it, as far as the door of its first block.

How a family refines, pads, orders and places its text is nobody's business but the model's.
"""
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..attention.override import OVERRIDE
from .adapter import Adapter
from .arguments import Arguments, in_front
from .compiled import is_sharded_within, plain
from .foreign import is_torchs
from .hooks import hooked
from .lists import copied, listed, put

OF_OTHERS = ("patches", "patches_replace", "wrappers", "callbacks", OVERRIDE)  # of the transformer_options
REFERENCES = "ref_latents"  # which some models refine in front of their blocks, as they do the picture
TEXT = Adapter.text_input
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
        places: its tokens' positions, as one tensor or a tuple of some, or None.
        image_place: those of the image's first token in the rehearsal, or of all for a projection, or None.
        mask: of its tokens, or None.
        vector: its modulation, or None.
        lengths: how many tokens each row has, or None.
        own: further tokens, for each block those that it alone is given. The places are for these, too.
        segments: of its tokens, as (start, stop, ...), or nothing.
    """

    tokens: torch.Tensor
    places: torch.Tensor | tuple[torch.Tensor, ...] | None = None
    image_place: torch.Tensor | tuple[torch.Tensor, ...] | None = None
    mask: torch.Tensor | None = None
    vector: torch.Tensor | None = None
    lengths: list[int] | None = None
    own: Sequence[torch.Tensor] = ()
    segments: Sequence[tuple] = ()


def brought_to(
    door, arguments: Arguments, count, image_first: bool, own: Sequence[torch.Tensor] = ()
) -> Brought:
    """What of a block's arguments is the negative's.

    Args:
        door: of the block, see doors.Door.
        count: what knows `of_text` how many tokens the text has, where it comes in one sequence with the image.
        image_first: whether it is [image | text].
        own: see Brought. The door's block is the first.
    """
    tokens = arguments[door.text].movedim(door.text_axis, 1) if door.text else arguments[door.sequence]
    if door.attended:
        tokens = tokens[:, : arguments[door.attended]]
    n_text = tokens.shape[1] if door.text else count.of_text(tokens)
    given = lambda name: arguments[name] if name else None
    text_of = lambda t, axis: t.narrow(axis, t.shape[axis] - n_text if image_first else 0, n_text)
    image_place = None
    if given(door.places) is not None:
        n = tokens.shape[1] - n_text if door.projection else 1
        first = lambda t: t.narrow(token_axis(t), 0 if image_first else n_text, n).clone()
        image_place = by_part(first, given(door.places))
    # A view would keep the image's, too.
    places = by_part(lambda t: text_of(t, token_axis(t)).clone(), given(door.places or door.text_places))
    mask = given(door.text_mask)
    if given(door.mask) is not None:
        mask = text_of(of_keys(given(door.mask), image_first), -1).clone()
    if not door.text:
        tokens = text_of(tokens, -2).clone()
    if own:
        tokens = tokens[:, : -own[0].shape[1]]
    lengths = given(door.projection.lengths) if door.projection else None
    segments = [each for each in given(door.segments) or () if each[1] <= n_text]
    return Brought(tokens, places, image_place, mask, given(door.vector), lengths, own, segments)


def token_axis(places: torch.Tensor) -> int:
    """Rotations come as (rows, tokens, 1, ...), (rows, 1, tokens, ...) or (rows, tokens, width), or without rows."""
    if places.ndim < 5:
        return 1 if places.ndim == 3 else 0
    return 1 if places.shape[2] == 1 else 2


def by_part(change: Callable, *places):
    """`change` of positions, or of each tensor of tuples of them; None where there are none."""
    if places[0] is None:
        return None
    if torch.is_tensor(places[0]):
        return change(*places)
    return tuple(change(*parts) for parts in zip(*places))


def of_keys(mask: torch.Tensor, image_first: bool) -> torch.Tensor:
    """(..., 1, keys) of a mask of text and image: what the image sees."""
    return mask[..., :1, :] if image_first else mask[..., -1:, :]


class Rehearsals:
    """Calls a comfy.model_base.BaseModel for an entry of the negative in the positive's place: see ModelCall.rehearse.

    Through `_apply_model`, so that casts are done, and what the model's class adds; without other nodes' patches, and
    without the code that they have put on the model, which may count calls, or leave blocks out.

    Args:
        x, t, c_concat, transformer_options, given: the positive's call.
    """

    def __init__(self, model, adapter, x, t, c_concat, transformer_options, given: dict):
        self.model, self.x, self.t, self.c_concat = model, x, t, c_concat
        self.text, self.given, self.options = adapter.text_input, given, transformer_options
        self.of_text = (TEXT, self.text, *adapter.text_inputs)
        self.shared = adapter.shared_inputs

    def __call__(self, entry: dict, lists: dict[str, list[torch.nn.Module]], small: bool):
        x, c_concat = self.x, self.c_concat
        of_text = {*self.of_text, *entry}  # with "y", unless it is the positive's alone
        of_picture = {name: value for name, value in self.given.items() if name not in of_text}
        if small:
            patch = plain(self.model.diffusion_model).patch_size
            patch = patch if isinstance(patch, int) else patch[-1]
            x, c_concat = (t if t is None else t[..., :patch, :patch] for t in (x, c_concat))
            if of_picture.get(REFERENCES):
                of_picture[REFERENCES] = [t[..., :patch, :patch] for t in of_picture[REFERENCES]]
        text = {**entry, **self._with_pictures(entry)}
        text[self.text] = text.pop(TEXT).to(x.device)
        tokens = text.pop(TEXT, None)
        options = {name: value for name, value in self.options.items() if name not in OF_OTHERS}
        return bare(self.model, lists)._apply_model(x, self.t, c_concat, tokens, None, options, **of_picture, **text)

    def _with_pictures(self, entry):
        """What holds both the text's and the picture's, with the positive's picture."""
        return {
            name: {**{key: value for key, value in self.given[name].items() if key not in of_text}, **entry[name]}
            for name, of_text in self.shared.items()
            if name in entry
        }


def bare(model, lists):
    """A comfy.model_base.BaseModel with the same modules, and nothing on its diffusion model but what its class says.

    No hooks but PyTorch's own, such as FSDP's; no functions in the place of its methods, other packs' or
    torch.compile's, out of which nothing could be raised: so each thread can do without these while others go by them.

    Args:
        lists: the blocks of the diffusion model by the paths of their lists, which others may have put something into.

    What FullyShardedDataParallel is around can't be copied, since it gets its weights where it is: that is as it is.
    """
    if is_sharded_within(model.diffusion_model):
        return model
    net = copied(plain(model.diffusion_model))
    for name, value in list(vars(net).items()):
        if callable(value) and hasattr(type(net), name):
            del net.__dict__[name]
    net._forward_hooks, net._forward_pre_hooks = _torchs(net._forward_hooks), _torchs(net._forward_pre_hooks)
    for path, blocks in lists.items():
        theirs = listed(net, path)
        if theirs != blocks and not any(isinstance(each, torch.nn.ModuleList) for each in theirs):  # lists of lists
            put(blocks, net, path)
    bare = copied(model)
    bare._modules["diffusion_model"] = net
    return bare


def _torchs(hooks):
    """PyTorch's own of a module's hooks: FSDP's bring its weights."""
    return OrderedDict((key, hook) for key, hook in hooks.items() if is_torchs(hook))
