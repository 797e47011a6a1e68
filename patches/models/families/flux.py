"""Flux.1: dev, schnell, Kontext, Fill and their kin."""
from functools import partial

from ...settings import IMAGE_STREAMS, Strength
from ..arguments import in_front
from ..doors import Door, Doors
from ..modulation import SequenceModulation, sequence_by_its_own, text_by_its_own
from ..places import BEHIND
from ..separate import TwoImageStreams
from ..transformer import Transformer


def _within_single(visit, call, model):
    if call.settings.options.image_stream != "separate":
        return sequence_by_its_own(visit, call, model)
    images = TwoImageStreams(visit, call.control)
    modulation = SequenceModulation(visit, images)
    numbers = {}

    def hooks(block):
        index = numbers.setdefault(block, len(numbers))
        yield in_front(block, partial(images.enter, index))
        yield from modulation.hooks(block)
        yield block.register_forward_hook(images.leave)

    return hooks


# Every block modulates its tokens by a vector that the pooled output goes into.
FLUX_1 = Transformer(
    families={
        "Flux": Strength(5.0, 2.5, 0.25),
        "Flux.1 Kontext": Strength(3.0, 2.5, 0.25, 0.75, "the authors' workflow"),
    },
    which=lambda model: "Flux",  # the model does not tell whether it is Kontext
    text_encoder="CLIP-L and T5-XXL (DualCLIPLoader, type flux)",
    image_streams=IMAGE_STREAMS,
    needed=(
        "comfy.ldm.flux.layers:DoubleStreamBlock.forward(modulation_dims_txt)",
        "comfy.ldm.flux.layers:SingleStreamBlock",
        "comfy.ldm.flux.layers:apply_mod",
    ),
    parts=("txt_mod", "linear1", "linear2", "modulation", "pre_norm"),
    doors=Doors(
        (
            Door("double_blocks", text="txt", out=1, places="pe", vector="vec", within=text_by_its_own),
            Door("single_blocks", sequence="x", places="pe", within=_within_single),
        ),
        text_module="txt_in",
        patch_will_do=True,
    ),
    width="txt_in",
    pooled="vector_in.in_layer",
    others=BEHIND,
)
FLUX = {"comfy.ldm.flux.model.Flux": FLUX_1}
