"""Families whose image attends to the text where no override reaches: the prompts meet in front of the projection."""
import dataclasses

from ...settings import Strength
from ..doors import Door, Doors
from ..places import BEFORE
from ..projection import Projection
from ..transformer import NOBODYS, Transformer

PIXART = Transformer(
    families={"PixArt": NOBODYS},
    text_encoder="T5-XXL (CLIPLoader, type pixart)",
    doors=Doors(
        (
            Door(
                "blocks",
                text="y",
                cross="cross_attn",
                projection=Projection("proj", once=("q_linear",), text="cond"),
            ),
        )
    ),
    width="y_embedder.y_proj.fc1",
)
# mT5 also makes a vector that modulates the picture, which goes by the positive's.
HUNYUAN_DIT = Transformer(
    families={"Hunyuan-DiT": NOBODYS},
    text_encoder="the checkpoint's own BERT and mT5-XL",
    doors=Doors(
        (
            Door(
                "blocks",
                text="text_states",
                cross="attn2",
                projection=Projection("out_proj", once=("q_proj",), text="y"),
            ),
        ),
        patch_will_do=True,
    ),
    width=("text_states_dim",),
    text_inputs=("text_embedding_mask", "encoder_hidden_states_t5", "text_embedding_mask_t5"),
    needed_inputs={"text_embedding_mask": "attention mask", "encoder_hidden_states_t5": "text of mT5"},
    made=lambda model, n: n + model.text_len_t5,
)
# Text, lyrics and timbre come in one sequence; for a text that is all zero, the model puts in a vector of its own.
ACE_STEP_15 = Transformer(
    families={"ACE-Step 1.5": NOBODYS},
    since={"ACE-Step 1.5": "0.12.0"},
    text_encoder="Qwen3-0.6B and ACE-Step 1.5's language model (DualCLIPLoader, type ace)",
    doors=Doors(
        (
            Door(
                "decoder.layers",
                text="encoder_hidden_states",
                cross="cross_attn",
                projection=Projection("o_proj", once=("q_proj",)),
            ),
        ),
        steady=True,  # its encoders take as long as half of the decoder
    ),
    width="encoder.text_projector",
    text_inputs=("lyric_embed", "refer_audio", "audio_codes", "is_covers", "replace_with_null_embeds"),
    needed_inputs={"lyric_embed": "lyrics"},
    patch=2,
    made=lambda model, n: n + 1,  # of the timbre
)
# Its cross-attention may be the difference of two, so that it is guided as a whole.
STABLE_AUDIO_3 = Transformer(
    families={"Stable Audio 3": NOBODYS},
    since={"Stable Audio 3": "0.22.0"},
    only=lambda model: getattr(model.transformer, "global_cond_shared_embed", False),
    text_encoder="T5Gemma (CLIPLoader, any type)",
    doors=Doors(
        (
            Door(
                "transformer.layers",
                text="context",
                cross="cross_attn",
                projection=Projection("to_out", once=("to_q",)),
            ),
        ),
    ),
    width="to_cond_embed.0",
    patch="patch_size",
    made=lambda model, n: max(n, 256) + 1,  # pads, and the seconds that the sound lasts
    others=BEFORE,
)
# Its positions are no rotations, and the image's begin behind the text: each prompt keeps those of its own run.
ERNIE_IMAGE = Transformer(
    families={"ERNIE-Image": NOBODYS},
    since={"ERNIE-Image": "0.19.0"},
    text_encoder="Ministral 3 3B (CLIPLoader, any type)",
    doors=Doors(
        (
            Door(
                "layers",
                sequence="x",
                places="rotary_pos_emb",
                projection=Projection(
                    "to_out.0",
                    once=("to_q", "to_k", "to_v"),
                    text="x",
                    module="self_attention",
                    places="image_rotary_emb",
                ),
            ),
        ),
        image_module="x_embedder",
        image_first=lambda model: True,
    ),
    width="text_proj",
)

# Of its keys some are the image's, so that no text alone goes to the attention. A block's text is the same for all.
CASCADE_BLOCK = Door(
    "down_blocks",
    text="kv",
    cross="",
    projection=Projection("attention.attn.out_proj", once=("attention.attn.to_q",)),
)
STABLE_CASCADE = Transformer(
    families={"Stable Cascade": NOBODYS},
    text_encoder="CLIP-G (CLIPLoader, type stable_cascade, or the checkpoint's own)",
    doors=Doors((CASCADE_BLOCK, dataclasses.replace(CASCADE_BLOCK, blocks="up_blocks"))),
    width="clip_txt_mapper",
    text_input="clip_text",
    text_inputs=("clip_text_pooled",),
    needed_inputs={"clip_text_pooled": "pooled output"},
    patch=1,
    made=lambda model, n: n + 2 * model.c_clip_seq,  # of the pooled output, and of an image that there may be
)
TWO_PROMPTS = (
    "this version of ComfyUI_ExtraModels runs it for two prompts at a time only; that of Efficient-Large-Model on "
    "GitHub, by SANA's authors, also runs it for one"
)
SANA = Transformer(
    families={"SANA": Strength(3.0, 2.5, 0.5)},
    text_encoder="Gemma 2 2B (Gemma Loader and Sana Text Encode of ComfyUI_ExtraModels)",
    refused=lambda model: None if hasattr(model, "cfg_embedder") else TWO_PROMPTS,
    doors=Doors(
        (
            Door(
                "blocks",
                text="y",
                cross="cross_attn",
                projection=Projection("proj", once=("q_linear",), text="cond", lengths="mask"),
                of_pack=True,
            ),
        ),
        patch_will_do=True,
    ),
    width="y_embedder.y_proj.fc1",
)

PROJECTED = {
    "comfy.ldm.pixart.pixartms.PixArtMS": PIXART,
    "comfy.ldm.hydit.models.HunYuanDiT": HUNYUAN_DIT,
    "comfy.ldm.ace.ace_step15.AceStepConditionGenerationModel": ACE_STEP_15,
    "comfy.ldm.audio.dit.AudioDiffusionTransformer": STABLE_AUDIO_3,
    "comfy.ldm.ernie.model.ErnieImageModel": ERNIE_IMAGE,
    "comfy.ldm.cascade.stage_c.StageC": STABLE_CASCADE,
    "SanaMS": SANA,  # and SanaMSCM, SANA-Sprint's, which derives from it
}
