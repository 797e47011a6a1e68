"""HunyuanVideo and HunyuanImage: Flux's blocks."""
import dataclasses

from ...settings import Strength
from ..arguments import names_of
from ..doors import Doors
from ..modulation import sequence_by_its_own, text_by_its_own
from ..places import BEFORE
from ..transformer import NOBODYS, Transformer
from .joint import FLUX_BLOCKS


def _image_first(model):
    from comfy.ldm.flux.layers import DoubleStreamBlock

    return "flipped_img_txt" in names_of(DoubleStreamBlock.__init__)  # what ComfyUI has turned around, is so no more


def _which(model):
    if getattr(model, "vision_in", None) is not None:
        return "HunyuanVideo 1.5"
    return "HunyuanImage 2.1"


BLOCKS = tuple(dataclasses.replace(door, mask="attn_mask") for door in FLUX_BLOCKS)
# The refiner of the text goes by a mean over its tokens, so it must see each prompt by itself.
WITHOUT_POOLED = Transformer(
    families={"HunyuanVideo 1.5": NOBODYS, "HunyuanImage 2.1": NOBODYS},
    since={"HunyuanVideo 1.5": "0.3.71"},
    which=_which,
    only=lambda model: model.params.vec_in_dim is None,
    text_encoder="Qwen2.5-VL-7B and ByT5 (DualCLIPLoader, type hunyuan_video_15 or hunyuan_image)",
    needed=("comfy.ldm.flux.layers:DoubleStreamBlock.__init__",),
    doors=Doors(BLOCKS, image_module="img_in", image_first=_image_first, patch_will_do=True),
    width="txt_in.input_embedder",
    text_inputs=("attention_mask", "txt_byt5"),
)
# The pooled output modulates, as in Flux.1; a guiding frame has a modulation of its own.
HUNYUAN_VIDEO = Transformer(
    families={"HunyuanVideo": Strength(9.0, 2.5, 0.12, 0.9, "the authors' workflow")},
    text_encoder="CLIP-L and Llama 3 8B (DualCLIPLoader, type hunyuan_video)",
    needed=("comfy.ldm.flux.layers:DoubleStreamBlock.__init__", "comfy.ldm.flux.layers:apply_mod"),
    parts=("txt_mod", "linear1", "linear2", "modulation", "pre_norm"),
    doors=Doors(
        (
            dataclasses.replace(BLOCKS[0], vector="vec", within=text_by_its_own),
            dataclasses.replace(BLOCKS[1], within=sequence_by_its_own),
        ),
        text_module="txt_in",
        image_first=_image_first,
        patch_will_do=True,
    ),
    width="txt_in.input_embedder",
    pooled="vector_in.in_layer",
    others=BEFORE,
)
HUNYUAN = {"comfy.ldm.hunyuan_video.model.HunyuanVideo": (WITHOUT_POOLED, HUNYUAN_VIDEO)}
