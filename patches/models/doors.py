"""The negative waits at the doors: in front of each block its tokens join the text's, behind it they leave.

What lies between the blocks (other nodes' patches, ControlNets, caches, the model's own slices) sees a sequence without
them. Inside of a block they stand at the free end of the text's, and the attention override parts the prompts.
"""
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch

from ..blocks import Label, list_name
from ..settings import MODALITIES
from .adapter import ModelCall
from .arguments import OPTIONS, names_of, takes
from .compiled import plain
from .foreign import is_comfys, native
from .hooks import hooked
from .lists import holder, listed
from .projection import CrossProjectionVisit, JointProjection, Projection
from .rehearsal import Brought, brought_to, rehearse
from .visit import CrossVisit, JointVisit

SOUND = MODALITIES[2]


@dataclass(frozen=True)
class Door:
    """The facts about one kind of block.

    Args:
        blocks: the path of the model's list, or dict, of them.
        text: the argument with the text alone; None where it comes in one sequence with the image.
        text_axis: which of its axes counts the tokens.
        sequence: the argument with text and image; None where the text comes alone.
        image: the argument with the image alone, where the block attends within it, too.
        out: which of a block's outputs is the text, where it comes alone.
        places: the argument with the positions of text and image, as rotations: one tensor, or a tuple of some.
        text_places: that with the positions of the text alone.
        text_mask: the argument with a mask of the text's keys, added to the scores: (rows, keys) or with axes between.
        mask: that with a mask of all keys, (..., queries or 1, keys), in which nothing sees what the image does not.
            Where the text comes alone, and no places do, it comes with every text.
        indices: the argument with places in the sequence, as (start, stop, ...) or as one.
        attended: how many of the text's tokens attend; behind them, where it comes alone, it is padded.
        segments: the argument with places in the sequence, as (start, stop, ...), of which the text has its own.
        vector: the argument with the modulation that the pooled output goes into. The image keeps the positive's; what
            the negative's is good for, `within` knows.
        within: what else there is to do inside of a block, in one model call: gives the hooks on one.
        cross: the path, inside of a block, of the module in which the image attends to the text alone; "" is the block.
            The negative joins the text in front of the block, which may modulate both; no block hands on a text.
        projection: where the prompts meet, if no override reaches the attention.
        modality: which of settings.MODALITIES the text is for, where each has one of its own.
        names: of a block's arguments in their order, where its forward() does not tell.
        of_pack: the blocks are another pack's, as the model is.
    """

    blocks: str
    text: str | None = None
    text_axis: int = 1
    sequence: str | None = None
    image: str | None = None
    out: int | None = None
    places: str | None = None
    text_places: str | None = None
    text_mask: str | None = None
    mask: str | None = None
    indices: str | None = None
    attended: str | None = None
    segments: str | None = None
    vector: str | None = None
    within: Callable[[JointVisit, ModelCall, torch.nn.Module], Callable[[torch.nn.Module], Iterator]] | None = None
    cross: str | None = None
    projection: Projection | None = None
    modality: str | None = None
    names: tuple[str, ...] | None = None
    of_pack: bool = False

    def find(self, model: torch.nn.Module) -> list[torch.nn.Module]:
        """The modules of a diffusion model, in order, also where a cache of another pack has put itself around them."""
        net = plain(model)
        if self.of_pack:
            return listed(net, self.blocks)
        others = (each for each in _in_lists(holder(net, self.blocks)) if not is_comfys(each))
        found = listed(net, self.blocks) or others
        return [block for each in found for block in ([each] if is_comfys(each) else self._inside(each))]

    def labelled(self, model: torch.nn.Module) -> dict[Label, torch.nn.Module]:
        """The same by their labels."""
        return {(list_name(self.blocks), number): block for number, block in enumerate(self.find(model))}

    def _inside(self, module):
        if is_comfys(module):
            return [module] if (self.text or self.sequence) in names_of(native(module).forward) else []
        return [block for child in module.children() for block in self._inside(child)]

    def meets_in(self, block: torch.nn.Module) -> torch.nn.Module:
        """The module of a block in which its text meets its image."""
        return block if self.cross is None else plain(block).get_submodule(self.cross)

    def missing(self, block: torch.nn.Module) -> list[str]:
        """The arguments without which NAG does not get into a block, and that it does not have."""
        text, at = self.text or self.sequence, self.projection
        module = self.meets_in(block) if at is None else at.attention(self.meets_in(block))
        class_of = (lambda part: type(plain(part))) if self.of_pack else native
        wanted = [(class_of(block), text), (class_of(module), OPTIONS if at is None else at.text or text)]
        lost = [f"{cls.__name__}.forward({name})" for cls, name in wanted if not takes(cls, name)]
        return lost + ([] if at is None else at.missing(plain(module)))

    def serves(self, modality: str) -> bool:
        """Whether NAG is to act here; modality: one of settings.MODALITIES."""
        return modality == MODALITIES[0] or self.modality in (None, modality)


def _in_lists(module):
    children = () if module is None else module.children()
    return itertools.chain.from_iterable(child for child in children if isinstance(child, torch.nn.ModuleList))


@dataclass(frozen=True)
class Doors:
    """The doors of a family, and what is to be known to stand at them.

    Args:
        kinds: of blocks, in the model's order.
        text_module: the path of the last module that has the text alone, where no block has; None, too, where it has as
            many tokens at the blocks as it comes with.
        image_module: that of the last that has the image alone, where only part of the text comes to the blocks.
        image_is_behind: the image's positions begin behind the text's, so they differ between the prompts.
        image_first: whether the image comes before the text in a diffusion model's attention.
        patch_will_do: for a rehearsal, in the place of the image and of each reference: nothing that comes with the
            text hangs on their sizes.
        steady: what the model makes of a text depends on nothing else, and takes long: a rehearsal in each run will do.
        own: the name of a list of modules: each makes further text, in front of all blocks, for the block of its
            number alone. There it stands behind the other text.
    """

    kinds: tuple[Door, ...]
    text_module: str | None = None
    image_module: str | None = None
    image_is_behind: bool = False
    image_first: Callable[[torch.nn.Module], bool] = lambda model: False
    patch_will_do: bool = False
    steady: bool = False
    own: str | None = None

    @property
    def is_cross(self) -> bool:
        return self.kinds[0].cross is not None

    @contextmanager
    def held(self, model: torch.nn.Module, call: ModelCall) -> Iterator[None]:
        """For one guided call of a diffusion model: see ModelCall."""
        kinds = [door for door in self.kinds if door.serves(call.settings.options.modality)]
        labelled = [(door, blocks) for door in kinds if (blocks := door.labelled(model))]
        found = [(door, [*blocks.values()]) for door, blocks in labelled]
        counted = self.text_module or self.image_module
        count = _Count(counted, self.image_module is not None)
        counting = [model.get_submodule(counted)] if counted else []
        with hooked(module.register_forward_hook(count) for module in counting):
            rehearsed = [partial(self._rehearsed, model, found, call, entry, count) for entry in call.entries]
            brought = [call.kept(i, make) if self.steady else make() for i, make in enumerate(rehearsed)]
            count.start(call.context)
            with hooked(self._hooks(model, labelled, call, [*zip(*brought)], count)):
                yield

    def _rehearsed(self, model, found, call, entry, count) -> list[Brought]:
        """What one entry of the negative brings, to each kind of cross-attention or to the first kind of block."""
        kinds = _of_each_text(found) if self.is_cross else found[:1]
        if kinds[0][0].vector and "y" in entry:
            entry = {**entry, "y": call.pooled}  # all entries' tokens go by one vector
        lists = {door.blocks: blocks for door, blocks in kinds}
        count.start(entry["c_crossattn"])
        own, makers = [], getattr(model, self.own) if self.own else ()
        with hooked(maker.register_forward_hook(lambda module, args, out: own.append(out)) for maker in makers):
            caught = rehearse(
                lambda: call.rehearse(entry, lists, self.patch_will_do),
                [(blocks[0], door.names) for door, blocks in kinds],
            )
        image_first = self.image_first(model)
        return [brought_to(door, arguments, count, image_first, own) for (door, _), arguments in zip(kinds, caught)]

    def _hooks(self, model, labelled, call, brought, count):
        """brought: for each kind of cross-attention, or for the first kind of block, what each entry brings."""
        if self.is_cross:
            of_text = dict(zip((door.text for door, _ in _of_each_text(labelled)), brought))
            for door, of_kind in labelled:
                entries = of_text[door.text]
                equation = call.equation.elsewhere() if door.modality == SOUND else call.equation
                blocks = [block for label, block in of_kind.items() if call.acts_in(label)]
                if door.projection is None:
                    visit = CrossVisit(door, equation, call.use, entries)
                else:
                    visit = CrossProjectionVisit(door, equation, len(call.x), call.use, entries)
                yield from visit.hooks(blocks)
            return
        image_first = self.image_first(model)
        of_image = self.image_is_behind, image_first
        visit = JointVisit(call.equation, call.use, brought[0], count, *of_image, call.weights)
        acting = [call.acts_in(label) for _, blocks in labelled for label in blocks]
        n_visited = len(acting) - acting[::-1].index(True)  # behind the last of them nothing asks for the negative
        numbered = enumerate(acting[:n_visited])
        for door, blocks in labelled:
            within = None if door.within is None else door.within(visit, call, model)
            if door.projection is not None:
                within = JointProjection(door.projection, visit).hooks
            for block, (number, acts) in zip(blocks.values(), numbered):
                yield from visit.hooks(door, block, number, within, acts)


def _of_each_text(found):
    """The first kind of block for each text."""
    return list({door.text: (door, blocks) for door, blocks in reversed(found)}.values())[::-1]


class _Count:
    """A forward hook that keeps how many tokens the text has, or the image.

    Args:
        counted: the path of the module that it is on; None where the text has as many tokens as it comes with.
        is_image: whether that module has the image's tokens.
    """

    n_tokens = None

    def __init__(self, counted: str | None, is_image: bool):
        self.counted, self.is_image = counted, is_image

    def start(self, text: torch.Tensor):
        """A run of the model for a text, (rows, tokens, width), begins."""
        self.n_tokens = None if self.counted else text.shape[1]

    def __call__(self, module, args, out):
        self.n_tokens = out.shape[1]

    def of_text(self, sequence: torch.Tensor) -> int:
        """How many of a sequence's tokens are the text's."""
        return sequence.shape[-2] - self.n_tokens if self.is_image else self.n_tokens
