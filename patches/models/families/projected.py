"""Families whose image attends to the text where no override reaches: the prompts meet in front of the projection."""
from ..doors import Door, Doors
from ..projection import Projection
from ..transformer import NOBODYS, Transformer

PIXART = Transformer(
    families={"PixArt": NOBODYS},
    text_encoder="T5-XXL (CLIPLoader, type pixart)",
    doors=Doors(
        (Door("blocks", text="y", cross="cross_attn", projection=Projection("proj", queries="q_linear", text="cond")),)
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
                projection=Projection("out_proj", queries="q_proj", text="y"),
            ),
        ),
        patch_will_do=True,
    ),
    width=("text_states_dim",),
    text_inputs=("text_embedding_mask", "encoder_hidden_states_t5", "text_embedding_mask_t5"),
    made=lambda model, n: n + model.text_len_t5,
)
# Text, lyrics and timbre come in one sequence; for a text that is all zero, the model puts in a vector of its own.
ACE_STEP_15 = Transformer(
    families={"ACE-Step 1.5": NOBODYS},
    since={"ACE-Step 1.5": "0.15.1"},
    text_encoder="Qwen3-0.6B and ACE-Step 1.5's language model (DualCLIPLoader, type ace)",
    doors=Doors(
        (
            Door(
                "decoder.layers",
                text="encoder_hidden_states",
                cross="cross_attn",
                projection=Projection("o_proj", queries="q_proj"),
            ),
        ),
    ),
    width="encoder.text_projector",
    text_inputs=("lyric_embed", "refer_audio", "audio_codes", "is_covers", "replace_with_null_embeds"),
    patch=2,
    made=lambda model, n: n + 1,  # of the timbre
)
# Its cross-attention may be the difference of two, so that it is guided as a whole.
STABLE_AUDIO_3 = Transformer(
    families={"Stable Audio 3": NOBODYS},
    since={"Stable Audio 3": "0.25.0"},
    only=lambda model: getattr(model.transformer, "global_cond_shared_embed", False),
    text_encoder="T5Gemma (CLIPLoader, any type)",
    doors=Doors(
        (
            Door(
                "transformer.layers",
                text="context",
                cross="cross_attn",
                projection=Projection("to_out", queries="to_q"),
            ),
        ),
    ),
    width="to_cond_embed.0",
    patch="patch_size",
    made=lambda model, n: max(n, 256) + 1,  # pads, and the seconds that the sound lasts
)

PROJECTED = {
    "comfy.ldm.pixart.pixartms.PixArtMS": PIXART,
    "comfy.ldm.hydit.models.HunYuanDiT": HUNYUAN_DIT,
    "comfy.ldm.ace.ace_step15.AceStepConditionGenerationModel": ACE_STEP_15,
    "comfy.ldm.audio.dit.AudioDiffusionTransformer": STABLE_AUDIO_3,
}
