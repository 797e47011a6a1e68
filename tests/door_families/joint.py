"""Families whose text and image attend together."""
import torch

from oracle.lockstep import Tokens

from .builder import (
    FEW_CHANNELS,
    FRAME,
    NOBODYS,
    PICTURE,
    PIXELS,
    TEXT,
    DoorFamily,
    model,
    padded,
    patches_of,
    references,
)

NEXT_DIT = "lumina.model.NextDiT"
LUMINA = {
    "image_model": "lumina2", "in_channels": 16, "dim": 96, "n_layers": 3, "n_refiner_layers": 2, "n_heads": 4,
    "multiple_of": 16, "qk_norm": True, "cap_feat_dim": TEXT, "axes_dims": [8, 8, 8], "axes_lens": [64] * 3,
    "patch_size": 2, "n_kv_heads": 2,
}  # fmt: skip
Z_IMAGE = {
    **LUMINA, "dim": 256, "axes_dims": [16, 24, 24], "n_kv_heads": 4, "z_image_modulation": True, "time_scale": 1000.0,
    "pad_tokens_multiple": 8, "rope_theta": 256.0,
}  # fmt: skip
Z_IMAGE_PIXEL = {
    **Z_IMAGE, "image_model": "zimage_pixel", "in_channels": 3, "patch_size": 4, "decoder_hidden_size": 32,
    "decoder_num_res_blocks": 2, "decoder_max_freqs": 4, "use_x0": True,
}  # fmt: skip
QWEN_IMAGE = "qwen_image.model.QwenImageTransformer2DModel"
QWEN = {
    "image_model": "qwen_image", "in_channels": 64, "out_channels": 16, "num_layers": 3, "attention_head_dim": 24,
    "num_attention_heads": 4, "joint_attention_dim": TEXT, "axes_dims_rope": (8, 8, 8),
}  # fmt: skip
MAGE = {**QWEN, "image_model": "mage_flow", "in_channels": 128, "out_channels": 128}
CHROMA = {
    "image_model": "chroma", "in_channels": 64, "out_channels": 64, "context_in_dim": TEXT, "hidden_size": 64,
    "mlp_ratio": 2.0, "num_heads": 4, "depth": 2, "depth_single_blocks": 2, "axes_dim": [4, 4, 8], "theta": 10000,
    "patch_size": 2, "qkv_bias": True, "in_dim": 64, "out_dim": 64, "hidden_dim": 32, "n_layers": 2, "txt_ids_dims": [],
    "vec_in_dim": None,
}  # fmt: skip
RADIANCE = {  # without tiles, in which ComfyUI 0.3.62 mixes up the rows of a batch
    **CHROMA, "image_model": "chroma_radiance", "in_channels": 3, "out_channels": 3, "patch_size": 4,
    "nerf_hidden_size": 16, "nerf_mlp_ratio": 2, "nerf_depth": 2, "nerf_max_freqs": 4, "nerf_tile_size": 0,
    "nerf_final_head_type": "conv", "nerf_embedder_dtype": torch.float32, "use_x0": False,
    "use_sequential_txt_ids": False,
}  # fmt: skip
FLUX = "flux.model.FluxParams"
FLUX_2 = {
    "image_model": "flux2", "in_channels": 128, "out_channels": 128, "vec_in_dim": None, "context_in_dim": TEXT,
    "hidden_size": 64, "mlp_ratio": 2.0, "num_heads": 4, "depth": 2, "depth_single_blocks": 2,
    "axes_dim": [4, 4, 4, 4], "theta": 2000, "patch_size": 1, "qkv_bias": False, "guidance_embed": False,
    "txt_ids_dims": [3], "global_modulation": True, "mlp_silu_act": True, "ops_bias": False,
    "default_ref_method": "index", "ref_index_scale": 10.0,
}  # fmt: skip
LONGCAT = {
    "image_model": "flux", "in_channels": 16, "out_channels": 16, "vec_in_dim": None, "context_in_dim": TEXT,
    "hidden_size": 64, "mlp_ratio": 2.0, "num_heads": 4, "depth": 2, "depth_single_blocks": 2, "axes_dim": [4, 4, 8],
    "theta": 10000, "patch_size": 2, "qkv_bias": True, "guidance_embed": False, "txt_ids_dims": [1, 2],
}  # fmt: skip
KREA = "krea2.model.SingleStreamDiT"
KREA_2 = {
    "image_model": "krea2", "features": 64, "tdim": 32, "txtdim": 8, "heads": 4, "kvheads": 2, "multiplier": 2,
    "layers": 3, "patch": 2, "channels": 16, "txtlayers": 3, "txtheads": 2, "txtkvheads": 2,
}  # fmt: skip
KREA_OFFSETS = ("bias", ".scale")
IDEOGRAM_4 = {
    "image_model": "ideogram4", "in_channels": 128, "num_layers": 3, "num_attention_heads": 4, "attention_head_dim": 24,
    "intermediate_size": 64, "adaln_dim": 32, "llm_features_dim": TEXT, "mrope_section": (4, 4, 4),
}  # fmt: skip
OMNIGEN_2 = {
    "image_model": "omnigen2", "hidden_size": 48, "num_layers": 3, "num_attention_heads": 4, "num_kv_heads": 2,
    "multiple_of": 16, "axes_dim_rope": (4, 4, 4), "text_feat_dim": TEXT,
}  # fmt: skip
BOOGU = {
    "image_model": "boogu", "hidden_size": 48, "num_layers": 2, "num_double_stream_layers": 2, "num_attention_heads": 4,
    "num_kv_heads": 2, "multiple_of": 16, "axes_dim_rope": (4, 4, 4), "instruction_feat_dim": TEXT,
}  # fmt: skip
AURAFLOW = {
    "dim": 64, "n_layers": 4, "n_double_layers": 2, "n_heads": 4, "global_conddim": 64, "cond_seq_dim": TEXT,
    "max_seq": 16 * 16,
}  # fmt: skip
COGVIDEOX = {
    "image_model": "cogvideox", "num_attention_heads": 6, "attention_head_dim": 16, "in_channels": 16,
    "out_channels": 16, "time_embed_dim": 32, "text_embed_dim": TEXT, "num_layers": 3,
}  # fmt: skip
COGVIDEOX_15 = {
    **COGVIDEOX, "in_channels": 32, "patch_size_t": 2, "ofs_embed_dim": 32, "use_rotary_positional_embeddings": True,
}  # fmt: skip
PIXELDIT = {
    "image_model": "pixeldit_t2i", "num_groups": 4, "hidden_size": 64, "pixel_hidden_size": 16,
    "pixel_attn_hidden_size": 64, "pixel_num_groups": 4, "patch_depth": 3, "pixel_depth": 1, "patch_size": 4,
    "txt_embed_dim": TEXT, "txt_max_length": 12,
}  # fmt: skip
PID = {**PIXELDIT, "image_model": "pid", "lq_hidden_dim": 16, "lq_num_res_blocks": 1}
LENS = {
    "image_model": "lens", "num_layers": 3, "attention_head_dim": 16, "num_attention_heads": 4,
    "enc_hidden_dim": TEXT // 2, "axes_dims_rope": (4, 4, 8), "selected_layer_index": (1, 2),
}  # fmt: skip
JOYIMAGE = {
    "image_model": "joyimage", "hidden_size": 64, "num_attention_heads": 4, "text_dim": TEXT, "mlp_width_ratio": 2.0,
    "num_layers": 3, "rope_dim_list": [4, 4, 8], "theta": 10000,
}  # fmt: skip
PACKED = (128, 4, 6)  # as Flux.2's and MageFlow's latents are
CHROMA_SAYS, Z_IMAGE_SAYS = (5.0, 2.5, 0.25), (1.8, 2.5, 0.25)
FIRST_FRAME = (16, 4, 6, 8)
KLEIN_SAYS, KREA_SAYS = (6.0, 2.0, 0.25), (1.5, 3.5, 0.5)



def first_frame():
    return {"concat_latent_image": torch.randn(1, *FIRST_FRAME)}


def small_picture():
    return {"lq_latent": torch.randn(1, 16, 2, 3), "degrade_sigma": torch.tensor([0.3])}


JOINT = [
    DoorFamily(
        "lumina2", model("Lumina2", "Lumina2", NEXT_DIT, **LUMINA), None, NOBODYS, PICTURE,
        tokens=Tokens(patches_of(2)),
        masked=True,
    ),
    DoorFamily(
        "z_image",
        model("Lumina2", "ZImage", NEXT_DIT, ("pad_tokens_multiple",), **Z_IMAGE),
        None, Z_IMAGE_SAYS, PICTURE,
        tokens=Tokens(lambda latent: padded(patches_of(2)(latent), 8), lambda n: padded(n, 8)),
    ),
    DoorFamily(
        "z_image_pixel",
        model("ZImagePixelSpace", "ZImagePixelSpace", "lumina.model.NextDiTPixelSpace", **Z_IMAGE_PIXEL),
        None, Z_IMAGE_SAYS, PIXELS,
        tokens=Tokens(patches_of(4), lambda n: padded(n, 8)),
    ),
    DoorFamily(
        "qwen_image", model("QwenImage", "QwenImage", QWEN_IMAGE, **QWEN), None, NOBODYS, FRAME,
        tokens=Tokens(patches_of(2)),
    ),
    DoorFamily(
        "qwen_image_edit",
        model("QwenImage", "QwenImage", QWEN_IMAGE, **QWEN),
        None, NOBODYS, FRAME,
        inputs=references((16, 1, 6, 4), (16, 1, 4, 4)),
        tokens=Tokens(patches_of(2, 6 + 4)),
    ),
    DoorFamily(
        "qwen_image_edit_2511",
        model("QwenImage", "QwenImage", QWEN_IMAGE, ("default_ref_method",), **QWEN,
              default_ref_method="index_timestep_zero"),
        None, NOBODYS, FRAME,
        inputs=references((16, 1, 6, 4)),
        tokens=Tokens(patches_of(2, 6)),
    ),
    DoorFamily(
        "qwen_image_layered",
        model("QwenImage", "QwenImage", QWEN_IMAGE, ("use_additional_t_cond",), **QWEN, use_additional_t_cond=True,
              default_ref_method="negative_index"),
        None, NOBODYS, (16, 3, 4, 6),
        inputs=references((16, 1, 4, 6)),
        tokens=Tokens(patches_of(2, 6)),
    ),
    DoorFamily(
        "mage_flow",
        model("MageFlow", "MageFlow", "mage_flow.model.MageFlowTransformer2DModel", **MAGE),
        None, NOBODYS, PACKED,
        inputs=references((128, 2, 3)),
        tokens=Tokens(patches_of(1, 6)),
    ),
    DoorFamily(
        "chroma", model("Chroma", "Chroma", "chroma.model.ChromaParams", **CHROMA), None, CHROMA_SAYS, PICTURE,
        tokens=Tokens(patches_of(2)),
    ),
    DoorFamily(
        "chroma_radiance",
        model("ChromaRadiance", "ChromaRadiance", "chroma_radiance.model.ChromaRadianceParams", **RADIANCE),
        None, NOBODYS, PIXELS,
        tokens=Tokens(patches_of(4)),
    ),
    DoorFamily(
        "chroma_radiance_with_places",
        model("ChromaRadiance", "ChromaRadiance", "chroma_radiance.model.ChromaRadianceParams",
              ("use_sequential_txt_ids",), **{**RADIANCE, "use_sequential_txt_ids": True, "use_x0": True}),
        None, NOBODYS, PIXELS,
        tokens=Tokens(patches_of(4)),
    ),
    DoorFamily(
        "flux2_klein", model("Flux2", "Flux2", FLUX, **FLUX_2), None, KLEIN_SAYS, PACKED, tokens=Tokens(patches_of(1))
    ),
    DoorFamily(
        "flux2_dev",
        model("Flux2", "Flux2", FLUX, **{**FLUX_2, "guidance_embed": True}),
        None, NOBODYS, PACKED,
        inputs=references((128, 2, 3), (128, 1, 4), guidance=4.0),  # see families.py
        tokens=Tokens(patches_of(1, 6 + 4)),
    ),
    DoorFamily(
        "longcat", model("LongCatImage", "LongCatImage", FLUX, **LONGCAT), None, NOBODYS, PICTURE,
        tokens=Tokens(patches_of(2)),
    ),
    DoorFamily(
        "ovis",
        model("Flux", "FluxSchnell", FLUX, ("yak_mlp",), **LONGCAT, yak_mlp=True, txt_norm=True),
        None, NOBODYS, PICTURE,
        tokens=Tokens(patches_of(2)),
    ),
    DoorFamily(
        "krea2", model("Krea2", "Krea2", KREA, **KREA_2), None, KREA_SAYS, FRAME,
        offsets=KREA_OFFSETS,
        tokens=Tokens(patches_of(2)),
    ),
    DoorFamily(
        "krea2_edit",
        model("Krea2", "Krea2", KREA, ("default_ref_method",), **KREA_2, default_ref_method="index_timestep_zero"),
        None, KREA_SAYS, FRAME,
        inputs=references((16, 1, 6, 4), (16, 1, 4, 4)),
        offsets=KREA_OFFSETS,
        tokens=Tokens(patches_of(2, 6 + 4)),
    ),
    DoorFamily(
        "ideogram4", model("Ideogram4", "Ideogram4", **IDEOGRAM_4), None, NOBODYS, PACKED, tokens=Tokens(patches_of(1))
    ),
    DoorFamily(
        "omnigen2", model("Omnigen2", "Omnigen2", **OMNIGEN_2), None, NOBODYS, PICTURE,
        tokens=Tokens(patches_of(2)), masked=True,
    ),
    DoorFamily(
        "omnigen2_edit", model("Omnigen2", "Omnigen2", **OMNIGEN_2), None, NOBODYS, PICTURE,
        inputs=references((16, 6, 4), (16, 4, 4)),
        tokens=Tokens(patches_of(2, 6 + 4)), masked=True,
    ),
    DoorFamily(
        "boogu", model("Boogu", "Boogu", **BOOGU), None, NOBODYS, PICTURE, tokens=Tokens(patches_of(2)), masked=True
    ),
    DoorFamily(
        "boogu_edit", model("Boogu", "Boogu", **BOOGU), None, NOBODYS, PICTURE,
        inputs=references((16, 6, 4), (16, 4, 4)),
        tokens=Tokens(patches_of(2, 6 + 4)), masked=True,
    ),
    DoorFamily(
        "auraflow", model("AuraFlow", "AuraFlow", **AURAFLOW), None, NOBODYS, (4, 8, 12),
        tokens=Tokens(patches_of(2), lambda n: n + 8),
    ),
    DoorFamily(
        "cogvideox", model("CogVideoX", "CogVideoX_T2V", **COGVIDEOX), None, NOBODYS, FEW_CHANNELS,
        tokens=Tokens(patches_of(2)),
    ),
    DoorFamily(
        "cogvideox_i2v", model("CogVideoX", "CogVideoX_I2V", **COGVIDEOX_15), None, NOBODYS, FIRST_FRAME,
        inputs=first_frame,
        tokens=Tokens(lambda latent: patches_of(2)(latent) // 2),  # its patches have two frames
    ),
    DoorFamily(
        "pixeldit", model("PixelDiTT2I", "PixelDiTT2I", **PIXELDIT), None, NOBODYS, PIXELS,
        tokens=Tokens(patches_of(4), lambda n: min(n, 12)),
    ),
    DoorFamily(
        "pid", model("PiD", "PiD", **PID), None, NOBODYS, PIXELS,
        inputs=small_picture,
        tokens=Tokens(patches_of(4), lambda n: min(n, 12)),
    ),
    DoorFamily(
        "lens", model("Lens", "Lens", **LENS), None, NOBODYS, PACKED,
        tokens=Tokens(patches_of(1), image_first=lambda: True),
    ),
    DoorFamily(
        "joyimage", model("JoyImage", "JoyImage", **JOYIMAGE), None, NOBODYS, FRAME,
        tokens=Tokens(patches_of(2), image_first=lambda: True),
    ),
    DoorFamily(
        "joyimage_edit", model("JoyImage", "JoyImage", **JOYIMAGE), None, NOBODYS, FRAME,
        inputs=references((16, 1, 6, 4), (16, 1, 4, 4)),
        tokens=Tokens(patches_of(2, 6 + 4), image_first=lambda: True),
    ),
]  # fmt: skip
