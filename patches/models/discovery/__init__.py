"""A model of no declared family: it is called on tiny inputs, and where its text meets its picture is found.

It is called for several texts and pictures, and what its first blocks are handed is compared (`reading`). What is found
is tried before it is used (`trial`).
"""
import threading
import weakref

import torch

from ..adapter import Adapter
from ..compiled import plain
from ..places import Layout
from .calls import SHAPES, hides, lists_of, of_prompts
from .found import GENERIC, TEXT_ENCODER, FoundTransformer, name_of
from .looking import Uncalled, look
from .reading import Unsure

NOT_FOUND = "has no adapter for it yet, and does not find out by itself where its text meets its picture: {}"

# Facts: {diffusion model: {what it was looked at with: FoundTransformer, or what was seen instead}}.
_found = weakref.WeakKeyDictionary()
_looking = threading.RLock()


def found_of(model: torch.nn.Module) -> list[FoundTransformer]:
    """What has been found of a diffusion model so far."""
    return [each for each in _found.get(plain(model), {}).values() if not isinstance(each, str)]


def can_be_found(model: torch.nn.Module) -> bool:
    """Whether a diffusion model has lists of modules, among which its blocks may be."""
    return bool(lists_of(plain(model)))


class Undeclared(Adapter):
    """For a model that is not known before it runs.

    Args:
        model: the diffusion model.
    """

    text_encoder = TEXT_ENCODER
    is_joint = True  # for the estimate of memory: that is more

    def __init__(self, model: torch.nn.Module):
        self.families = {name_of(model): GENERIC}

    def labelled(self, model):
        return {}

    def text_width(self, model):
        raise NotImplementedError

    def text_widths(self, model):
        return ()  # not known

    def n_tokens(self, model, n):
        return max((each.n_tokens(model, n) for each in found_of(model)), default=max(n, 512))  # as many models pad it

    def pixels_a_token(self, model):
        return max((each.pixels_a_token(model) for each in found_of(model)), default=super().pixels_a_token(model))

    def layout(self, model, n_axes):
        return Layout(None)  # which it may turn out to have

    def guided(self, model, call):
        raise NotImplementedError

    def found(
        self, model: torch.nn.Module, positive: dict, negative: dict, noise: torch.Tensor, options: dict
    ) -> FoundTransformer:
        """The adapter for a comfy.model_base.BaseModel, which is loaded; looked for once for each kind of prompt.

        Args:
            positive, negative: conditionings of the run, as a guider holds them.
            noise: of the run.
            options: the run's transformer_options.

        Raises:
            Unsure: it says what was seen.
        """
        shapes = positive.get("model_conds", {}).get(SHAPES)
        entry, net = of_prompts(positive, negative), plain(model.diffusion_model)
        with _looking:
            known, key = _found.setdefault(net, {}), _key(net, entry, noise)
            if key not in known:
                known[key] = _looked(model, entry, noise, shapes and shapes.cond, options)
        if isinstance(known[key], str):
            raise Unsure(known[key])
        return known[key]


def _looked(*args):
    """A FoundTransformer, or what was seen instead: an exception would keep the model."""
    try:
        return look(*args)
    except Uncalled:
        raise
    except Unsure as unsure:
        return str(unsure)


def _key(net, entry, noise):
    """What facts depend on: with what kind of prompt, and by whose code."""
    masks = [name for name, value in entry.items() if hides(value)]
    firsts = [blocks[0] for blocks in lists_of(net).values()]
    codes = [(type(block), getattr(block.forward, "__qualname__", None)) for block in firsts]
    return (*sorted(entry), *masks, entry["cross_attn"].shape[-1], type(net), noise.ndim, *codes)


__all__ = ["NOT_FOUND", "FoundTransformer", "Undeclared", "Unsure", "can_be_found", "found_of"]
