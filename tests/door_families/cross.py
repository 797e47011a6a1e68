"""Families whose image attends to the text in cross-attention."""
import math

import comfy.model_base
import comfy.ops
import comfy.supported_models
import pytest
import torch

from oracle.lockstep import Tokens

from .builder import FEW_CHANNELS, NOBODYS, PICTURE, TEXT, DoorFamily, model, patches_of


def connectors(*widths, needs=()):
    """Makes LTX-2's encoders of the text, which lie in the model, for the widths of these tests."""

    def change(net, dtype):
        if not all(hasattr(net, name) for name in needs):
            pytest.skip(f"this ComfyUI has no {needs[0]} in LTXAVModel")
        from comfy.ldm.lightricks.embeddings_connector import Embeddings1DConnector

        for name, width in zip(("video", "audio"), widths):
            made = Embeddings1DConnector(
                attention_head_dim=8, num_attention_heads=width // 8, num_layers=1, split_rope=True,
                double_precision_rope=True, dtype=dtype, operations=comfy.ops.manual_cast,
            )  # fmt: skip
            setattr(net, f"{name}_embeddings_connector", made)

    return change


def tiny_adapter(net, dtype):
    """Anima's encoder of the text, which lies in the model."""
    from comfy.ldm.anima.model import LLMAdapter

    net.llm_adapter = LLMAdapter(TEXT, TEXT, TEXT, 1, 2, dtype=dtype, operations=comfy.ops.manual_cast)


def stable_audio(dtype):
    """With embeddings of the seconds as wide as the texts of these tests, which are 768 wide in ComfyUI."""
    from comfy.ldm.audio.embedders import NumberConditioner

    seconds = lambda width: NumberConditioner(width, min_val=0, max_val=512)
    config = comfy.supported_models.StableAudio({**STABLE_AUDIO, "dtype": dtype})
    model = comfy.model_base.StableAudio1(config, seconds(768).state_dict(), seconds(768).state_dict())
    torch.manual_seed(5)
    model.seconds_start_embedder, model.seconds_total_embedder = seconds(WIDE), seconds(WIDE)
    for embedder in (model.seconds_start_embedder, model.seconds_total_embedder):
        for parameter in embedder.parameters():
            parameter.requires_grad_(False).copy_(torch.randn(parameter.shape) / 8)
    return model


def some_seconds():
    return {"seconds_start": 2, "seconds_total": int(torch.randint(20, 60, ()))}


def tiny_lyric_encoder(net, dtype):
    from comfy.ldm.ace.lyric_encoder import ConformerEncoder

    net.lyric_encoder = ConformerEncoder(
        32, 32, attention_heads=2, linear_units=48, num_blocks=1, static_chunk_size=0, dtype=dtype,
        operations=comfy.ops.manual_cast,
    ).eval()  # fmt: skip


def lyrics(n):
    """Of which the longer text has more."""
    return {"conditioning_lyrics": torch.randint(0, 50, (1, 1 + n // 2))}


def seen(n):
    return {"attention_mask": torch.ones(1, n, dtype=torch.int64)}


def unprocessed():
    return {"unprocessed_ltxav_embeds": True}


def t5_tokens(n):
    return {"t5xxl_ids": torch.arange(n) % 7, "t5xxl_weights": torch.linspace(0.5, 1.5, n)}


LTXV = {
    "image_model": "ltxv", "in_channels": 128, "cross_attention_dim": 32, "attention_head_dim": 16,
    "num_attention_heads": 2, "caption_channels": TEXT, "num_layers": 2,
}  # fmt: skip
LTX2 = {
    **LTXV, "image_model": "ltxav", "audio_in_channels": 128, "audio_cross_attention_dim": 16,
    "audio_attention_head_dim": 8, "audio_num_attention_heads": 2, "use_middle_indices_grid": True,
    "rope_type": "split",
}  # fmt: skip
LTX23 = {
    **LTX2, "cross_attention_adaln": True, "apply_gated_attention": True, "caption_proj_before_connector": True,
    "caption_projection_first_linear": False,
}  # fmt: skip
COSMOS = {
    "image_model": "cosmos_predict2", "max_img_h": 32, "max_img_w": 32, "max_frames": 8, "in_channels": 16,
    "out_channels": 16, "patch_spatial": 2, "patch_temporal": 1, "model_channels": 64, "num_blocks": 2, "num_heads": 2,
    "crossattn_emb_channels": TEXT, "pos_emb_cls": "rope3d", "use_adaln_lora": True, "adaln_lora_dim": 8,
    "rope_enable_fps_modulation": False,
}  # fmt: skip
KANDINSKY5 = {
    "image_model": "kandinsky5", "in_text_dim": TEXT, "in_text_dim2": 20, "time_dim": 32, "model_dim": 64, "ff_dim": 96,
    "visual_embed_dim": 132, "num_text_blocks": 2, "num_visual_blocks": 2, "axes_dims": (4, 4, 8),
}  # fmt: skip
COSMOS_1 = {
    "image_model": "cosmos", "max_img_h": 32, "max_img_w": 32, "max_frames": 8, "in_channels": 16, "out_channels": 16,
    "patch_spatial": 2, "patch_temporal": 1, "block_config": "FA-CA-MLP", "model_channels": 64, "num_blocks": 2,
    "num_heads": 2, "block_x_format": "THWBD", "crossattn_emb_channels": TEXT, "pos_emb_cls": "rope3d",
    "affline_emb_norm": True, "use_adaln_lora": True, "adaln_lora_dim": 8, "extra_per_block_abs_pos_emb": True,
    "extra_per_block_abs_pos_emb_type": "learnable",
}  # fmt: skip
WIDE = 64  # two heads of keys and values, where there are four of queries
STABLE_AUDIO = {
    "audio_model": "dit1.0", "embed_dim": 128, "cond_token_dim": WIDE, "global_cond_dim": 2 * WIDE, "depth": 2,
    "num_heads": 4,
}  # fmt: skip
ACE_STEP = {
    "audio_model": "ace", "num_layers": 2, "inner_dim": 64, "attention_head_dim": 16, "num_attention_heads": 4,
    "mlp_ratio": 2.0, "text_embedding_dim": TEXT, "lyric_encoder_vocab_size": 50, "lyric_hidden_size": 32,
}  # fmt: skip
VIDEO = (128, 3, 4, 6)
SOUND = (8, 7, 16)  # channels, moments, frequencies
PICTURE_AND_SOUND = lambda latent: (math.prod(VIDEO[1:]), SOUND[1])  # which comes packed
of_ltx2 = connectors(TEXT, TEXT)
of_ltx23 = connectors(32, 16, needs=("cross_attention_adaln",))
of_kandinsky = Tokens(patches_of(2), cross=True, vector=("visual_transformer_blocks.N", 2))
CROSS = [
    DoorFamily(
        "ltxv", model("LTXV", "LTXV", **LTXV), None, NOBODYS, VIDEO,
        tokens=Tokens(patches_of(1), cross=True), of_text=seen,
    ),
    DoorFamily(
        "ltx2", model("LTXAV", "LTXAV", changed=of_ltx2, **LTX2), None, (11.0, 2.5, 0.25), VIDEO, sound=SOUND,
        tokens=Tokens(PICTURE_AND_SOUND, cross=True), width=2 * TEXT,
    ),
    DoorFamily(
        "ltx2_raw", model("LTXAV", "LTXAV", changed=of_ltx2, **LTX2), None, (11.0, 2.5, 0.25), VIDEO,
        sound=SOUND, tokens=Tokens(PICTURE_AND_SOUND, lambda n: 1024, cross=True),
    ),
    DoorFamily(
        "ltx23", model("LTXAV", "LTXAV", changed=of_ltx23, **LTX23), None, NOBODYS, VIDEO, sound=SOUND,
        tokens=Tokens(PICTURE_AND_SOUND, cross=True), width=32 + 16,
    ),
    DoorFamily(
        "ltx23_raw", model("LTXAV", "LTXAV", changed=of_ltx23, **LTX23), None, NOBODYS, VIDEO, sound=SOUND,
        tokens=Tokens(PICTURE_AND_SOUND, lambda n: 1024, cross=True), width=32 + 16, inputs=unprocessed,
    ),
    DoorFamily(
        "cosmos_predict2", model("CosmosPredict2", "CosmosT2IPredict2", **COSMOS), None, (5.0, 2.5, 0.25), FEW_CHANNELS,
        tokens=Tokens(patches_of(2), cross=True),
    ),
    DoorFamily(
        "anima", model("Anima", "Anima", changed=tiny_adapter, **{**COSMOS, "image_model": "anima"}), None,
        (6.0, 2.0, 0.1),
        (16, 1, 8, 12), tokens=Tokens(patches_of(2), lambda n: 512, cross=True), of_text=t5_tokens,
    ),
    DoorFamily(
        "kandinsky5_video", model("Kandinsky5", "Kandinsky5", **{**KANDINSKY5, "visual_embed_dim": 132}), None,
        (5.0, 2.5, 0.25), FEW_CHANNELS, tokens=of_kandinsky,
    ),
    DoorFamily(
        "kandinsky5_image", model("Kandinsky5Image", "Kandinsky5Image", **{**KANDINSKY5, "visual_embed_dim": 64}), None,
        (5.0, 2.5, 0.25), PICTURE, tokens=of_kandinsky,
    ),
    DoorFamily(
        "cosmos1", model("CosmosVideo", "CosmosT2V", **COSMOS_1), None, NOBODYS, FEW_CHANNELS,
        tokens=Tokens(patches_of(2), cross=True),
    ),
    DoorFamily(
        "stable_audio1", stable_audio, None, NOBODYS, (64, 20), inputs=some_seconds,
        tokens=Tokens(lambda latent: 1 + latent[-1], lambda n: n, cross=True), width=WIDE,
    ),
    DoorFamily(
        "ace_step1", model("ACEStep", "ACEStep", changed=tiny_lyric_encoder, **ACE_STEP), None, NOBODYS, (8, 16, 20),
        tokens=Tokens(lambda latent: latent[-1], lambda n: 2 + n + n // 2, cross=True), of_text=lyrics,
    ),
]  # fmt: skip
