"""Families with several encoders of the text, or whose pooled prompt modulates text and image."""
import inspect
from types import SimpleNamespace

import comfy.latent_formats
import torch
from comfy.ldm.flux.layers import DoubleStreamBlock

from oracle.lockstep import Tokens

from .builder import NOBODYS, PICTURE, TEXT, DoorFamily, model, patches_of

HUNYUAN = "hunyuan_video.model.HunyuanVideoParams"
HUNYUAN_VIDEO = {
    "image_model": "hunyuan_video", "in_channels": 16, "out_channels": 16, "vec_in_dim": 20, "context_in_dim": TEXT,
    "hidden_size": 64, "mlp_ratio": 2.0, "num_heads": 4, "depth": 2, "depth_single_blocks": 2, "axes_dim": [4, 4, 8],
    "theta": 256, "patch_size": [1, 2, 2], "qkv_bias": True, "guidance_embed": True, "byt5": False, "meanflow": False,
    "use_cond_type_embedding": False, "vision_in_dim": None, "meanflow_sum": False,
}  # fmt: skip
HUNYUAN_VIDEO_15 = {
    **HUNYUAN_VIDEO, "in_channels": 65, "out_channels": 32, "vec_in_dim": None, "patch_size": [1, 1, 1],
    "guidance_embed": False, "byt5": True, "use_cond_type_embedding": True, "vision_in_dim": 12, "meanflow_sum": True,
}  # fmt: skip
HUNYUAN_IMAGE = {
    **HUNYUAN_VIDEO, "in_channels": 64, "out_channels": 64, "vec_in_dim": None, "patch_size": [1, 1],
    "axes_dim": [8, 8], "guidance_embed": False, "byt5": True,
}  # fmt: skip
HUNYUAN_REFINER = {
    **HUNYUAN_VIDEO, "in_channels": 128, "out_channels": 64, "vec_in_dim": None, "patch_size": [1, 1, 1],
    "guidance_embed": False, "meanflow": True,
}  # fmt: skip
VIDEO, VIDEO_15 = (16, 3, 6, 8), (32, 3, 3, 4)
N_SEEN = 5  # tokens of CLIP's vision
hunyuan_image_first = lambda: "flipped_img_txt" in inspect.signature(DoubleStreamBlock).parameters


def of_hunyuan(size, of_text=lambda n: n, one_image=False, further=0):
    return Tokens(patches_of(size, further), of_text, image_first=hunyuan_image_first, one_image=one_image)


def glyphs(n):
    """ByT5's tokens, of which the longer text has more."""
    return {"conditioning_byt5small": torch.randn(1, n // 2, 1472)}


def seen():
    return {"clip_vision_output": SimpleNamespace(last_hidden_state=torch.randn(1, N_SEEN, 12))}


def first_frame():
    return {
        "concat_latent_image": torch.randn(1, *VIDEO),
        "concat_mask": torch.rand(1, 1, *VIDEO[1:]).round(),
        "guidance": 4.0,
    }


def guiding_frame():
    return {"guiding_frame_index": 0, "guidance": 4.0}


def to_refine():
    """The picture that the refiner is given, of which newer ComfyUI puts two frames into one."""
    format = comfy.latent_formats.HunyuanImage21Refiner()
    folds = format.process_in(torch.zeros(1, 32, 5, 4, 6)).shape[1] == 64
    return {"concat_latent_image": torch.randn(1, 32, 5, 4, 6) if folds else torch.randn(1, 64, 3, 4, 6)}


SAYS = (9.0, 2.5, 0.12)
HUNYUANS = [
    DoorFamily(
        "hunyuan_video", model("HunyuanVideo", "HunyuanVideo", HUNYUAN, **HUNYUAN_VIDEO), None, SAYS, VIDEO,
        inputs=lambda: {"guidance": 4.0}, tokens=of_hunyuan(2, one_image=True),
    ),
    DoorFamily(
        "hunyuan_video_i2v",
        model("HunyuanVideoI2V", "HunyuanVideoI2V", HUNYUAN, **{**HUNYUAN_VIDEO, "in_channels": 33}),
        None, SAYS, VIDEO, inputs=first_frame, tokens=of_hunyuan(2, one_image=True),
    ),
    DoorFamily(
        "hunyuan_video_skyreels",
        model("HunyuanVideoSkyreelsI2V", "HunyuanVideoSkyreelsI2V", HUNYUAN, **{**HUNYUAN_VIDEO, "in_channels": 32}),
        None, SAYS, VIDEO, inputs=first_frame, tokens=of_hunyuan(2, one_image=True),
    ),
    DoorFamily(
        "hunyuan_video_15", model("HunyuanVideo15", "HunyuanVideo15", HUNYUAN, **HUNYUAN_VIDEO_15), None, NOBODYS,
        VIDEO_15, tokens=of_hunyuan(1, lambda n: n + n // 2), of_text=glyphs,
    ),
    DoorFamily(
        "hunyuan_video_15_i2v", model("HunyuanVideo15", "HunyuanVideo15", HUNYUAN, **HUNYUAN_VIDEO_15), None, NOBODYS,
        VIDEO_15, inputs=seen, tokens=of_hunyuan(1, lambda n: n + n // 2 + N_SEEN), of_text=glyphs,
    ),
    DoorFamily(
        "hunyuan_video_15_sr",
        model("HunyuanVideo15_SR_Distilled", "HunyuanVideo15_SR_Distilled", HUNYUAN,
              **{**HUNYUAN_VIDEO_15, "in_channels": 98, "meanflow": True}),
        None, NOBODYS, VIDEO_15, inputs=seen, tokens=of_hunyuan(1, lambda n: n + n // 2 + N_SEEN), of_text=glyphs,
    ),
    DoorFamily(
        "hunyuan_image", model("HunyuanImage21", "HunyuanImage21", HUNYUAN, **HUNYUAN_IMAGE), None, NOBODYS,
        (64, 5, 6), tokens=of_hunyuan(1, lambda n: n + n // 2), of_text=glyphs,
    ),
    DoorFamily(
        "hunyuan_image_distilled",
        model("HunyuanImage21", "HunyuanImage21", HUNYUAN,
              **{**HUNYUAN_IMAGE, "meanflow": True, "guidance_embed": True}),
        None, NOBODYS, (64, 5, 6), inputs=lambda: {"guidance": 4.0}, tokens=of_hunyuan(1),
    ),
    DoorFamily(
        "hunyuan_image_refiner",
        model("HunyuanImage21Refiner", "HunyuanImage21Refiner", HUNYUAN, **HUNYUAN_REFINER), None, NOBODYS,
        (64, 3, 4, 6), inputs=to_refine, tokens=of_hunyuan(1),
    ),
]  # fmt: skip
HIDREAM = {
    "image_model": "hidream", "patch_size": 2, "in_channels": 16, "out_channels": 16, "num_layers": 2,
    "num_single_layers": 3, "attention_head_dim": 16, "num_attention_heads": 4, "caption_channels": [TEXT, 28],
    "text_emb_dim": 20, "num_routed_experts": 3, "num_activated_experts": 2, "axes_dims_rope": (4, 4, 8),
    "max_resolution": (32, 32), "llama_layers": [0, 2, 3, 1, 3],
}  # fmt: skip


def llamas(further=0):
    """Gives Llama's tokens in each of its layers: as many as T5 makes, and some further ones."""
    return lambda n: {"conditioning_llama3": torch.randn(1, 4, n + further, 28)}


def to_edit():
    return {"concat_latent_image": torch.randn(1, *PICTURE)}


of_hidream = lambda pictures, further=0: Tokens(
    lambda latent: pictures * patches_of(2)(latent), lambda n: n + 2 * (n + further), image_first=lambda: True,
    one_image=True,
)  # fmt: skip
HIDREAMS = [
    DoorFamily(
        "hidream", model("HiDream", "HiDream", **HIDREAM), None, NOBODYS, PICTURE, tokens=of_hidream(1),
        of_text=llamas(),
    ),
    DoorFamily(  # ComfyUI does not patch the experts' gate where it does not load a model as a whole
        "hidream_without_experts", model("HiDream", "HiDream", **{**HIDREAM, "num_routed_experts": 0}), None, NOBODYS,
        PICTURE, tokens=of_hidream(1), of_text=llamas(),
    ),
    DoorFamily(
        "hidream_e1", model("HiDream", "HiDream", **HIDREAM), None, NOBODYS, PICTURE, inputs=to_edit,
        tokens=of_hidream(2, 1), of_text=llamas(1),
    ),
]  # fmt: skip
MOCHI = {
    "image_model": "mochi_preview", "depth": 3, "patch_size": 2, "num_heads": 4, "hidden_size_x": 96,
    "hidden_size_y": 48, "mlp_ratio_x": 128.0, "mlp_ratio_y": 2.0, "learn_sigma": False, "in_channels": 12,
    "qk_norm": True, "qkv_bias": False, "out_bias": True, "attn_drop": 0.0, "patch_embed_bias": True,
    "posenc_preserve_area": True, "timestep_mlp_bias": True, "attend_to_padding": False, "timestep_scale": 1000.0,
    "use_t5": True, "t5_feat_dim": TEXT, "t5_token_length": 256, "rope_theta": 10000.0,
}  # fmt: skip
said = lambda n: n - n // 3


def behind_padding(n):
    """Some of the tokens, the last ones, are padding."""
    return {"attention_mask": (torch.arange(n) < said(n)).long()[None]}


MOCHIS = [
    DoorFamily(
        "mochi", model("GenmoMochi", "GenmoMochi", **MOCHI), None, NOBODYS, (12, 3, 6, 8),
        tokens=Tokens(patches_of(2), said, image_first=lambda: True, one_image=True), of_text=behind_padding,
    ),
]  # fmt: skip
POOLED = [*HUNYUANS, *HIDREAMS, *MOCHIS]
MINIMAX = {
    "image_model": "minimax_h3", "hidden_size": 64, "num_layers": 2, "token_refiner_num_layers": 1,
    "num_attention_heads": 4, "attention_head_dim": 16, "ffn_hidden_size": 96, "latents_dim": 24,
    "audio_latents_dim": 32, "text_dim": TEXT, "timestep_input_dim": 32, "time_embed_hidden_size": 48,
    "time_embed_dim": 40, "rope_inv_freq_len": 2,
}  # fmt: skip
MINIMAX_VIDEO, MINIMAX_SOUND = (24, 3, 4, 6), (32, 2, 5)
N_MINIMAX = 3 * 2 * 3 + 2 * 5


def tags(n):
    """Some tokens in the middle stand for a picture."""
    return {"minimax_token_tags": (torch.arange(n) // 2 != 1).long()}


# ComfyUI computes one row at a time.
ONE_ROW = [
    DoorFamily(
        "minimax_h3", model("MiniMaxH3", "MiniMaxH3", **MINIMAX), None, NOBODYS, MINIMAX_VIDEO, sound=MINIMAX_SOUND,
        tokens=Tokens(lambda latent: N_MINIMAX), of_text=tags,
    ),
]  # fmt: skip
