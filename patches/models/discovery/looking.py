"""Looks for where a model's text meets its picture: with texts of several lengths, until two come out differently."""
import dataclasses
import itertools
import logging
import math
import time

import torch

from ..compiled import plain
from ..foreign import is_foreign, named, own_class
from .calls import TinyCalls, seeds_kept
from .comparing import Runs
from .declaration import declaration
from .found import GENERIC, TEXT_ENCODER, FoundTransformer, Made, name_of
from .reading import Alike, Unsure, read
from .trial import try_doors
from .watching import watch

# Of texts, in tokens: models pad them to a multiple of 32 or 128, to 226, 512 or 1024, or cut them at 300 or fewer.
LENGTHS = ((71, 40), (661, 530), (1301, 1090), (7, 4))
POOLED = (
    "; its blocks modulate the text by the pooled output, too ({!r}), and there the negative's goes by the positive's: "
    "only what the two prompts say in tokens counts"
)
FIRST = 2  # of each list of blocks, on which the model is tried


class Uncalled(Unsure):
    """The model can't be called like this."""


def look(model: torch.nn.Module, entry: dict, noise: torch.Tensor, shapes, options: dict) -> FoundTransformer:
    """What is found of a comfy.model_base.BaseModel; see TinyCalls for the arguments.

    Raises:
        Unsure: it says what was seen.
    """
    start, name = time.perf_counter(), named(type(plain(model.diffusion_model)))
    outcome = "found it"
    try:
        with seeds_kept(noise.device):
            found = _by_any_way(model, entry, noise, shapes, options)
    except Unsure as unsure:
        outcome = unsure
        raise
    finally:
        seconds = time.perf_counter() - start
        logging.info("NAG: looked in %.1f s for where text and picture meet in %s: %s", seconds, name, outcome)
    logging.debug("NAG: its declaration:\n%s", _Declaration(found))
    return found


def _by_any_way(model, entry, noise, shapes, options):
    """By the first blocks or else all, with a tiny picture or one of the run's size, the run's inputs or its text."""
    plainly = {name: entry[name] for name in ("cross_attn", "pooled_output", "attention_mask") if name in entry}
    said = None
    for first, tiny, inputs in itertools.product((FIRST, None), (True, False), (entry, plainly)):
        try:
            return _by(TinyCalls(model, inputs, noise, shapes, options, first, tiny))
        except (Unsure, torch.cuda.OutOfMemoryError):
            raise
        except Exception as error:  # the model's own, whatever its code may raise
            logging.debug("NAG: a tiny call of the model", exc_info=True)
            said = said or f"it can't be called on tiny inputs ({type(error).__name__}: {error})"
    raise Uncalled(said)


def _by(calls: TinyCalls):
    alike, said = 0, None
    for lengths in LENGTHS:
        try:
            return _with(calls, *lengths, least=alike)
        except Alike as unsure:
            said, alike = unsure, max(lengths)
    raise said


def _with(calls, n_long, n_short, least):
    long = calls.prompt(n_long)
    if "c_crossattn" not in long.conds:
        raise Unsure(f"it is given its text otherwise than other models (as {', '.join(sorted(long.conds))})")
    short, another = calls.prompt(n_short, long), calls.prompt(n_long, long, other=True)
    see = lambda given: watch(calls.net, calls.lists, lambda override: calls(given, override))
    seen = Runs(see(long), see(short), see(calls.prompt(n_long, narrow=True)), see(another))
    other = None
    if calls.pooled is not None and "y" in long.conds:
        other = calls.prompt(n_long, long, pooled=True)
        other = None if _equal(other.conds["y"], long.conds["y"]) else {**long.conds, "y": other.conds["y"]}
    found = read(seen, other and see(type(long)(long.x, other, long.n)))
    kinds = tuple(dataclasses.replace(door, of_pack=is_foreign(own_class(calls.net))) for door in found.doors.kinds)
    doors = dataclasses.replace(found.doors, kinds=kinds)
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
        text_encoder=TEXT_ENCODER,
        doors=doors,
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
