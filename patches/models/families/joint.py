"""Families whose text and image attend together, in blocks that need no code of ours."""
import math

from ...settings import Strength
from ..doors import Door, Doors
from ..places import BEFORE, BEHIND
from ..transformer import NOBODYS, Transformer, padded

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
    since={"Z-Image": "0.3.74", "Z-Image base": "0.3.74"},
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
    made=lambda model, n: padded(getattr(model, "pad_tokens_multiple", None) or 1, n),
    others=BEHIND,  # the pads
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
    others=BEHIND,
)
MAGE_FLOW = Transformer(
    families={"MageFlow": NOBODYS},
    since={"MageFlow": "0.29.0"},
    text_encoder="Qwen3-VL-4B (CLIPLoader, type mage)",
    doors=QWEN_DOORS,
    width="txt_in",
    others=BEHIND,
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
    since={"Flux.2 Klein": "0.3.72", "Flux.2": "0.3.72"},
    which=lambda model: "Flux.2" if model.params.guidance_embed else "Flux.2 Klein",
    only=lambda model: getattr(model.params, "global_modulation", False),
    text_encoder="Mistral 3 Small for dev, Qwen3-4B for Klein 4B, Qwen3-8B for Klein 9B (CLIPLoader, type flux2)",
    doors=Doors(FLUX_BLOCKS, text_module="txt_in", patch_will_do=True),
    width="txt_in",
    made=lambda model, n: max(n, 512),
    others=BEHIND,
)
FLUX_WITHOUT_POOLED = Transformer(
    families={"LongCat-Image": NOBODYS, "Ovis-Image": NOBODYS},
    since={"LongCat-Image": "0.16.0", "Ovis-Image": "0.4.0"},
    which=lambda model: "Ovis-Image" if model.params.txt_norm else "LongCat-Image",
    only=lambda model: model.params.vec_in_dim is None,
    text_encoder="Qwen2.5-VL-7B (CLIPLoader, type longcat_image) for LongCat-Image, Ovis 2.5 2B (type ovis) for Ovis",
    doors=Doors(FLUX_BLOCKS, text_module="txt_in", image_is_behind=True, patch_will_do=True),
    width="txt_in",
    others=BEHIND,
)
# The model does not tell whether it is Turbo.
KREA_2 = Transformer(
    families={"Krea 2": Strength(1.5, 3.5, 0.5, whose="Wan2GP, as the most that Turbo bears")},
    since={"Krea 2": "0.26.0"},
    text_encoder="Qwen3-VL-4B (CLIPLoader, type krea2)",
    doors=Doors(
        (Door("blocks", sequence="x", places="freqs", indices="timestep_zero_index"),),
        text_module="txtmlp",
    ),
    width=("txtlayers", "txtdim"),
    patch="patch",
    others=BEHIND,
)
# Its pass without a prompt, `context` None, is the model's own business.
IDEOGRAM_4 = Transformer(
    families={"Ideogram 4": NOBODYS},
    since={"Ideogram 4": "0.24.0"},
    text_encoder="Qwen3-VL-8B (CLIPLoader, type ideogram4)",
    doors=Doors(
        (Door("layers", sequence="x", places="freqs_cis", mask="attn_mask"),),
        text_module="llm_cond_proj",
        patch_will_do=True,
    ),
    width="llm_cond_proj",
    patch=1,
)
OMNIGEN_2 = Transformer(
    families={"OmniGen2": NOBODYS},
    text_encoder="Qwen2.5-VL-3B (CLIPLoader, type omnigen2)",
    doors=Doors(
        (Door("layers", sequence="hidden_states", places="image_rotary_emb"),),
        text_module="time_caption_embed.caption_embedder",
        image_is_behind=True,
        patch_will_do=True,
    ),
    width="time_caption_embed.caption_embedder.1",
    others=BEFORE,
    text_inputs=("attention_mask", "num_tokens"),
    needed_inputs={"num_tokens": "attention mask"},
)
# Its blocks of two streams attend within the image, too.
BOOGU = Transformer(
    families={"Boogu": NOBODYS},
    since={"Boogu": "0.26.0"},
    text_encoder="Qwen3-VL-8B (CLIPLoader, type boogu)",
    doors=Doors(
        (
            Door(
                "double_stream_layers",
                text="instruct_hidden_states",
                image="img_hidden_states",
                out=1,
                places="joint_rotary_emb",
            ),
            Door("single_stream_layers", sequence="hidden_states", places="image_rotary_emb"),
        ),
        image_is_behind=True,
        patch_will_do=True,
    ),
    width="time_caption_embed.caption_embedder.1",
    others=BEFORE,
    text_inputs=("attention_mask", "num_tokens"),
    needed_inputs={"num_tokens": "attention mask"},
)
AURAFLOW = Transformer(
    families={"AuraFlow": NOBODYS},
    text_encoder="Pile-T5-XL (CLIPLoader, any type)",
    doors=Doors((Door("double_layers", text="c", out=0), Door("single_layers", sequence="cx")), patch_will_do=True),
    width="cond_seq_linear",
    made=lambda model, n: n + model.register_tokens.shape[1],
)
COGVIDEOX = Transformer(
    families={"CogVideoX": NOBODYS},
    since={"CogVideoX": "0.21.0"},
    text_encoder="T5-XXL (CLIPLoader, type cogvideox)",
    doors=Doors((Door("blocks", text="encoder_hidden_states", out=1),), patch_will_do=True),
    width="patch_embed.text_proj",
    patch=lambda model: model.patch_size**2 * (model.patch_size_t or 1),
    token=lambda model, n_axes: (model.patch_size_t or 1, model.patch_size, model.patch_size)[-n_axes:],
)
# PiD, which makes a large picture of a latent, is a PixelDiT that is given that latent, too.
PIXELDIT = Transformer(
    families={"PixelDiT": NOBODYS, "PiD": NOBODYS},
    since={"PixelDiT": "0.23.0", "PiD": "0.23.0"},
    which=lambda model: "PiD" if hasattr(model, "lq_proj") else "PixelDiT",
    text_encoder="Gemma 2 2B (CLIPLoader, type pixeldit)",
    doors=Doors((Door("patch_blocks", text="y", out=1, text_places="pos_txt"),), patch_will_do=True),
    width="y_embedder.proj",
    made=lambda model, n: min(n, model.txt_max_length),
)
LENS = Transformer(
    families={"Lens": NOBODYS},
    since={"Lens": "0.23.0"},
    text_encoder="GPT-OSS 20B (CLIPLoader, type lens)",
    doors=Doors(
        (
            Door(
                "transformer_blocks",
                text="encoder_hidden_states",
                out=0,
                places="freqs_cis",  # the text's hang on the picture's size
                mask="attention_mask",
            ),
        ),
        image_first=lambda model: True,
    ),
    width="txt_in",
    patch=1,
)
JOYIMAGE = Transformer(
    families={"JoyImage": NOBODYS},
    since={"JoyImage": "0.29.0"},
    text_encoder="Qwen3-VL-8B (CLIPLoader, type joyimage)",
    doors=Doors(
        (Door("double_blocks", text="encoder_hidden_states", out=1),),
        image_first=lambda model: True,
        patch_will_do=True,
    ),
    width="condition_embedder.text_embedder.linear_1",
    others=BEHIND,
)
# All lies in one sequence without rows, text, references, sound and picture: both follow the text. A token of the text
# that stands for a reference's picture is modulated as the picture is.
MINIMAX_H3 = Transformer(
    families={"MiniMax H3": NOBODYS},
    since={"MiniMax H3": "0.30.0"},
    text_encoder="Qwen3-VL-32B (CLIPLoader, type minimax)",
    doors=Doors(
        (Door("blocks", sequence="x", places="rope_freqs", segments="mod_segments"),),
        image_is_behind=True,
    ),
    width="condition_proj",
    patch=lambda model: model.latents_dim * math.prod(model.patch_size),  # ComfyUI packs picture and sound into one
    token=lambda model, n_axes: None,
    text_inputs=("minimax_payload",),
    shared_inputs={"minimax_payload": ("text_token_tags",)},
)

JOINT = {
    "comfy.ldm.lumina.model.NextDiT": LUMINA,
    "comfy.ldm.qwen_image.model.QwenImageTransformer2DModel": QWEN_IMAGE,
    "comfy.ldm.mage_flow.model.MageFlowTransformer2DModel": MAGE_FLOW,
    "comfy.ldm.chroma.model.Chroma": CHROMA,
    "comfy.ldm.flux.model.Flux": (FLUX_2, FLUX_WITHOUT_POOLED),
    "comfy.ldm.krea2.model.SingleStreamDiT": KREA_2,
    "comfy.ldm.ideogram4.model.Ideogram4Transformer2DModel": IDEOGRAM_4,
    "comfy.ldm.omnigen.omnigen2.OmniGen2Transformer2DModel": OMNIGEN_2,
    "comfy.ldm.boogu.model.BooguTransformer2DModel": BOOGU,
    "comfy.ldm.aura.mmdit.MMDiT": AURAFLOW,
    "comfy.ldm.cogvideo.model.CogVideoXTransformer3DModel": COGVIDEOX,
    "comfy.ldm.pixeldit.model.PixDiT_T2I": PIXELDIT,
    "comfy.ldm.pixeldit.pid.PidNet": PIXELDIT,
    "comfy.ldm.lens.model.LensTransformer2DModel": LENS,
    "comfy.ldm.joyimage.model.JoyImageTransformer3DModel": JOYIMAGE,
    "comfy.ldm.minimax.model.MiniMaxH3Model": MINIMAX_H3,
}
