"""What the engine asks of a model family."""
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from comfy.model_management import cast_to_device

from ..arithmetic.equation import Equation
from ..attention.sizes import Sizes
from ..blocks import Label
from ..settings import IMAGE_STREAMS, Options, Settings, Strength
from .places import Layout, weighted_mean

FLIPS_ONE_STREAM = (
    "The equation vsf has one image stream, and NAG Options say image_stream separate. Choose shared there, or another "
    "equation: nag."
)
FLIPS_WITHIN = (
    "The equation vsf acts within attention, where NAG can't get in with this model ({}). Choose another equation in "
    "NAG Options: nag."
)


@dataclass(frozen=True)
class ModelCall:
    """One guided call of a diffusion model.

    Args:
        x: (batch, channels, [frames,] height, width), the noisy latent, before the channels that models such as
            Flux Fill concatenate.
        context: (batch, tokens, width), the text of all rows. Newer ComfyUI moves it to the device within the call;
            there the host waits for the step before to end, and what came earlier keeps the device busy.
        entries: what the model is given of each entry of the negative, by ComfyUI's names: "c_crossattn", (guided rows,
            tokens, width), "y", (guided rows, width), where the family has a pooled output, and what else there is.
        rehearse: rehearse(entry, lists, small) calls the model for one of the entries in the positive's place, without
            what other nodes do to it; lists: its blocks, by the names of their lists; small: with a patch of the image.
        guided: which rows NAG guides, as slices in ascending order.
        settings: none of the numbers is None.
        equation: with the settings' numbers.
        control: residuals of a ControlNet, as ComfyUI passes them, or None.
        transformer_options: ComfyUI's; not to be changed.
        blocks: the labels of those in which NAG acts; None: all.
        compiled: see compiled.compiled_parts.
        weights: of each entry of the negative, see sampling.negative.Negative; of all of them, 1 is as good as any.
        kept: kept(number, make) gives what `make()` gave for the entry of that number in an earlier call of the run, or
            gives now. The model's weights were the same then.
    """

    x: torch.Tensor
    context: torch.Tensor
    entries: tuple[dict, ...]
    rehearse: Callable[[dict, dict, bool], object]
    guided: tuple[slice, ...]
    settings: Settings
    equation: Equation
    control: dict | None
    transformer_options: dict
    blocks: frozenset[Label] | None = None
    compiled: tuple[torch.nn.Module, ...] = ()
    weights: tuple[float, ...] = ()
    kept: Callable[[int, Callable], object] = lambda number, make: make()

    def sizes(self) -> Sizes:
        """Of the two prompts."""
        return Sizes(self.context.shape[1], self.negative.shape[1])

    def lengths(self) -> Sizes:
        """Of the negative's entries."""
        return Sizes(*(entry["c_crossattn"].shape[1] for entry in self.entries))

    def acts_in(self, label: Label) -> bool:
        """Whether NAG acts in a block."""
        return self.blocks is None or label in self.blocks

    @property
    def all_guided(self) -> bool:
        """Whether NAG guides every row."""
        return self.guided == (slice(0, self.context.shape[0]),)

    @property
    def use(self) -> tuple:
        """What the operations depend on: calls of the same use differ in the tensors' values and the numbers of tokens.

        A size of 1 is the one that torch.compile never lets change.
        """
        options = self.settings.options
        how = (options.image_stream, options.modality, self.equation.statistics is not None)
        how += (options.equation, options.vsf_offset == 0)
        single = (self.context.shape[1] == 1, self.negative.shape[1] == 1)
        rows = None if self.all_guided else tuple((s.start, s.stop) for s in self.guided)
        return how, single, _kind(self.equation.places), rows

    @functools.cached_property
    def negative(self) -> torch.Tensor:
        """(guided rows, tokens, width): the text of all entries, one behind the other."""
        return torch.cat([entry["c_crossattn"] for entry in self.entries], 1)

    @property
    def pooled(self) -> torch.Tensor:
        """(guided rows, width): the mean of the entries' pooled outputs, by their weights."""
        return weighted_mean([entry["y"] for entry in self.entries], self.weights)

    def joined_text(self) -> torch.Tensor:
        """(batch, tokens, width): the negative's tokens behind the positive's. Every row must be guided."""
        text = cast_to_device(self.context, self.x.device, self.context.dtype)
        return torch.cat((text, self.negative.to(text)), 1)


def _kind(places):
    return None if places is None else (places.has_masks, places.weights.differ)


class Adapter(ABC):
    """Where the text meets the image in a family of models, and how NAG gets in between.

    An adapter holds no state, no attention and no arithmetic.
    """

    families: dict[str, Strength]
    """The families that it serves, as people call them, with what is recommended for each."""
    text_encoder: str
    """Which text encoder its prompts need."""
    since: dict[str, str] = {}
    """The first of ComfyUI's releases that has a family, of those that the oldest supported one has not."""
    needed: tuple[str, ...] = ()
    """What it needs of ComfyUI besides what all families do, in the notation of `capabilities`."""
    parts: tuple[str, ...] = ()
    """The modules of a diffusion model that it puts hooks on, by the ends of their names."""
    text_input: str = "c_crossattn"
    """What the model is given a text as, by the name of `extra_conds`."""
    text_inputs: tuple[str, ...] = ()
    """What the model is given of a text besides that and "y", by the names of `extra_conds`."""
    shared_inputs: dict[str, tuple[str, ...]] = {}
    """Those of `text_inputs` that hold, by further names, what is the picture's, too: which are the text's."""
    needed_inputs: dict[str, str] = {}
    """Those without which a text is another encoder's, which may have the same width: what each is, for people."""
    refused_inputs: dict[str, str] = {}
    """What else a prompt may bring that NAG can't do with, by the names of `extra_conds`: what it is, and why."""
    image_streams = IMAGE_STREAMS[:1]
    """Those of settings.IMAGE_STREAMS that differ in this family."""
    block_lists: tuple[str, ...] = ()
    """The lists of a diffusion model that hold its blocks, where it puts hooks on these: they must be ComfyUI's own."""
    of_pack = False
    """Whether its models, and their blocks, are another pack's."""
    is_joint = False
    """Whether text and image attend together."""
    weighs_keys = True
    """Whether its attention takes a bias on the scores of some of the negative's keys."""
    mixes_rows = False
    """Whether a model call may hold rows that are not guided, beside guided ones."""
    notices: tuple[str, ...] = ()
    """What a user should know of every run with it, in sentences."""

    @property
    def name(self) -> str:
        """All that it serves, as people call it."""
        return ", ".join(self.families)

    @property
    def mechanism(self) -> str:
        """In what the text meets the image, for people who know the field."""
        return "joint attention" if self.is_joint else "cross-attention"

    def family(self, model: torch.nn.Module) -> str:
        """The family that a comfy.model_base.BaseModel belongs to."""
        (name,) = self.families
        return name

    def recommended(self, model: torch.nn.Module) -> Strength:
        """What is recommended for a comfy.model_base.BaseModel."""
        return self.families[self.family(model)]

    def serves(self, model: torch.nn.Module) -> bool:
        """Whether a diffusion model of the adapter's class is of its families, where others share the class."""
        return True

    @abstractmethod
    def labelled(self, model: torch.nn.Module) -> dict[Label, list[torch.nn.Module]]:
        """The modules of a diffusion model in which its text meets its image, of each block, in order."""

    def blocks(self, model: torch.nn.Module) -> list[torch.nn.Module]:
        """All these modules."""
        return [module for modules in self.labelled(model).values() for module in modules]

    def missing(self, model: torch.nn.Module) -> list[str]:
        """The parts that it needs and does not find in this diffusion model."""
        there = [f".{name}" for name, _ in model.named_modules()]
        lost = [part for part in self.parts if not any(name.endswith(f".{part}") for name in there)]
        return [f"{part} in {type(model).__name__}" for part in lost]

    def unsupported(self, model: torch.nn.Module) -> str | None:
        """Why a comfy.model_base.BaseModel with a diffusion model of the adapter's class can't be guided, or None."""
        return None

    def unfit(self, options: Options, transformer_options: dict) -> str | None:
        """Why what NAG Options say can't be had with these models, and what to do; None if it can.

        transformer_options: what other nodes have set there, as far as it is known.
        """
        if options.equation != "vsf":
            return None
        if options.image_stream in self.image_streams[1:]:
            return FLIPS_ONE_STREAM
        return None if self.weighs_keys else FLIPS_WITHIN.format(self.name)

    @abstractmethod
    def text_width(self, model: torch.nn.Module) -> int:
        """The width of the text embedding that the model takes."""

    def text_widths(self, model: torch.nn.Module) -> tuple[int, ...]:
        """All that it takes, where a text may come more or less encoded; the usual first."""
        return (self.text_width(model),)

    def n_tokens(self, model: torch.nn.Module, n: int) -> int:
        """How many tokens the model makes of a text embedding of n."""
        return n

    def pixels_a_token(self, model: torch.nn.Module) -> int:
        """How many numbers of a channel of the latent make a token of the image; of all channels, if it is packed."""
        return 4

    def layout(self, model: torch.nn.Module, n_axes: int) -> Layout | None:
        """How the image's tokens lie in a latent of so many axes besides batch and channels; None: nobody knows."""
        return None

    def pooled_width(self, model: torch.nn.Module) -> int | None:
        """The width of the pooled output that the model takes; None where it takes none, or makes another of it."""
        return None

    @abstractmethod
    def guided(
        self, model: torch.nn.Module, call: ModelCall
    ) -> AbstractContextManager[tuple[torch.Tensor, dict]]:
        """Make the model guide itself for one call.

        Yields the context and the transformer_options with which to call it. Whatever is attached to the model is
        taken off when the context manager exits, however it exits.
        """
