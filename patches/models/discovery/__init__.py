"""A model of no declared family: it is called on tiny inputs, and where its text meets its picture is found.

It is called for two texts and two pictures, and what its first blocks are handed is compared (`reading`). What is found
is tried before it is used (`trial`).
"""
import itertools
import logging
import math
import threading
import time
import weakref
from dataclasses import dataclass

import torch

from ...settings import Strength
from ..adapter import Adapter
from ..compiled import plain
from ..foreign import named
from ..transformer import Transformer, padded
from .calls import SHAPES, TinyCalls, hides, lists_of, of_prompts, seeds_kept
from .declaration import declaration
from .reading import Alike, Runs, Unsure, read
from .trial import try_doors
from .watching import watch

GENERIC = Strength(5.0, 2.5, 0.25, whose="generic: found, not declared")
# Of texts, in tokens: models pad them to a multiple of 32 or 128, to 226, 512 or 1024, or cut them at 300 or fewer.
LENGTHS = ((71, 40), (661, 530), (1301, 1090), (7, 4))
NOT_FOUND = "has no adapter for it yet, and does not find out by itself where its text meets its picture: {}"
POOLED = (
    "; its blocks modulate the text by the pooled output, too ({!r}), and there the negative's goes by the positive's: "
    "only what the two prompts say in tokens counts"
)
FIRST = 2  # of each list of blocks, on which the model is tried

# Facts: {diffusion model: {what it was looked at with: FoundTransformer or Unsure}}.
_found = weakref.WeakKeyDictionary()
_looking = threading.RLock()


def found_of(model: torch.nn.Module) -> list["FoundTransformer"]:
    """What has been found of a diffusion model so far."""
    return [each for each in _found.get(plain(model), {}).values() if not isinstance(each, Unsure)]


def can_be_found(model: torch.nn.Module) -> bool:
    """Whether a diffusion model has lists of modules, among which its blocks may be."""
    return bool(lists_of(plain(model)))


class Undeclared(Adapter):
    """For a model that is not known before it runs.

    Args:
        model: the diffusion model.
    """

    text_encoder = "the model's own"
    is_joint = True  # for the estimate of memory: that is more

    def __init__(self, model: torch.nn.Module):
        self.families = {name_of(model): GENERIC}

    def blocks(self, model):
        return []

    def text_width(self, model):
        raise NotImplementedError

    def text_widths(self, model):
        return ()  # not known

    def n_tokens(self, model, n):
        return max((each.n_tokens(model, n) for each in found_of(model)), default=max(n, 512))  # as many models pad it

    def pixels_a_token(self, model):
        return max((each.pixels_a_token(model) for each in found_of(model)), default=super().pixels_a_token(model))

    def guided(self, model, call):
        raise NotImplementedError

    def found(
        self, model: torch.nn.Module, positive: dict, negative: dict, noise: torch.Tensor, options: dict
    ) -> "FoundTransformer":
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
        masks = [name for name, value in entry.items() if hides(value)]
        codes = [(type(blocks[0]), blocks[0].__dict__.get("forward")) for blocks in lists_of(net).values()]
        key = (*sorted(entry), *masks, entry["cross_attn"].shape[-1], type(net), noise.ndim, *codes)
        with _looking:
            known = _found.setdefault(net, {})
            if key not in known:
                known[key] = _looked_for(model, entry, noise, shapes and shapes.cond, options)
            if isinstance(known[key], Unsure):
                raise known[key]
            return known[key]


def name_of(model: torch.nn.Module) -> str:
    return f"found, not declared: {named(type(plain(model)))}"


@dataclass(frozen=True, eq=False)
class FoundTransformer(Transformer):
    """A Transformer that nobody has declared.

    Args:
        notices: what is to be said of it, in sentences.
        pooled_size: the width of the pooled output that comes with its prompts; None: it makes nothing of it.
    """

    notices: tuple[str, ...] = ()
    pooled_size: int | None = None

    def pooled_width(self, model):
        return self.pooled_size


@dataclass(frozen=True)
class Made:
    """How many tokens the model makes of a text of n: about, for the estimate of memory."""

    multiple: int = 1
    least: int = 0
    more: int = 0

    @classmethod
    def seen(cls, made: dict[int, int], least: int) -> "Made":
        """made: of some lengths; least: up to how many it makes the same number of all."""
        more = {tokens - n for n, tokens in made.items()}
        multiple = math.gcd(*made.values())
        return cls(1, least, *more) if len(more) == 1 else cls(multiple if multiple >= 8 else 1, least)

    def __call__(self, model, n):
        return padded(self.multiple, max(n, self.least)) + self.more


def _looked_for(model, entry, noise, shapes, options):
    """A FoundTransformer, or Unsure with what was seen."""
    start, name = time.perf_counter(), named(type(plain(model.diffusion_model)))
    with seeds_kept(noise.device):
        result = _by_any_way(model, entry, noise, shapes, options)
    seconds = time.perf_counter() - start
    if isinstance(result, Unsure):
        logging.warning("NAG: looked in %.1f s for where text and picture meet in %s: %s", seconds, name, result)
        return result
    logging.info("NAG: looked in %.1f s for where text and picture meet in %s, and found it", seconds, name)
    logging.debug("NAG: its declaration:\n%s", _Declaration(result))
    return result


def _by_any_way(model, entry, noise, shapes, options):
    """By the first blocks or else all, with a tiny picture or one of the run's size, the run's inputs or its text."""
    plainly = {name: entry[name] for name in ("cross_attn", "pooled_output", "attention_mask") if name in entry}
    said = None
    for first, tiny, inputs in itertools.product((FIRST, None), (True, False), (entry, plainly)):
        try:
            return _found_by(TinyCalls(model, inputs, noise, shapes, options, first, tiny))
        except Unsure as unsure:
            return unsure
        except Exception as error:  # the model's own, whatever its code may raise
            logging.debug("NAG: a tiny call of the model", exc_info=True)
            said = said or Unsure(f"it can't be called on tiny inputs ({type(error).__name__}: {error})")
    return said


def _found_by(calls: TinyCalls):
    alike = 0
    for lengths in LENGTHS:
        try:
            return _found_with(calls, *lengths, least=alike)
        except Alike as unsure:
            said, alike = unsure, max(lengths)
    raise said


def _found_with(calls, n_long, n_short, least):
    long = calls.prompt(n_long)
    short, another = calls.prompt(n_short, long), calls.prompt(n_long, long, other=True)
    see = lambda given: watch(calls.net, calls.lists, lambda override: calls(given, override))
    seen = Runs(see(long), see(short), see(calls.prompt(n_long, narrow=True)), see(another))
    other = None
    if calls.pooled is not None and "y" in long.conds:
        other = calls.prompt(n_long, long, pooled=True)
        other = None if _equal(other.conds["y"], long.conds["y"]) else {**long.conds, "y": other.conds["y"]}
    found = read(seen, other and see(type(long)(long.x, other, long.n)))
    differ = (
        name for name in long.conds
        if any(name in text.conds and not _equal(long.conds[name], text.conds[name]) for text in (short, another))
    )
    made = Made.seen({n_long: found.n_text, n_short: found.n_short}, least)
    net, width = calls.net, calls.entry["cross_attn"].shape[-1]
    path = next((f.path for f in seen.long.linear if f.module.in_features == width and _reads(f, n_long, width)), None)
    name = name_of(net)
    said = f"{name}; auto stands for generic values{POOLED.format(found.vector) if found.vector else ''}."
    adapter = FoundTransformer(
        families={name: GENERIC},
        text_encoder=Undeclared.text_encoder,
        doors=found.doors,
        width=path or (lambda model: (width,)),
        text_inputs=tuple(name for name in differ if name not in ("c_crossattn", "y")),
        patch=max(1, math.prod(long.x.shape[2:]) // found.n_image),
        made=made,
        notices=(said,),
        pooled_size=calls.pooled.shape[-1] if other is not None else None,
    )
    try_doors(calls, adapter, found, long, short)
    return adapter


def _reads(frame, n, width):
    return any(torch.is_tensor(t) and t.shape[-2:] == (n, width) for t in frame.given.values())


def _equal(a, b):
    if torch.is_tensor(a) and torch.is_tensor(b):
        return a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    return type(a) is type(b) and not torch.is_tensor(a) and a == b


class _Declaration:
    """Written only if somebody reads the log."""

    def __init__(self, adapter):
        self.adapter = adapter

    def __str__(self):
        return declaration(self.adapter)


__all__ = ["GENERIC", "NOT_FOUND", "FoundTransformer", "Undeclared", "Unsure", "can_be_found", "found_of"]
