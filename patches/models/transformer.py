"""A family that is a declaration: what a reader takes in at one look, and no code."""
import math
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from ..settings import Strength
from .adapter import Adapter
from .doors import Doors
from .places import Layout, patch_of, patch_of_sizes


@dataclass(frozen=True, eq=False)
class Transformer(Adapter):
    """A family whose negative waits at the doors.

    Args:
        families, text_encoder, since, text_input, text_inputs, shared_inputs: see Adapter.
        doors: see Doors.
        width: the path of the module that takes the text, or names of numbers whose product is the text's width, or
            what gives, of a diffusion model, all the widths that it takes, the usual first.
        pooled: the path of the module that takes the pooled output. The image goes by the positive's.
        patch: the name of the size of a patch of the image, or how many pixels one has, or what tells that of a model;
            see Adapter.pixels_a_token.
        others: see places.Layout.
        token: how large a token is along each axis of a latent of so many, where `patch` does not tell; or None.
        made: how many tokens are made of a text of so many, by extra_conds and by the diffusion model.
        which: of several families, the name of that of a diffusion model.
        only: whether it is for a diffusion model, where others share its class.
        refused: why a diffusion model of the class can't be guided, or None.
        needed_inputs, refused_inputs, needed, parts, image_streams: see Adapter.
    """

    families: dict[str, Strength]
    text_encoder: str
    doors: Doors
    width: str | tuple[str, ...] | Callable[[torch.nn.Module], tuple[int, ...]]
    since: dict[str, str] = field(default_factory=dict)
    text_input: str = Adapter.text_input
    text_inputs: tuple[str, ...] = ("attention_mask",)
    shared_inputs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    which: Callable[[torch.nn.Module], str] | None = None
    only: Callable[[torch.nn.Module], bool] = lambda model: True
    refused: Callable[[torch.nn.Module], str | None] = lambda model: None
    needed_inputs: dict[str, str] = field(default_factory=dict)
    refused_inputs: dict[str, str] = field(default_factory=dict)
    pooled: str | None = None
    patch: str | int | Callable[[torch.nn.Module], int] = "patch_size"
    others: str | None = None
    token: Callable[[torch.nn.Module, int], tuple[int, ...] | None] | None = None
    made: Callable[[torch.nn.Module, int], int] = lambda model, n: n
    needed: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    image_streams: tuple[str, ...] = Adapter.image_streams

    @property
    def block_lists(self):
        return tuple(dict.fromkeys(door.blocks for door in self.doors.kinds))

    @property
    def of_pack(self):
        return self.doors.kinds[0].of_pack

    @property
    def is_joint(self):
        return self.doors.kinds[0].cross is None

    @property
    def mechanism(self):
        where = "" if self.doors.kinds[0].projection is None else ", in front of its projection"
        return super().mechanism + where

    def serves(self, model):
        return self.only(model)

    def unsupported(self, model):
        return self.refused(model.diffusion_model)

    def family(self, model):
        return super().family(model) if self.which is None else self.which(model.diffusion_model)

    def labelled(self, model):
        found = {}
        for door in self.doors.kinds:
            for label, block in door.labelled(model).items():
                found.setdefault(label, []).append(door.meets_in(block))
        return found

    def missing(self, model):
        kinds = [(door, block) for door in self.doors.kinds for block in door.find(model)[:1]]
        if not kinds:
            return [f"{self.doors.kinds[0].blocks} in {type(model).__name__}"]
        return super().missing(model) + [each for door, block in kinds for each in door.missing(block)]

    def text_widths(self, model):
        return self.width(model) if callable(self.width) else (self.text_width(model),)

    def text_width(self, model):
        if callable(self.width):
            return self.width(model)[0]
        if isinstance(self.width, str):
            return model.get_submodule(self.width).in_features
        return math.prod(getattr(model, name) for name in self.width)

    def n_tokens(self, model, n):
        return self.made(model, n)

    def pixels_a_token(self, model):
        if not isinstance(self.patch, str):
            return self.patch(model) if callable(self.patch) else self.patch
        size = getattr(model, self.patch)
        return size**2 if isinstance(size, int) else math.prod(size)

    def layout(self, model, n_axes):
        if self.token is not None:
            patch = self.token(model, n_axes)
        elif isinstance(self.patch, str):
            patch = patch_of_sizes(getattr(model, self.patch), n_axes)
        else:
            patch = patch_of(self.pixels_a_token(model), n_axes)
        return None if patch is None else Layout(patch, self.others)

    @property
    def weighs_keys(self):
        return self.doors.kinds[0].projection is None

    def pooled_width(self, model):
        return model.get_submodule(self.pooled).in_features if self.pooled else None

    @contextmanager
    def guided(self, model, call):
        with self.doors.held(model, call):
            yield call.context, call.transformer_options


NOBODYS = Strength(5.0, 2.5, 0.25, whose="Flux.1's: nobody has published any")


def padded(multiple: int, n: int) -> int:
    """n, or the next multiple."""
    return math.ceil(n / multiple) * multiple
