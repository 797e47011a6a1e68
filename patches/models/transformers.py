"""The families that are a declaration: what a reader takes in at one look, and no code."""
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from ..settings import Strength
from .adapter import Adapter
from .doors import Door, Doors


@dataclass(frozen=True)
class Transformer(Adapter):
    """A family whose negative waits at the doors.

    Args:
        families, text_encoder, text_inputs: see Adapter.
        doors: see Doors.
        width: the path of the module that takes the text, or names of numbers whose product is the text's width.
        which: of several families, the name of that of a diffusion model.
    """

    families: dict[str, Strength]
    text_encoder: str
    doors: Doors
    width: str | tuple[str, ...]
    text_inputs: tuple[str, ...] = ("attention_mask",)
    which: Callable[[torch.nn.Module], str] | None = None
    needed: tuple[str, ...] = ()

    @property
    def block_lists(self):
        return tuple(dict.fromkeys(door.blocks.partition(".")[0] for door in self.doors.kinds))

    def family(self, model):
        return super().family(model) if self.which is None else self.which(model.diffusion_model)

    def blocks(self, model):
        return [block for door in self.doors.kinds for block in door.find(model)]

    def text_width(self, model):
        if isinstance(self.width, str):
            return model.get_submodule(self.width).in_features
        first, *others = (getattr(model, name) for name in self.width)
        for each in others:
            first *= each
        return first

    @contextmanager
    def guided(self, model, call):
        with self.doors.held(model, call):
            yield call.context, call.transformer_options


NOBODYS = Strength(nag_scale=5.0, nag_tau=2.5, nag_alpha=0.25)  # Flux's; nobody has published any

LUMINA = Transformer(
    families={"Z-Image": Strength(1.8, 2.5, 0.25), "Lumina 2": NOBODYS},
    which=lambda model: "Lumina 2" if getattr(model, "pad_tokens_multiple", None) is None else "Z-Image",
    text_encoder="Qwen3-4B (CLIPLoader, type lumina2) for Z-Image, Gemma 2 2B for Lumina 2",
    doors=Doors(
        (Door("layers.N", sequence="x", places="freqs_cis", indices="timestep_zero_index"),),
        text_module="context_refiner.1",
        image_is_behind=True,
        refines_image=True,
    ),
    width="cap_embedder.1",
    text_inputs=("attention_mask", "num_tokens", "clip_text_pooled"),
)
QWEN_IMAGE = Transformer(
    families={"Qwen-Image": NOBODYS},
    text_encoder="Qwen2.5-VL-7B (CLIPLoader, type qwen_image)",
    doors=Doors(
        (
            Door(
                "transformer_blocks.N",
                text="encoder_hidden_states",
                out=0,
                places="image_rotary_emb",
                text_mask="encoder_hidden_states_mask",
            ),
        )
    ),
    width="txt_in",
)
CHROMA = Transformer(
    families={"Chroma": Strength(5.0, 2.5, 0.25)},
    text_encoder="T5-XXL (CLIPLoader, type chroma)",
    doors=Doors(
        (
            Door("double_blocks.N", text="txt", out=1, places="pe"),
            Door("single_blocks.N", sequence="x", places="pe"),
        )
    ),
    width="txt_in",
)
TRANSFORMERS: dict[str, Transformer] = {
    "comfy.ldm.lumina.model.NextDiT": LUMINA,
    "comfy.ldm.qwen_image.model.QwenImageTransformer2DModel": QWEN_IMAGE,
    "comfy.ldm.chroma.model.Chroma": CHROMA,
}
