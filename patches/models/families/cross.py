"""Families whose image attends to the text in cross-attention, in blocks that need no code of ours."""
import dataclasses

from ...settings import Strength
from ..doors import Door, Doors
from ..places import BEFORE
from ..transformer import NOBODYS, Transformer, padded


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
    since={"LTX-2": "0.8.0", "LTX-2.3": "0.16.0"},
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
    token=lambda model, n_axes: (1,) * n_axes,
    made=lambda model, n: padded(128, max(n, 1024)),  # with the registers of its connectors
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
    since={"Anima": "0.11.0"},
    text_encoder="Qwen3-0.6B (CLIPLoader, any type)",
    text_inputs=("t5xxl_ids", "t5xxl_weights"),
    made=lambda model, n: max(n, 512),
)
KANDINSKY5 = Transformer(
    families={"Kandinsky 5": NOBODYS},
    since={"Kandinsky 5": "0.4.0"},
    text_encoder="Qwen2.5-VL-7B and CLIP-L (DualCLIPLoader, type kandinsky5 or kandinsky5_image)",
    doors=Doors((Door("visual_transformer_blocks", text="text_embed", cross="cross_attention"),)),
    width="text_embeddings.in_layer",
    pooled="pooled_text_embeddings.in_layer",
)
COSMOS_1 = Transformer(
    families={"Cosmos 1": NOBODYS},
    text_encoder="T5-XXL 1.0 (CLIPLoader, type cosmos)",
    doors=Doors((Door("blocks", text="crossattn_emb", text_axis=0, cross="blocks.1.block.attn"),)),
    width="blocks.block0.blocks.1.block.attn.to_k.0",
    patch="patch_spatial",
)
# The seconds are tokens of the text's, and in a vector, which stays the positive's.
STABLE_AUDIO = Transformer(
    families={"Stable Audio 1": NOBODYS},
    only=lambda model: not getattr(model.transformer, "global_cond_shared_embed", False),  # as Stable Audio 3 has it
    text_encoder="T5-base (CLIPLoader, type stable_audio, or the checkpoint's own)",
    doors=Doors((Door("transformer.layers", text="context", cross="cross_attn"),)),
    width="to_cond_embed.0",
    made=lambda model, n: n + 2,
    patch=1,
    others=BEFORE,
)
# Of a text it has the tags, and the lyrics, which any of its encoder's texts brings: empty, if none are given.
ACE_STEP = Transformer(
    families={"ACE-Step 1": NOBODYS},
    text_encoder="UMT5-base (CLIPLoader, type ace, or the checkpoint's own)",
    doors=Doors(
        (
            Door(
                "transformer_blocks",
                text="encoder_hidden_states",
                text_places="rotary_freqs_cis_cross",
                cross="cross_attn",
            ),
        )
    ),
    width="genre_embedder",
    text_inputs=("lyric_token_idx", "lyrics_strength"),
    needed_inputs={"lyric_token_idx": "lyrics"},
    made=lambda model, n: n + 1,  # the speaker
)

CROSS = {
    "comfy.ldm.lightricks.model.LTXVModel": LTXV,
    "comfy.ldm.lightricks.av_model.LTXAVModel": LTX2,
    "comfy.ldm.cosmos.predict2.MiniTrainDIT": COSMOS,
    "comfy.ldm.anima.model.Anima": ANIMA,
    "comfy.ldm.kandinsky5.model.Kandinsky5": KANDINSKY5,
    "comfy.ldm.cosmos.model.GeneralDIT": COSMOS_1,
    "comfy.ldm.audio.dit.AudioDiffusionTransformer": STABLE_AUDIO,
    "comfy.ldm.ace.model.ACEStepTransformer2DModel": ACE_STEP,
}
