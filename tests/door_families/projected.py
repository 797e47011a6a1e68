"""Families whose image attends to the text where no override reaches."""
import comfy.model_base
import comfy.supported_models
import pytest
import torch
from comfy.ldm.audio.embedders import NumberConditioner

from oracle.lockstep import Tokens

from .builder import NOBODYS, TEXT, DoorFamily, model, patches_of

PIXART = {
    "image_model": "pixart_sigma", "hidden_size": 96, "depth": 2, "num_heads": 4, "caption_channels": TEXT,
    "model_max_length": 30, "micro_condition": False, "pe_interpolation": 2,
}  # fmt: skip
WIDE = (4, 8, 60)  # PixArt counts places in units of pictures of this size
HUNYUAN_DIT = {
    "image_model": "hydit", "hidden_size": 48, "depth": 4, "num_heads": 2, "text_states_dim": TEXT,
    "text_states_dim_t5": 32, "text_len": 2, "text_len_t5": 5,
}  # fmt: skip
ACE = "ace.ace_step15.AceStepConditionGenerationModel"
ACE_STEP_15 = {
    "audio_model": "ace1.5", "hidden_size": 64, "text_hidden_dim": TEXT, "num_dit_layers": 2, "num_lyric_layers": 1,
    "num_timbre_layers": 1, "num_tokenizer_layers": 1, "num_heads": 4, "num_kv_heads": 2, "head_dim": 16,
    "intermediate_size": 96, "fsq_dim": 64, "encoder_hidden_size": 64, "encoder_intermediate_size": 96,
    "encoder_num_heads": 4,
}  # fmt: skip
STABLE_AUDIO_3 = {
    "audio_model": "dit1.0", "io_channels": 256, "embed_dim": 64, "cond_token_dim": 768, "global_cond_dim": 768,
    "num_heads": 2, "depth": 2, "timestep_features_type": "expo", "global_cond_type": "adaLN", "norm_type": "rms_norm",
    "global_cond_shared_embed": True, "local_add_cond_dim": 257, "project_cond_tokens": True,
}  # fmt: skip
ERNIE = {
    "image_model": "ernie", "hidden_size": 96, "num_attention_heads": 4, "num_layers": 3, "ffn_hidden_size": 64,
    "in_channels": 128, "out_channels": 128, "text_in_dim": TEXT, "rope_axes_dim": (8, 8, 8),
}  # fmt: skip
CASCADE = {
    "stable_cascade_stage": "c", "c_hidden": [64, 64], "nhead": [4, 4], "blocks": [[1, 2], [2, 1]],
    "block_repeat": [[1, 1], [2, 1]], "c_cond": 48, "c_r": 16, "c_clip_text": TEXT, "c_clip_text_pooled": 20,
    "c_clip_seq": 2,
}  # fmt: skip
MUSIC = (64, 14)
OF_MT5 = 5  # tokens


def with_mt5(n):
    """Each text encoder hides tokens of its own, of which the last ones are replaced."""
    masks = {"attention_mask": torch.arange(n)[None] < n - 1, "attention_mask_mt5xl": torch.arange(OF_MT5)[None] < 3}
    return {"conditioning_mt5xl": torch.randn(1, OF_MT5, 32), **masks}


def stable_audio_3(differential, pads=True, memory=0):
    """A builder of the model, with what it makes tokens of the sound's length by, and the pads of its texts.

    memory: how many tokens of its own it has.
    """

    def build(dtype):
        if not hasattr(comfy.model_base, "StableAudio3"):
            pytest.skip("this ComfyUI has no StableAudio3")
        torch.manual_seed(0)
        made = NumberConditioner(768, min_val=0, max_val=384, fourier_features_type="expo").state_dict()
        seconds = {name: torch.randn(value.shape) / 16 for name, value in made.items()}
        attention = {"qk_norm": "rms", "differential": differential}
        more = {"attn_kwargs": attention, "num_memory_tokens": memory, "dtype": dtype}
        config = comfy.supported_models.StableAudio3({**STABLE_AUDIO_3, **more})
        return comfy.model_base.StableAudio3(config, seconds, torch.randn(768) if pads else None)

    return build


def with_lyrics(n):
    return {"conditioning_lyrics": torch.randn(1, 3, TEXT)}


def with_codes(n):
    return {**with_lyrics(n), "audio_codes": [torch.randint(64000, (n,)).tolist()]}


def with_timbre(n):
    return {**with_codes(n), "reference_audio_timbre_latents": [torch.randn(1, 64, 9)]}


def as_loaded(net, dtype):
    """Not in training, as ComfyUI's loader has it."""
    net.eval()


def sizes():
    return {"width": 96, "height": 64, "aspect_ratio": 0.7}


of_pixart = Tokens(patches_of(2), cross=True, projection="blocks.N.cross_attn.proj")
of_hunyuan = Tokens(
    patches_of(2), lambda n: n + OF_MT5, cross=True, vector=("blocks.N", 1), projection="blocks.N.attn2.out_proj"
)
of_ace = Tokens(
    lambda latent: latent[-1] // 2, lambda n: n + 3 + 1, cross=True, vector=("decoder.proj_in", 0),
    projection="decoder.layers.N.cross_attn.o_proj",
)  # fmt: skip
def of_stable_audio(of_text):
    return Tokens(
        lambda latent: latent[-1], of_text, cross=True, projection="transformer.layers.N.cross_attn.to_out"
    )


PROJECTED = [
    DoorFamily(
        "pixart_sigma", model("PixArt", "PixArtSigma", changed=as_loaded, **PIXART), None, NOBODYS, WIDE,
        tokens=of_pixart,
    ),
    DoorFamily(
        "pixart_alpha",
        model("PixArt", "PixArtAlpha", changed=as_loaded,
              **{**PIXART, "image_model": "pixart_alpha", "micro_condition": True}),
        None, NOBODYS, WIDE,
        tokens=of_pixart, inputs=sizes,
    ),
    DoorFamily(
        "hunyuan_dit", model("HunyuanDiT", "HunyuanDiT", **HUNYUAN_DIT), None, NOBODYS, (4, 8, 12),
        tokens=of_hunyuan, of_text=with_mt5,
    ),
    DoorFamily(
        "hunyuan_dit1",
        model("HunyuanDiT", "HunyuanDiT1",
              **{**HUNYUAN_DIT, "image_model": "hydit1", "size_cond": True, "use_style_cond": True}),
        None, NOBODYS, (4, 8, 12),
        tokens=of_hunyuan, of_text=with_mt5, inputs=sizes,
    ),
    *(
        DoorFamily(
            name, model("ACEStep15", "ACEStep15", ACE, **ACE_STEP_15), None, NOBODYS, MUSIC,
            tokens=of_ace, of_text=of_text,
        )
        for name, of_text in {
            "ace_step15": with_codes, "ace_step15_without_codes": with_lyrics, "ace_step15_timbre": with_timbre
        }.items()
    ),
    DoorFamily(
        "stable_cascade", model("StableCascade_C", "Stable_Cascade_C", **CASCADE), None, NOBODYS, (16, 6, 8),
        tokens=Tokens(patches_of(1), cross=True, projection="*_blocks.N.N.attention.attn.out_proj"),
    ),
    DoorFamily(
        "stable_audio3", stable_audio_3(differential=True), None, NOBODYS, (256, 14),
        tokens=of_stable_audio(lambda n: max(n, 256) + 1), width=768,
    ),
    DoorFamily(
        "stable_audio3_without_pads", stable_audio_3(differential=False, pads=False, memory=3), None, NOBODYS,
        (256, 14),
        tokens=of_stable_audio(lambda n: n + 1), width=768,
    ),
]  # fmt: skip
JOINED = [
    DoorFamily(
        "ernie_image", model("ErnieImage", "ErnieImage", "ernie.model.ErnieImageModel", **ERNIE), None, NOBODYS,
        (128, 4, 6),
        tokens=Tokens(patches_of(1), projection="layers.N.self_attention.to_out.0"),
    )
]
