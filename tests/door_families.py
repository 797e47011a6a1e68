"""The families whose negative waits at the doors: each a tiny model, and how many tokens it makes of text and image."""
import importlib
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass

import comfy.model_base
import comfy.ops
import comfy.supported_models
import pytest
import torch

from families import Family
from oracle import lockstep
from oracle.lockstep import Tokens, lockstep_model

TEXT = 24


@dataclass(frozen=True)
class DoorFamily(Family):
    """A family without a written-out oracle.

    Args:
        tokens: see Tokens.
        width: of its text.
        masked: its text encoder gives a mask with every text, also where it hides nothing.
        of_text: what its text encoder tells of a text of so many tokens.
    """

    tokens: Tokens = None
    width: int = TEXT
    masked: bool = False
    of_text: Callable[[int], dict] = lambda n: {}

    def conditioning(self, seed, tokens, pooled=20, hidden=0, **values):
        """hidden: how many of the tokens, the last ones, a mask hides."""
        torch.manual_seed(seed)
        mask = (torch.arange(tokens) < tokens - hidden).long()[None]
        masks = {"attention_mask": mask} if self.masked or hidden else {}
        entry = {"pooled_output": torch.randn(1, pooled), **masks, **self.inputs(), **self.of_text(tokens), **values}
        return [[torch.randn(1, tokens, self.width), entry]]

    @property
    def oracle(self):
        return lockstep

    def exact(self, patcher):
        return lockstep_model(patcher, self.tokens)

    def lockstep(self):
        return self.exact(self.patcher())


def model(base, config, takes=None, needs=(), changed=None, **settings):
    """A builder, by ComfyUI's classes of these names; the test is skipped where this ComfyUI has no such model.

    Args:
        takes: the class below comfy.ldm whose arguments the settings are. Those that it does not have are left out;
            none, if it is not told.
        needs: those of the settings without which it is no such model.
        changed: called with the diffusion model and the dtype, to make small what its settings leave large.
    """

    def build(dtype):
        made, told = getattr(comfy.model_base, base, None), getattr(comfy.supported_models, config, None)
        there = made is not None and told is not None
        known = arguments_of(takes) | {"image_model"} if there and takes else {*settings}
        if not there or not {*needs} <= known:
            pytest.skip(f"this ComfyUI has no {base} that takes {', '.join(needs) or 'anything'}")
        fitting = {name: value for name, value in settings.items() if name in known}
        built = made(told({**fitting, "dtype": dtype}))
        if changed is not None:
            changed(built.diffusion_model, dtype)
        return built

    return build


def arguments_of(path):
    """The names of what a class below comfy.ldm, or its bases, is made with."""
    module, _, name = path.rpartition(".")
    cls = getattr(importlib.import_module(f"comfy.ldm.{module}"), name)
    return {name for each in cls.__mro__ if "__init__" in vars(each) for name in inspect.signature(each).parameters}


def patches_of(size, further=0):
    """How many patches of size x size a picture has, with so many of further pictures behind it."""
    return lambda latent: further + math.prod(math.ceil(n / size) for n in latent[-2:]) * math.prod(latent[1:-2])


def padded(tokens, multiple):
    return -(-tokens // multiple) * multiple


def references(*shapes, method=None, **values):
    """What a conditioning with reference latents of these shapes, and other values, holds."""
    how = {} if method is None else {"reference_latents_method": method}
    return lambda: {"reference_latents": [torch.randn(1, *shape) for shape in shapes], **how, **values}


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
PICTURE, FRAME = (16, 8, 12), (16, 1, 8, 12)
PIXELS = (3, 16, 24)
PACKED = (128, 4, 6)  # as Flux.2's and MageFlow's latents are
NOBODYS, CHROMA_SAYS, Z_IMAGE_SAYS = (5.0, 2.5, 0.25), (5.0, 2.5, 0.25), (1.8, 2.5, 0.25)
KLEIN_SAYS, KREA_SAYS = (6.0, 2.0, 0.25), (1.5, 3.5, 0.5)



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
VIDEO, FEW_CHANNELS = (128, 3, 4, 6), (16, 3, 6, 8)
SOUND = (8, 7, 16)  # channels, moments, frequencies
PICTURE_AND_SOUND = lambda latent: (math.prod(VIDEO[1:]), SOUND[1])  # which comes packed
of_ltx2 = connectors(TEXT, TEXT)
of_ltx23 = connectors(32, 16, needs=("cross_attention_adaln",))
of_kandinsky = Tokens(patches_of(2), cross=True, vector=("visual_transformer_blocks.N", 2))
FAMILIES = [
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
        "ltxv", model("LTXV", "LTXV", **LTXV), None, (5.0, 2.5, 0.25), VIDEO,
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
        "ltx23", model("LTXAV", "LTXAV", changed=of_ltx23, **LTX23), None, (5.0, 2.5, 0.25), VIDEO, sound=SOUND,
        tokens=Tokens(PICTURE_AND_SOUND, cross=True), width=32 + 16,
    ),
    DoorFamily(
        "ltx23_raw", model("LTXAV", "LTXAV", changed=of_ltx23, **LTX23), None, (5.0, 2.5, 0.25), VIDEO, sound=SOUND,
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
]  # fmt: skip
JOINT = [family for family in FAMILIES if not family.tokens.cross]
CROSS = [family for family in FAMILIES if family.tokens.cross]
BY_NAME = {family.name: family for family in FAMILIES}
