"""The families that are a declaration: what a reader takes in at one look, and no code."""
import dataclasses
import math
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from ..settings import Strength
from .adapter import Adapter
from .doors import Door, Doors


@dataclass(frozen=True, eq=False)
class Transformer(Adapter):
    """A family whose negative waits at the doors.

    Args:
        families, text_encoder, text_inputs: see Adapter.
        doors: see Doors.
        width: the path of the module that takes the text, or names of numbers whose product is the text's width, or
            what gives, of a diffusion model, all the widths that it takes, the usual first.
        pooled: the path of the module that takes the pooled output. The image goes by the positive's.
        patch: the name of the size of a patch of the image, or how many pixels one has; see Adapter.pixels_a_token.
        made: how many tokens are made of a text of so many, by extra_conds and by the diffusion model.
        which: of several families, the name of that of a diffusion model.
        only: whether it is for a diffusion model, where others share its class.
        refused: why a diffusion model of the class can't be guided, or None.
        refused_inputs, needed, parts, image_streams: see Adapter.
    """

    families: dict[str, Strength]
    text_encoder: str
    doors: Doors
    width: str | tuple[str, ...] | Callable[[torch.nn.Module], tuple[int, ...]]
    text_inputs: tuple[str, ...] = ("attention_mask",)
    which: Callable[[torch.nn.Module], str] | None = None
    only: Callable[[torch.nn.Module], bool] = lambda model: True
    refused: Callable[[torch.nn.Module], str | None] = lambda model: None
    refused_inputs: dict[str, str] = field(default_factory=dict)
    pooled: str | None = None
    patch: str | int = "patch_size"
    made: Callable[[torch.nn.Module, int], int] = lambda model, n: n
    needed: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    image_streams: tuple[str, ...] = Adapter.image_streams

    @property
    def block_lists(self):
        return tuple(dict.fromkeys(door.blocks for door in self.doors.kinds))

    @property
    def is_joint(self):
        return self.doors.kinds[0].cross is None

    def serves(self, model):
        return self.only(model)

    def unsupported(self, model):
        return self.refused(model.diffusion_model)

    def family(self, model):
        return super().family(model) if self.which is None else self.which(model.diffusion_model)

    def blocks(self, model):
        return [door.meets_in(block) for door in self.doors.kinds for block in door.find(model)]

    def missing(self, model):
        kinds = [(door, block) for door in self.doors.kinds for block in door.find(model)[:1]]
        if not kinds:
            return [f"{self.doors.kinds[0].blocks} in {type(model).__name__}"]
        return super().missing(model) + [each for door, block in kinds for each in door.missing(block)]

    def text_widths(self, model):
        return self.width(model) if callable(self.width) else (self.text_width(model),)

    def text_width(self, model):
        if callable(self.width):
            return self.width(model)[0]
        if isinstance(self.width, str):
            return model.get_submodule(self.width).in_features
        return math.prod(getattr(model, name) for name in self.width)

    def n_tokens(self, model, n):
        return self.made(model, n)

    def pixels_a_token(self, model):
        if isinstance(self.patch, int):
            return self.patch
        size = getattr(model, self.patch)
        return size**2 if isinstance(size, int) else math.prod(size)

    def pooled_width(self, model):
        return model.get_submodule(self.pooled).in_features if self.pooled else None

    @contextmanager
    def guided(self, model, call):
        with self.doors.held(model, call):
            yield call.context, call.transformer_options


def _padded(multiple, n):
    return math.ceil(n / multiple) * multiple


NOBODYS = Strength(5.0, 2.5, 0.25, whose="Flux.1's: nobody has published any")

NEWBIE = "the pooled output of its second text encoder modulates the picture (NewBie), which NAG does not know yet"
OMNI = "their places and the picture's hang on the length of the prompt"

# Z-Image and its Turbo have the same sizes, so that the model does not tell which of the two it is.
# Where the picture is padded to a multiple of tokens, its pads stand at position 0 in every prompt's run, so that one
# picture for two prompts of different lengths can't be exact for both: there these few tokens are a little off.
LUMINA = Transformer(
    families={
        "Z-Image": Strength(1.8, 2.5, 0.25, 0.7, "users of ComfyUI-NAG, for Turbo"),
        "Z-Image base": Strength(5.0, 1.0, 0.1, 0.85, "NAG-Extended's workflow, at cfg 4"),
        "Lumina 2": NOBODYS,
    },
    which=lambda model: "Lumina 2" if getattr(model, "pad_tokens_multiple", None) is None else "Z-Image",
    refused=lambda model: None if getattr(model, "clip_text_pooled_proj", None) is None else NEWBIE,
    refused_inputs={  # without these, the model makes nothing of "siglip_feats"
        "ref_latents": f"reference images (Z-Image Omni): {OMNI}",
        "ref_contexts": f"prompts of reference images (Z-Image Omni): {OMNI}",
    },
    text_encoder="Qwen3-4B (CLIPLoader, type lumina2) for Z-Image, Gemma 2 2B for Lumina 2",
    doors=Doors(
        (Door("layers", sequence="x", places="freqs_cis", indices="timestep_zero_index"),),
        image_module="noise_refiner.1",  # ComfyUI 0.3.62 leaves hidden tokens out behind the context refiner
        image_is_behind=True,
        patch_will_do=True,  # for in front of the blocks are some that work on the image
    ),
    width="cap_embedder.1",
    text_inputs=("attention_mask", "num_tokens", "clip_text_pooled"),
    made=lambda model, n: _padded(getattr(model, "pad_tokens_multiple", None) or 1, n),
)
QWEN_DOORS = Doors(
    (
        Door(
            "transformer_blocks",
            text="encoder_hidden_states",
            out=0,
            places="image_rotary_emb",
            text_mask="encoder_hidden_states_mask",
        ),
    )
)
QWEN_IMAGE = Transformer(
    families={"Qwen-Image": NOBODYS},
    text_encoder="Qwen2.5-VL-7B (CLIPLoader, type qwen_image)",
    doors=QWEN_DOORS,
    width="txt_in",
)
MAGE_FLOW = Transformer(
    families={"MageFlow": NOBODYS},
    text_encoder="Qwen3-VL-4B (CLIPLoader, type mage)",
    doors=QWEN_DOORS,
    width="txt_in",
)
FLUX_BLOCKS = (
    Door("double_blocks", text="txt", out=1, places="pe"),
    Door("single_blocks", sequence="x", places="pe", indices="modulation_dims"),
)
CHROMA = Transformer(
    families={"Chroma": Strength(5.0, 2.5, 0.25, 0.75, "the authors' workflow, at cfg 4"), "Chroma Radiance": NOBODYS},
    which=lambda model: "Chroma Radiance" if hasattr(model, "nerf_blocks") else "Chroma",
    text_encoder="T5-XXL (CLIPLoader, type chroma)",
    doors=Doors(FLUX_BLOCKS, text_module="txt_in", patch_will_do=True),
    width="txt_in",
)
# Klein is 4B and 9B, distilled and base; only dev embeds its guidance.
FLUX_2 = Transformer(
    families={"Flux.2 Klein": Strength(6.0, 2.0, 0.25, 0.75, "a user's workflows"), "Flux.2": NOBODYS},
    which=lambda model: "Flux.2" if model.params.guidance_embed else "Flux.2 Klein",
    only=lambda model: getattr(model.params, "global_modulation", False),
    text_encoder="Mistral 3 Small for dev, Qwen3-4B for Klein 4B, Qwen3-8B for Klein 9B (CLIPLoader, type flux2)",
    doors=Doors(FLUX_BLOCKS, text_module="txt_in", patch_will_do=True),
    width="txt_in",
    made=lambda model, n: max(n, 512),
)
FLUX_WITHOUT_POOLED = Transformer(
    families={"LongCat-Image": NOBODYS, "Ovis-Image": NOBODYS},
    which=lambda model: "Ovis-Image" if model.params.txt_norm else "LongCat-Image",
    only=lambda model: model.params.vec_in_dim is None,
    text_encoder="Qwen2.5-VL-7B (CLIPLoader, type longcat_image) for LongCat-Image, Ovis 2.5 2B (type ovis) for Ovis",
    doors=Doors(FLUX_BLOCKS, text_module="txt_in", image_is_behind=True, patch_will_do=True),
    width="txt_in",
)
# The model does not tell whether it is Turbo.
KREA_2 = Transformer(
    families={"Krea 2": Strength(1.5, 3.5, 0.5, whose="Wan2GP, as the most that Turbo bears")},
    text_encoder="Qwen3-VL-4B (CLIPLoader, type krea2)",
    doors=Doors(
        (Door("blocks", sequence="x", places="freqs", indices="timestep_zero_index"),),
        text_module="txtmlp",
    ),
    width=("txtlayers", "txtdim"),
    patch="patch",
)


def _as_it_comes(model):
    """The width of LTX-Video's text, which its encoder may have projected."""
    if getattr(model, "caption_proj_before_connector", False):
        return (model.cross_attention_dim,)
    return (model.caption_projection.linear_1.in_features,)


LTXV = Transformer(
    families={"LTX-Video": NOBODYS},
    text_encoder="T5-XXL (CLIPLoader, type ltxv)",
    doors=Doors((Door("transformer_blocks", text="context", text_mask="attention_mask", cross="attn2"),)),
    width=_as_it_comes,
    patch=1,
)


def _takes_two_texts(model):
    """The widths of LTX-2's text: of both modalities before ComfyUI has parted it, and side by side."""
    one, both = model.caption_channels, model.cross_attention_dim + model.audio_cross_attention_dim
    return (both, one) if getattr(model, "caption_proj_before_connector", False) else (one, 2 * one)


LTX2 = Transformer(
    families={
        "LTX-2": Strength(11.0, 2.5, 0.25, whose="KJNodes"),
        "LTX-2.3": Strength(5.0, 2.5, 0.25, whose="users, who try 3 to 7"),
    },
    which=lambda model: "LTX-2.3" if getattr(model, "cross_attention_adaln", False) else "LTX-2",
    text_encoder="Gemma 3 12B with the model's own projection (LTXV Audio Text Encoder Loader)",
    doors=Doors(
        (
            Door(
                "transformer_blocks",
                text="v_context",
                text_mask="attention_mask",
                cross="attn2",
                modality="picture",
            ),
            Door(
                "transformer_blocks",
                text="a_context",
                text_mask="attention_mask",
                cross="audio_attn2",
                modality="sound",
            ),
        )
    ),
    width=_takes_two_texts,
    patch=128,  # ComfyUI packs picture and sound, all channels, into one
    made=lambda model, n: _padded(128, max(n, 1024)),  # with the registers of its connectors
)
COSMOS = Transformer(
    families={"Cosmos Predict2": NOBODYS},
    text_encoder="T5-XXL 1.0 (CLIPLoader, type cosmos)",
    doors=Doors((Door("blocks", text="crossattn_emb", cross="cross_attn"),)),
    width="blocks.0.cross_attn.k_proj",
    patch="patch_spatial",
)
ANIMA = dataclasses.replace(
    COSMOS,
    families={"Anima": Strength(6.0, 2.0, 0.1, 0.75, "NAG-Extended's workflow, with a turbo LoRA")},
    text_encoder="Qwen3-0.6B (CLIPLoader, any type)",
    text_inputs=("t5xxl_ids", "t5xxl_weights"),
    made=lambda model, n: max(n, 512),
)
KANDINSKY5 = Transformer(
    families={"Kandinsky 5": NOBODYS},
    text_encoder="Qwen2.5-VL-7B and CLIP-L (DualCLIPLoader, type kandinsky5 or kandinsky5_image)",
    doors=Doors((Door("visual_transformer_blocks", text="text_embed", cross="cross_attention"),)),
    width="text_embeddings.in_layer",
    pooled="pooled_text_embeddings.in_layer",
)
TRANSFORMERS: dict[str, Transformer | tuple[Transformer, ...]] = {
    "comfy.ldm.lumina.model.NextDiT": LUMINA,
    "comfy.ldm.qwen_image.model.QwenImageTransformer2DModel": QWEN_IMAGE,
    "comfy.ldm.mage_flow.model.MageFlowTransformer2DModel": MAGE_FLOW,
    "comfy.ldm.chroma.model.Chroma": CHROMA,
    "comfy.ldm.flux.model.Flux": (FLUX_2, FLUX_WITHOUT_POOLED),
    "comfy.ldm.krea2.model.SingleStreamDiT": KREA_2,
    "comfy.ldm.lightricks.model.LTXVModel": LTXV,
    "comfy.ldm.lightricks.av_model.LTXAVModel": LTX2,
    "comfy.ldm.cosmos.predict2.MiniTrainDIT": COSMOS,
    "comfy.ldm.anima.model.Anima": ANIMA,
    "comfy.ldm.kandinsky5.model.Kandinsky5": KANDINSKY5,
}
