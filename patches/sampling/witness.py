"""Tells a run in which NAG guides nothing, though it should, from one in which there is nothing to do."""
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch

from ..models.compiled import compiled_parts, plain
from ..models.foreign import named, replaced
from ..models.hooks import hooked

NOTHING_GUIDED = (
    "NAG was to act in this sampling run, but no attention was guided: the result would have been the one without NAG. "
    "{model} Another node has put its own attention or its own sampling in the place of ComfyUI's, or a cache has "
    "skipped the steps in which NAG was to act. Take the other nodes that change the model out, one by one, to find "
    "which; or take out NAG."
)
MODEL = "The diffusion model is a {}, its blocks are of {}."
FOREIGN = " Not ComfyUI's own: {}."
MOST = 4  # that are named


class Witness:
    """What happens in one sampling run.

    Args:
        model: the diffusion model.

    Attributes:
        blocks: those of its modules in which its text meets its image, and NAG is to act.
        to_guide: the conditionings that NAG is to guide, as ComfyUI names them in the options of a call.
        guided: attention was guided. Set where the model is traced, too, so it is never read there.
    """

    def __init__(self, model: torch.nn.Module | None = None):
        self.model, self.blocks = model, []
        self.to_guide = set()
        self.guided = False
        self._asked = False  # for a prediction in which NAG was to act
        self._called = False  # the model
        self._seen = _Seen()
        self._listeners = []  # the hooks of the prediction at work

    def expect(self, modules: Iterable[torch.nn.Module]) -> None:
        """NAG is to act in these."""
        self.blocks += [module for module in modules if module not in self.blocks]

    @contextmanager
    def prediction(self) -> Iterator[None]:
        """Around a prediction, for which a sampler asks, in which NAG is to act.

        Raises:
            RuntimeError: at its end, if what was to be guided was computed, and no attention was guided in this run so
                far. Where a cache answered instead, what comes later may be guided.
        """
        self._asked = True
        if self.guided:
            yield
            return
        may_be_cached, self._seen = self._called, _Seen()
        with hooked(self._listening(self._seen)) as self._listeners:
            yield
        if not self.guided and self._seen.unguided(may_be_cached):
            raise RuntimeError(self._nothing_guided())

    @contextmanager
    def call(self, model: torch.nn.Module, to_guide: bool | None) -> Iterator[None]:
        """Around a call of the model.

        to_guide: whether NAG is to act in it; None: it is a guided conditioning's, and has lost what guides it.
        """
        self._asked |= bool(to_guide)
        if plain(model) is not self.model:  # another device's, maybe at the same time
            yield
            return
        if not self.guided and compiled_parts(model):  # with these hooks it would be another graph, which notes nothing
            for listener in self._listeners:
                listener.remove()
        with self._seen.during(to_guide):
            yield
        self._called = True

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Around a rehearsal, whose computations are none of the run's."""
        self._seen.is_rehearsal = True
        try:
            yield
        finally:
            self._seen.is_rehearsal = False

    def check(self) -> None:
        """At the end of the run. Raises a RuntimeError if NAG was to act in a prediction, and guided none."""
        if self._asked and not self.guided:
            raise RuntimeError(self._nothing_guided())

    def _listening(self, seen):
        """Hooks that note what of the model is computed."""
        for block in self.blocks:
            yield block.register_forward_pre_hook(seen.noting(seen.blocks))
        for child in self.model.children():
            yield child.register_forward_pre_hook(seen.noting(seen.models))

    def _nothing_guided(self):
        return NOTHING_GUIDED.format(model=describe(self.model, self.blocks))


class _Seen:
    """What was computed in one prediction, each by the `to_guide` of the call that it was part of.

    None is also what lies outside of all calls of which we know.
    """

    def __init__(self):
        self.blocks, self.models = set(), set()
        self.calls, self.at_work, self.is_rehearsal = set(), None, False

    @contextmanager
    def during(self, to_guide):
        before, self.at_work = self.at_work, to_guide
        self.calls.add(to_guide)
        try:
            yield
        finally:
            self.at_work = before

    def noting(self, computed):
        def note(module, args):
            if torch.compiler.is_compiling():  # else it would be noted each time that the graph is traced
                return
            if not self.is_rehearsal:
                computed.add(self.at_work)

        return note

    def unguided(self, may_be_cached):
        if True not in self.calls:
            return None in self.blocks
        # What skips all blocks is a cache, if the model has been called before.
        return True in self.blocks or True in self.models and not may_be_cached


def describe(model: torch.nn.Module, blocks: Sequence[torch.nn.Module]) -> str:
    """A sentence or two on a diffusion model: its class, its blocks' classes, and what of it is another pack's."""
    lists = [child for child in model.children() if isinstance(child, torch.nn.ModuleList)]
    listed = [each for blocks_of_one in lists for each in blocks_of_one if not isinstance(each, torch.nn.Sequential)]
    kinds = " and ".join(dict.fromkeys(named(type(block)) for block in (*listed, *blocks)))
    foreign = replaced(model)
    more = f" and {len(foreign) - MOST} more" if len(foreign) > MOST else ""
    return MODEL.format(named(type(model)), kinds) + (
        FOREIGN.format(", ".join(foreign[:MOST]) + more) if foreign else ""
    )
