"""What the tiny models of families without a written-out oracle are made of."""
import importlib
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass

import comfy.model_base
import comfy.ops
import comfy.supported_models
import pytest
import torch

from families import Family
from oracle import lockstep
from oracle.lockstep import Tokens, lockstep_model

TEXT = 24
PICTURE, FRAME = (16, 8, 12), (16, 1, 8, 12)
FEW_CHANNELS = (16, 3, 6, 8)
PIXELS = (3, 16, 24)
NOBODYS = (5.0, 2.5, 0.25)


@dataclass(frozen=True)
class DoorFamily(Family):
    """A family without a written-out oracle.

    Args:
        tokens: see Tokens.
        width: of its text.
        masked: its text encoder gives a mask with every text, also where it hides nothing.
        of_text: what its text encoder tells of a text of so many tokens.
    """

    tokens: Tokens = None
    width: int = TEXT
    masked: bool = False
    of_text: Callable[[int], dict] = lambda n: {}

    def conditioning(self, seed, tokens, pooled=20, hidden=0, **values):
        """hidden: how many of the tokens, the last ones, a mask hides."""
        torch.manual_seed(seed)
        mask = (torch.arange(tokens) < tokens - hidden).long()[None]
        masks = {"attention_mask": mask} if self.masked or hidden else {}
        entry = {"pooled_output": torch.randn(1, pooled), **masks, **self.inputs(), **self.of_text(tokens), **values}
        return [[torch.randn(1, tokens, self.width), entry]]

    @property
    def oracle(self):
        return lockstep

    def exact(self, patcher):
        return lockstep_model(patcher, self.tokens)

    def lockstep(self):
        return self.exact(self.patcher())


def model(base, config, takes=None, needs=(), changed=None, **settings):
    """A builder, by ComfyUI's classes of these names; the test is skipped where this ComfyUI has no such model.

    Args:
        takes: the class below comfy.ldm whose arguments the settings are. Those that it does not have are left out;
            none, if it is not told.
        needs: those of the settings without which it is no such model.
        changed: called with the diffusion model and the dtype, to make small what its settings leave large.
    """

    def build(dtype):
        made, told = getattr(comfy.model_base, base, None), getattr(comfy.supported_models, config, None)
        there = made is not None and told is not None
        known = arguments_of(takes) | {"image_model"} if there and takes else {*settings}
        if not there or not {*needs} <= known:
            pytest.skip(f"this ComfyUI has no {base} that takes {', '.join(needs) or 'anything'}")
        fitting = {name: value for name, value in settings.items() if name in known}
        extra = {name: value for name, value in told.unet_extra_config.items() if name not in fitting}
        built = made(type(config, (told,), {"unet_extra_config": extra})({**fitting, "dtype": dtype}))
        if changed is not None:
            changed(built.diffusion_model, dtype)
        return built

    return build


def arguments_of(path):
    """The names of what a class below comfy.ldm, or its bases, is made with."""
    module, _, name = path.rpartition(".")
    cls = getattr(importlib.import_module(f"comfy.ldm.{module}"), name)
    return {name for each in cls.__mro__ if "__init__" in vars(each) for name in inspect.signature(each).parameters}


def patches_of(size, further=0):
    """How many patches of size x size a picture has, with so many of further pictures behind it."""
    return lambda latent: further + math.prod(math.ceil(n / size) for n in latent[-2:]) * math.prod(latent[1:-2])


def padded(tokens, multiple):
    return -(-tokens // multiple) * multiple


def references(*shapes, method=None, **values):
    """What a conditioning with reference latents of these shapes, and other values, holds."""
    how = {} if method is None else {"reference_latents_method": method}
    return lambda: {"reference_latents": [torch.randn(1, *shape) for shape in shapes], **how, **values}
