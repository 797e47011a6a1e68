"""The cases: real architectures at real sizes, and the same scaled down for a CPU, with random weights.

Configurations are those that ComfyUI's model_detection gives for the published checkpoints. Sizes that it reads from
the weights are their publishers'; for Krea 2, LTX-2, Kandinsky 5 Lite, Ideogram 4, Lens, JoyImage, Boogu, AuraFlow,
PixelDiT, ERNIE-Image, Stable Audio 1 and 3 and ACE-Step 1.5 they are the defaults of ComfyUI's classes, for Anima those
of Cosmos Predict2 2B, from which it was made. Stable Audio 3's attention is taken to be the difference of two.
Flux.2's, Anima's and Cosmos 1's prompts always have 512 tokens, LTX-2's have 1024; where a case's name does not tell,
the others' have as many as ComfyUI pads them to.

A scaled-down case divides the model's width and the number of image and text tokens by about the same factor, so that
attention and projections keep their shares, and with them the ratios; heads stay as wide as they are.
"""
import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import comfy.model_base
import comfy.model_patcher
import comfy.supported_models
import torch
from patches.models import find_adapter


@dataclass(frozen=True)
class Architecture:
    """
    Args:
        base, supported: the names of its classes, in comfy.model_base and in comfy.supported_models.
        config: that of the published checkpoint.
        blocks: by kind, the entry of config with the number of the blocks in which text and image meet.
        joint: whether they meet in one attention over both, which the override reaches.
        patch: how many of a latent's places make a token of the image.
        takes: the class below comfy.ldm that takes the config, where it takes no entry that it does not know.
        brings: what a prompt of a Size brings besides its tokens and a pooled output.
        weights: what `base` is made with besides the config.
    """

    base: str
    supported: str
    config: dict
    blocks: dict[str, str] = field(default_factory=dict)
    joint: bool = True
    patch: int = 4
    takes: str | None = None
    brings: Callable[["Size"], dict] = lambda size: {}
    weights: Callable[[], tuple] = tuple


def _mask(size):
    return {"attention_mask": torch.ones(1, size.text, dtype=torch.long)}


def _llama(size):
    """The tokens of each of its 32 layers."""
    return {"conditioning_llama3": torch.randn(1, 32, size.text, size.config["caption_channels"][1])}


MT5 = 256  # tokens that Hunyuan-DiT's other encoder makes


def _mt5(size):
    return {"conditioning_mt5xl": torch.randn(1, MT5, 2048), "attention_mask_mt5xl": torch.ones(1, MT5), **_mask(size)}


LYRICS, CODES = 256, 600  # tokens; codes of 120 seconds


def _lyrics(size):
    return {"conditioning_lyrics": torch.arange(LYRICS)[None]}


def _lyrics_and_codes(size):
    return {"conditioning_lyrics": torch.randn(1, LYRICS, 1024), "audio_codes": [list(range(CODES))]}


def _seconds(limit, kinds, **features):
    """The embedders of so many kinds of seconds, as they lie in a checkpoint."""
    from comfy.ldm.audio.embedders import NumberConditioner

    return [NumberConditioner(768, min_val=0, max_val=limit, **features).state_dict() for _ in range(kinds)]


def _stable_audio_3():
    return *_seconds(384, 1, fourier_features_type="expo"), torch.zeros(768)


ONE_STREAM, TWO_STREAMS, CROSS = "one stream", "two streams", "cross-attention"
OF_FLUX = {TWO_STREAMS: "depth", ONE_STREAM: "depth_single_blocks"}
FLUX_2 = {
    "image_model": "flux2", "in_channels": 128, "out_channels": 128, "vec_in_dim": None, "context_in_dim": 15360,
    "hidden_size": 6144, "mlp_ratio": 3.0, "num_heads": 48, "depth": 8, "depth_single_blocks": 48,
    "axes_dim": [32, 32, 32, 32], "theta": 2000, "patch_size": 1, "qkv_bias": False, "guidance_embed": True,
    "txt_ids_dims": [3], "global_modulation": True, "mlp_silu_act": True, "ops_bias": False,
    "default_ref_method": "index", "ref_index_scale": 10.0,
}
COSMOS = {
    "image_model": "anima", "max_img_h": 240, "max_img_w": 240, "max_frames": 128, "in_channels": 16,
    "out_channels": 16, "patch_spatial": 2, "patch_temporal": 1, "model_channels": 2048, "num_blocks": 28,
    "num_heads": 16, "concat_padding_mask": True, "crossattn_emb_channels": 1024, "pos_emb_cls": "rope3d",
    "pos_emb_learnable": True, "pos_emb_interpolation": "crop", "min_fps": 1, "max_fps": 30, "use_adaln_lora": True,
    "adaln_lora_dim": 256, "extra_per_block_abs_pos_emb": False, "rope_h_extrapolation_ratio": 4.0,
    "rope_w_extrapolation_ratio": 4.0, "rope_t_extrapolation_ratio": 1.0, "extra_h_extrapolation_ratio": 1.0,
    "extra_w_extrapolation_ratio": 1.0, "extra_t_extrapolation_ratio": 1.0, "rope_enable_fps_modulation": False,
}
HUNYUAN = {
    "image_model": "hunyuan_video", "in_channels": 16, "patch_size": [1, 2, 2], "out_channels": 16, "vec_in_dim": 768,
    "axes_dim": [16, 56, 56], "meanflow": False, "context_in_dim": 4096, "hidden_size": 3072, "mlp_ratio": 4.0,
    "num_heads": 24, "depth": 20, "depth_single_blocks": 40, "theta": 256, "qkv_bias": True, "byt5": False,
    "guidance_embed": True, "use_cond_type_embedding": False, "vision_in_dim": None, "meanflow_sum": False,
}
HUNYUAN_TAKES = "hunyuan_video.model.HunyuanVideoParams"
ARCHITECTURES = {
    "sdxl": Architecture(
        "SDXL", "SDXL", {
            "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "num_res_blocks": [2, 2, 2],
            "channel_mult": [1, 2, 4], "transformer_depth": [0, 0, 2, 2, 10, 10], "transformer_depth_middle": 10,
            "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10], "num_head_channels": 64, "context_dim": 2048,
            "num_classes": "sequential", "adm_in_channels": 2816, "use_linear_in_transformer": True,
            "use_spatial_transformer": True, "legacy": False, "use_checkpoint": False, "use_temporal_attention": False,
            "use_temporal_resblock": False,
        },
        joint=False, patch=1,
    ),
    "sd3": Architecture(
        "SD3", "SD3", {
            "in_channels": 16, "out_channels": 16, "patch_size": 2, "depth": 38, "input_size": None,
            "num_patches": 36864, "pos_embed_max_size": 192, "pos_embed_scaling_factor": None,
            "adm_in_channels": 2048, "qk_norm": "rms",
            "context_embedder_config": {
                "target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 2432}
            },
        },
        {TWO_STREAMS: "num_blocks"},
    ),
    "flux": Architecture(
        "Flux", "Flux", {
            "image_model": "flux", "in_channels": 16, "out_channels": 16, "patch_size": 2, "vec_in_dim": 768,
            "context_in_dim": 4096, "hidden_size": 3072, "mlp_ratio": 4.0, "num_heads": 24, "depth": 19,
            "depth_single_blocks": 38, "axes_dim": [16, 56, 56], "theta": 10000, "qkv_bias": True,
            "guidance_embed": True, "txt_ids_dims": [],
        },
        OF_FLUX, takes="flux.model.FluxParams",
    ),
    "wan": Architecture(
        "WAN21", "WAN21_T2V", {
            "image_model": "wan2.1", "model_type": "t2v", "dim": 5120, "ffn_dim": 13824, "num_heads": 40,
            "num_layers": 40, "text_dim": 4096, "freq_dim": 256, "in_dim": 16, "out_dim": 16, "patch_size": (1, 2, 2),
            "window_size": (-1, -1), "qk_norm": True, "cross_attn_norm": True, "eps": 1e-6,
        },
        {CROSS: "num_layers"}, joint=False,
    ),
    "flux2": Architecture("Flux2", "Flux2", FLUX_2, OF_FLUX, patch=1, takes="flux.model.FluxParams"),
    "chroma": Architecture(
        "Chroma", "Chroma", {
            "image_model": "chroma", "in_channels": 64, "out_channels": 64, "context_in_dim": 4096,
            "hidden_size": 3072, "mlp_ratio": 4.0, "num_heads": 24, "depth": 19, "depth_single_blocks": 38,
            "axes_dim": [16, 56, 56], "theta": 10000, "patch_size": 2, "qkv_bias": True, "in_dim": 64,
            "out_dim": 3072, "hidden_dim": 5120, "n_layers": 5, "txt_ids_dims": [], "vec_in_dim": None,
        },
        OF_FLUX, takes="chroma.model.ChromaParams",
    ),
    "z_image": Architecture(
        "Lumina2", "ZImage", {
            "image_model": "lumina2", "patch_size": 2, "in_channels": 16, "dim": 3840, "cap_feat_dim": 2560,
            "n_layers": 30, "qk_norm": True, "n_heads": 30, "n_kv_heads": 30, "axes_dims": [32, 48, 48],
            "axes_lens": [1536, 512, 512], "rope_theta": 256.0, "ffn_dim_multiplier": 8.0 / 3.0,
            "z_image_modulation": True, "time_scale": 1000.0, "pad_tokens_multiple": 32,
        },
        {ONE_STREAM: "n_layers"},
    ),
    "qwen_image": Architecture(
        "QwenImage", "QwenImage", {
            "image_model": "qwen_image", "in_channels": 64, "num_layers": 60, "attention_head_dim": 128,
            "num_attention_heads": 24, "joint_attention_dim": 3584,
        },
        {TWO_STREAMS: "num_layers"},
    ),
    "krea2": Architecture(
        "Krea2", "Krea2", {
            "image_model": "krea2", "features": 6144, "channels": 16, "patch": 2, "layers": 28, "heads": 48,
            "kvheads": 12, "txtlayers": 12, "txtdim": 2560,
        },
        {ONE_STREAM: "layers"},
    ),
    "ltx2": Architecture(
        "LTXAV", "LTXAV", {
            "image_model": "ltxav", "in_channels": 128, "cross_attention_dim": 4096, "attention_head_dim": 128,
            "num_attention_heads": 32, "caption_channels": 3840, "num_layers": 48, "audio_in_channels": 128,
            "audio_cross_attention_dim": 2048, "audio_attention_head_dim": 64, "audio_num_attention_heads": 32,
            "use_middle_indices_grid": True, "rope_type": "split",
        },
        {CROSS: "num_layers"}, joint=False, patch=1,
    ),
    "kandinsky5": Architecture(
        "Kandinsky5", "Kandinsky5", {
            "image_model": "kandinsky5", "model_dim": 1792, "axes_dims": (16, 24, 24), "time_dim": 512,
            "ff_dim": 7168, "visual_embed_dim": 132, "num_text_blocks": 2, "num_visual_blocks": 32,
        },
        {CROSS: "num_visual_blocks"}, joint=False,
    ),
    "anima": Architecture("Anima", "Anima", COSMOS, {CROSS: "num_blocks"}, joint=False),
    "hunyuan_video": Architecture("HunyuanVideo", "HunyuanVideo", HUNYUAN, OF_FLUX, takes=HUNYUAN_TAKES),
    "hunyuan_video15": Architecture(
        "HunyuanVideo15", "HunyuanVideo15", {
            **HUNYUAN, "in_channels": 65, "out_channels": 32, "patch_size": [1, 1, 1], "vec_in_dim": None,
            "context_in_dim": 3584, "hidden_size": 2048, "num_heads": 16, "depth": 54, "depth_single_blocks": 0,
            "guidance_embed": False, "byt5": True, "use_cond_type_embedding": True, "vision_in_dim": 1152,
            "meanflow_sum": True,
        },
        {TWO_STREAMS: "depth"}, patch=1, takes=HUNYUAN_TAKES,
    ),
    "hunyuan_image": Architecture(
        "HunyuanImage21", "HunyuanImage21", {
            **HUNYUAN, "in_channels": 64, "out_channels": 64, "patch_size": [1, 1], "axes_dim": [64, 64],
            "vec_in_dim": None, "context_in_dim": 3584, "hidden_size": 3584, "num_heads": 28, "guidance_embed": False,
            "byt5": True,
        },
        OF_FLUX, patch=1, takes=HUNYUAN_TAKES,
    ),
    "hidream": Architecture(
        "HiDream", "HiDream", {
            "image_model": "hidream", "attention_head_dim": 128, "axes_dims_rope": [64, 32, 32],
            "caption_channels": [4096, 4096], "max_resolution": [128, 128], "in_channels": 16, "out_channels": 16,
            "llama_layers": [*range(32), *[31] * 16], "num_attention_heads": 20, "num_routed_experts": 4,
            "num_activated_experts": 2, "num_layers": 16, "num_single_layers": 32, "patch_size": 2,
            "text_emb_dim": 2048,
        },
        brings=_llama,
    ),
    "mochi": Architecture(
        "GenmoMochi", "GenmoMochi", {
            "image_model": "mochi_preview", "depth": 48, "patch_size": 2, "num_heads": 24, "hidden_size_x": 3072,
            "hidden_size_y": 1536, "mlp_ratio_x": 4.0, "mlp_ratio_y": 4.0, "learn_sigma": False, "in_channels": 12,
            "qk_norm": True, "qkv_bias": False, "out_bias": True, "attn_drop": 0.0, "patch_embed_bias": True,
            "posenc_preserve_area": True, "timestep_mlp_bias": True, "attend_to_padding": False,
            "timestep_scale": 1000.0, "use_t5": True, "t5_feat_dim": 4096, "t5_token_length": 256,
            "rope_theta": 10000.0,
        },
        {TWO_STREAMS: "depth"}, brings=_mask,
    ),
    "ideogram4": Architecture(
        "Ideogram4", "Ideogram4", {
            "image_model": "ideogram4", "in_channels": 128, "num_layers": 34, "num_attention_heads": 18,
            "attention_head_dim": 256, "intermediate_size": 12288, "llm_features_dim": 53248,
        },
        {ONE_STREAM: "num_layers"}, patch=1,
    ),
    "lens": Architecture(
        "Lens", "Lens", {
            "image_model": "lens", "in_channels": 128, "out_channels": 32, "num_layers": 48, "num_attention_heads": 24,
            "attention_head_dim": 64, "enc_hidden_dim": 2880, "multi_layer_encoder_feature": True,
            "selected_layer_index": (0, 1, 2, 3),
        },
        {TWO_STREAMS: "num_layers"}, patch=1, brings=_mask,
    ),
    "joyimage": Architecture(
        "JoyImage", "JoyImage", {
            "image_model": "joyimage", "in_channels": 16, "hidden_size": 3072, "patch_size": [1, 2, 2],
            "num_layers": 20, "num_attention_heads": 24, "text_dim": 4096,
        },
        {TWO_STREAMS: "num_layers"},
    ),
    "omnigen2": Architecture(
        "Omnigen2", "Omnigen2", {
            "image_model": "omnigen2", "axes_dim_rope": [40, 40, 40], "axes_lens": [1024, 1664, 1664],
            "ffn_dim_multiplier": None, "hidden_size": 2520, "in_channels": 16, "multiple_of": 256, "norm_eps": 1e-5,
            "num_attention_heads": 21, "num_kv_heads": 7, "num_layers": 32, "num_refiner_layers": 2,
            "out_channels": None, "patch_size": 2, "text_feat_dim": 2048, "timestep_scale": 1000.0,
        },
        {ONE_STREAM: "num_layers"}, brings=_mask,
    ),
    "boogu": Architecture(
        "Boogu", "Boogu", {
            "image_model": "boogu", "hidden_size": 3360, "num_layers": 32, "num_double_stream_layers": 8,
            "num_refiner_layers": 2, "num_attention_heads": 28, "num_kv_heads": 7, "instruction_feat_dim": 4096,
        },
        {TWO_STREAMS: "num_double_stream_layers", ONE_STREAM: "num_layers"}, brings=_mask,
    ),
    "auraflow": Architecture(
        "AuraFlow", "AuraFlow", {
            "max_seq": 4096, "cond_seq_dim": 2048, "n_double_layers": 4, "n_layers": 36, "dim": 3072,
        },
    ),
    "cogvideox": Architecture(
        "CogVideoX", "CogVideoX_T2V", {
            "image_model": "cogvideox", "num_attention_heads": 48, "attention_head_dim": 64, "time_embed_dim": 512,
            "num_layers": 42, "in_channels": 16, "patch_size": 2, "text_embed_dim": 4096,
            "use_learned_positional_embeddings": False, "use_rotary_positional_embeddings": True,
        },
        {TWO_STREAMS: "num_layers"},
    ),
    "pixeldit": Architecture(
        "PixelDiTT2I", "PixelDiTT2I", {
            "image_model": "pixeldit_t2i", "hidden_size": 1536, "num_groups": 24, "patch_depth": 14,
            "txt_embed_dim": 2304, "txt_max_length": 300,
        },
        {TWO_STREAMS: "patch_depth"}, patch=256,
    ),
    "ernie": Architecture(
        "ErnieImage", "ErnieImage", {
            "image_model": "ernie", "hidden_size": 4096, "num_attention_heads": 32, "num_layers": 36,
            "ffn_hidden_size": 12288, "text_in_dim": 3072,
        },
        {ONE_STREAM: "num_layers"}, joint=False, patch=1,
    ),
    "pixart": Architecture(
        "PixArt", "PixArtSigma", {
            "image_model": "pixart_sigma", "num_heads": 16, "patch_size": 2, "hidden_size": 1152, "in_channels": 4,
            "depth": 28, "model_max_length": 300, "input_size": 128, "pe_interpolation": 2, "micro_condition": False,
            "caption_channels": 4096,
        },
        {CROSS: "depth"}, joint=False,
    ),
    "hunyuan_dit": Architecture(
        "HunyuanDiT", "HunyuanDiT", {
            "image_model": "hydit", "depth": 40, "hidden_size": 1408, "mlp_ratio": 4.3637, "text_states_dim": 1024,
            "text_states_dim_t5": 2048,
        },
        joint=False, brings=_mt5,
    ),
    "cosmos1": Architecture(
        "CosmosVideo", "CosmosT2V", {
            "image_model": "cosmos", "max_img_h": 240, "max_img_w": 240, "max_frames": 128, "in_channels": 16,
            "out_channels": 16, "patch_spatial": 2, "patch_temporal": 1, "model_channels": 4096,
            "block_config": "FA-CA-MLP", "concat_padding_mask": True, "pos_emb_cls": "rope3d",
            "pos_emb_learnable": False, "pos_emb_interpolation": "crop", "block_x_format": "THWBD",
            "affline_emb_norm": True, "use_adaln_lora": True, "adaln_lora_dim": 256, "num_blocks": 28, "num_heads": 32,
            "extra_per_block_abs_pos_emb": True, "rope_h_extrapolation_ratio": 1.0, "rope_w_extrapolation_ratio": 1.0,
            "rope_t_extrapolation_ratio": 2.0, "extra_per_block_abs_pos_emb_type": "learnable",
            "crossattn_emb_channels": 1024,
        },
        {CROSS: "num_blocks"}, joint=False,
    ),
    "stable_audio": Architecture(
        "StableAudio1", "StableAudio", {
            "audio_model": "dit1.0", "global_cond_dim": 1536, "project_cond_tokens": False, "embed_dim": 1536,
            "cond_token_dim": 768, "io_channels": 64, "input_concat_dim": 0, "depth": 24,
        },
        {CROSS: "depth"}, joint=False, patch=1, weights=lambda: _seconds(512, 2),
    ),
    "stable_audio3": Architecture(
        "StableAudio3", "StableAudio3", {
            "audio_model": "dit1.0", "global_cond_dim": 768, "project_cond_tokens": True, "embed_dim": 1536,
            "cond_token_dim": 768, "attn_kwargs": {"qk_norm": "rms", "differential": True}, "norm_type": "rms_norm",
            "num_heads": 24, "timestep_features_type": "expo", "io_channels": 256, "input_concat_dim": 0,
            "local_add_cond_dim": 257, "global_cond_shared_embed": True, "global_cond_type": "adaLN", "depth": 24,
        },
        {CROSS: "depth"}, joint=False, patch=1, weights=_stable_audio_3,
    ),
    "ace": Architecture(
        "ACEStep", "ACEStep", {
            "audio_model": "ace", "attention_head_dim": 128, "in_channels": 8, "inner_dim": 2560, "max_height": 16,
            "max_position": 32768, "max_width": 32768, "mlp_ratio": 2.5, "num_attention_heads": 20, "num_layers": 24,
            "out_channels": 8, "patch_size": [16, 1], "rope_theta": 1000000.0, "speaker_embedding_dim": 512,
            "text_embedding_dim": 768, "ssl_encoder_depths": [8, 8], "ssl_latent_dims": [1024, 768],
            "ssl_names": ["mert", "m-hubert"], "lyric_encoder_vocab_size": 6693, "lyric_hidden_size": 1024,
        },
        {CROSS: "num_layers"}, joint=False, patch=16, brings=_lyrics,
    ),
    "ace15": Architecture(
        "ACEStep15", "ACEStep15", {
            "audio_model": "ace1.5", "hidden_size": 2048, "intermediate_size": 6144, "num_heads": 16, "num_kv_heads": 8,
            "head_dim": 128, "encoder_hidden_size": 2048, "encoder_num_heads": 16, "encoder_intermediate_size": 6144,
            "num_dit_layers": 24, "num_lyric_layers": 8, "text_hidden_dim": 1024,
        },
        {CROSS: "num_dit_layers"}, joint=False, patch=2, brings=_lyrics_and_codes,
    ),
}


@dataclass(frozen=True)
class Size:
    """
    Args:
        family: a key of ARCHITECTURES.
        latent: its shape without the batch.
        text: how many tokens each prompt has.
        changes: to the family's configuration.
        sound: the shape of the sound's latent, where the model makes sound, too.
    """

    family: str
    latent: tuple[int, ...]
    text: int
    changes: dict = field(default_factory=dict)
    sound: tuple[int, ...] | None = None

    @property
    def config(self):
        return {**ARCHITECTURES[self.family].config, **self.changes}

    @property
    def image(self):
        """How many tokens it has."""
        return math.prod(self.latent[1:]) // ARCHITECTURES[self.family].patch

    def conditioning(self, seed, model):
        """A random CONDITIONING with one entry, for a comfy.model_base.BaseModel."""
        adapter, network = find_adapter(model), model.diffusion_model
        width = max(adapter.text_widths(network))  # LTX-2's text as its encoders leave it, which run once
        pooled = adapter.pooled_width(network) or 1280  # SDXL's; others take none
        generator = torch.Generator().manual_seed(seed)
        tokens, pooled = (torch.randn(1, *shape, generator=generator) for shape in ((self.text, width), (pooled,)))
        brought = ARCHITECTURES[self.family].brings(self)
        return [[tokens, {"pooled_output": pooled, "guidance": 4.0, **brought}]]

    def latents(self, make):
        """What `make`, given a shape, gives for the latent; as ComfyUI nests it where there is sound."""
        if self.sound is None:
            return make(1, *self.latent)
        from comfy.nested_tensor import NestedTensor  # not in every ComfyUI

        return NestedTensor([make(1, *self.latent), make(1, *self.sound)])


@dataclass(frozen=True)
class Case:
    """
    Args:
        small: scaled down for a CPU; None if it is only counted there.
        aim: by how much NAG may lengthen a step on a data-centre GPU, or None.
        slow: at full size a step takes seconds on such a GPU; then these methods are enough, a step each.
    """

    name: str
    full: Size
    small: Size | None = None
    aim: float | None = None
    slow: tuple[str, ...] = ()


def _sd3(text):
    changes = {"depth": 8, "num_blocks": 4, "num_patches": 48**2, "pos_embed_max_size": 48}
    changes["context_embedder_config"] = {"target": "torch.nn.Linear",
                                          "params": {"in_features": 864, "out_features": 512}}
    return Size("sd3", (16, 128, 128), text), Size("sd3", (16, 58, 58), round(text * 0.21), changes)


def _flux(text):
    changes = {"hidden_size": 512, "num_heads": 4, "depth": 1, "depth_single_blocks": 2, "context_in_dim": 680}
    return Size("flux", (16, 128, 128), text), Size("flux", (16, 52, 52), round(text / 6), changes)


def _wan(full_changes, latent, small_latent, width, text, layers=2):
    config = {**ARCHITECTURES["wan"].config, **full_changes}
    scale = width / config["dim"]
    small = {"dim": width, "ffn_dim": round(config["ffn_dim"] * scale), "num_heads": width // 128, "num_layers": layers,
             "text_dim": round(4096 * scale)}
    return Size("wan", latent, 512, full_changes), Size("wan", small_latent, text, small)


def _qwen_image(text):
    changes = {"num_layers": 2, "num_attention_heads": 4, "joint_attention_dim": 597}
    return Size("qwen_image", (16, 1, 166, 166), text), Size("qwen_image", (16, 1, 68, 68), round(text / 6), changes)


def _z_image(text):
    changes = {"dim": 512, "n_layers": 8, "n_heads": 4, "n_kv_heads": 4, "cap_feat_dim": 341, "pad_tokens_multiple": 4}
    return Size("z_image", (16, 128, 128), text), Size("z_image", (16, 48, 46), 4 * round(text / 30), changes)


def _hidream(text):
    changes = {"num_attention_heads": 4, "num_layers": 1, "num_single_layers": 2, "caption_channels": [819, 819],
               "llama_layers": [0, 16, 31]}
    return Size("hidream", (16, 128, 128), text), Size("hidream", (16, 58, 56), round(text / 5), changes)


def _pixart(text):
    changes = {"num_heads": 3, "hidden_size": 216, "depth": 8, "caption_channels": 768}
    return Size("pixart", (4, 128, 128), text), Size("pixart", (4, 56, 56), round(text * 3 / 16), changes)


SDXL_SMALL = Size("sdxl", (4, 40, 40), 8, {"model_channels": 64, "context_dim": 408})
WAN_SMALLER = {"dim": 1536, "ffn_dim": 8960, "num_heads": 12, "num_layers": 30}
KLEIN_4B = {
    "hidden_size": 3072, "num_heads": 24, "depth": 5, "depth_single_blocks": 20, "context_in_dim": 7680,
    "guidance_embed": False,
}
P480, P720 = (16, 21, 60, 104), (16, 21, 90, 160)  # 832x480 and 1280x720, 81 frames
WITH_CFG = ("base", "cfg", "nag")
CASES = [
    Case("SDXL 1024x1024", Size("sdxl", (4, 128, 128), 77), SDXL_SMALL, aim=0.05),
    Case("SD3.5-Large 1024x1024, 154 text tokens", *_sd3(154), aim=0.07),
    Case("SD3.5-Large 1024x1024, 333 text tokens", *_sd3(333)),
    Case("Flux-dev 1024x1024, 512 text tokens", *_flux(512), aim=0.16),
    Case("Flux-dev 1024x1024, 256 text tokens", *_flux(256)),
    Case("Wan2.1 1.3B 480p, 81 frames", *_wan(WAN_SMALLER, P480, (16, 7, 30, 52), 128, 43)),
    Case("Wan2.1 1.3B 720p, 81 frames", *_wan(WAN_SMALLER, P720, (16, 7, 50, 72), 128, 43, 1), slow=WITH_CFG),
    Case("Wan2.1 14B 480p, 81 frames", *_wan({}, P480, (16, 3, 42, 52), 256, 26), slow=WITH_CFG),
    Case("Wan2.1 14B 720p, 81 frames", *_wan({}, P720, (16, 5, 54, 56), 256, 26, 1), aim=0.02, slow=("base", "nag")),
    Case("Z-Image-Turbo 1024x1024, 64 text tokens", *_z_image(64)),
    Case("Z-Image-Turbo 1024x1024, 256 text tokens", *_z_image(256)),
    Case("Qwen-Image 1328x1328, 64 text tokens", *_qwen_image(64)),
    Case("Qwen-Image 1328x1328, 512 text tokens", *_qwen_image(512)),
    Case("Flux.2 Klein 4B 1024x1024", Size("flux2", (128, 64, 64), 512, KLEIN_4B)),
    Case("Flux.2 dev 1024x1024", Size("flux2", (128, 64, 64), 512), slow=WITH_CFG),
    Case("Chroma 1024x1024, 256 text tokens", Size("chroma", (16, 128, 128), 256)),
    Case("Krea 2 1024x1024, 256 text tokens", Size("krea2", (16, 1, 128, 128), 256)),
    Case("Anima 1024x1024", Size("anima", (16, 1, 128, 128), 512)),
    Case("LTX-2 720p, 121 frames with sound", Size("ltx2", (128, 16, 22, 40), 1024, sound=(8, 121, 16)), slow=WITH_CFG),
    Case("Kandinsky 5 Lite 768x512, 121 frames", Size("kandinsky5", (16, 31, 64, 96), 256), slow=WITH_CFG),
    Case("HunyuanVideo 720p, 129 frames, 256 text tokens", Size("hunyuan_video", (16, 33, 90, 160), 256),
         slow=("base", "nag")),
    Case("HunyuanVideo 1.5 720p, 121 frames, 256 text tokens", Size("hunyuan_video15", (32, 31, 45, 80), 256),
         slow=("base", "nag")),
    Case("HunyuanImage 2.1 2048x2048, 256 text tokens", Size("hunyuan_image", (64, 64, 64), 256), slow=WITH_CFG),
    Case("HiDream I1 1024x1024, 3 times 128 text tokens", *_hidream(128), slow=WITH_CFG),
    Case("Mochi 848x480, 163 frames", Size("mochi", (12, 28, 60, 106), 256), slow=("base", "nag")),
    Case("Ideogram 4 1024x1024, 256 text tokens", Size("ideogram4", (128, 64, 64), 256), slow=WITH_CFG),
    Case("Lens 1024x1024, 256 text tokens", Size("lens", (128, 64, 64), 256)),
    Case("JoyImage 1024x1024, 256 text tokens", Size("joyimage", (16, 1, 128, 128), 256)),
    Case("OmniGen2 1024x1024, 256 text tokens", Size("omnigen2", (16, 128, 128), 256)),
    Case("Boogu 1024x1024, 256 text tokens", Size("boogu", (16, 128, 128), 256)),
    Case("AuraFlow 1024x1024", Size("auraflow", (4, 128, 128), 256)),
    Case("CogVideoX 5B 720x480, 49 frames", Size("cogvideox", (16, 13, 60, 90), 226), slow=WITH_CFG),
    Case("PixelDiT 1024x1024", Size("pixeldit", (3, 1024, 1024), 300)),
    Case("ERNIE-Image 1024x1024, 256 text tokens", Size("ernie", (128, 64, 64), 256)),
    Case("PixArt-Sigma 1024x1024, 300 text tokens", *_pixart(300)),
    Case("Hunyuan-DiT 1024x1024", Size("hunyuan_dit", (4, 128, 128), 77)),
    Case("Cosmos 1 7B 1280x704, 121 frames", Size("cosmos1", (16, 16, 88, 160), 512), slow=("base", "nag")),
    Case("Stable Audio 1, 47 seconds", Size("stable_audio", (64, 1024), 128)),
    Case("Stable Audio 3, 190 seconds", Size("stable_audio3", (256, 2048), 128)),
    Case("ACE-Step 1, 120 seconds, 64 text tokens, 256 of lyrics", Size("ace", (8, 16, 1292), 64)),
    Case("ACE-Step 1.5, 120 seconds, 64 text tokens, 256 of lyrics", Size("ace15", (64, 3000), 64)),
]


def build(size, dtype, device):
    """A ModelPatcher with random weights, made where they stay.

    Raises:
        NotImplementedError: this ComfyUI has no such model.
    """
    architecture, config = ARCHITECTURES[size.family], size.config
    base, supported = architecture.base, architecture.supported
    if not hasattr(comfy.model_base, base) or not hasattr(comfy.supported_models, supported):
        raise NotImplementedError(f"this ComfyUI has no {supported}")
    if architecture.takes:
        module, _, params = architecture.takes.rpartition(".")
        known = getattr(importlib.import_module(f"comfy.ldm.{module}"), params).__dataclass_fields__
        config = {name: value for name, value in config.items() if name in {*known, "image_model"}}
    configured = getattr(comfy.supported_models, supported)({**config, "dtype": dtype})
    with torch.no_grad():
        model = getattr(comfy.model_base, base)(configured, *architecture.weights(), device=device)
        fill(model.diffusion_model)
    return comfy.model_patcher.ModelPatcher(model.eval().to(device), load_device=device, offload_device=device)


def fill(network):
    """Weights with which no layer blows up or vanishes; ComfyUI leaves them as the memory happens to be."""
    for name, tensor in network.named_parameters():
        tensor.requires_grad_(False)
        if tensor.ndim == 1:
            tensor.fill_(0 if name.endswith("bias") else 1)
        else:
            tensor.normal_(std=1 / math.sqrt(tensor[0].numel()))
    for name, tensor in network.named_buffers():
        if name.endswith("pos_embed"):
            tensor.normal_(std=0.1)
