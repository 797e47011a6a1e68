"""The table of model families: each row a tiny model with random weights, its oracle, and what it should be set to.

A family more is a row more, and a file in `oracle/`.
"""
import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace

import comfy.model_base
import comfy.model_patcher
import comfy.supported_models
import torch

from oracle import flux, sd3, unet, wan
from oracle.sampling import exact_model

torch.backends.cudnn.allow_tf32 = False  # else how a GPU rounds in a convolution hangs on how many rows it has
torch.set_num_threads(1)  # on tensors this small, and a busy machine, threads mostly wait for each other

DEVICE = torch.device(os.environ.get("NAG_DEVICE", "cpu"))  # for families whose oracle is the model itself
TEXT, POOLED = 24, 20  # widths of the text embeddings
SIZE = (8, 12)  # of most latents; not square, to tell rows from columns


@dataclass(frozen=True)
class Family:
    """
    Args:
        build: makes the comfy.model_base.BaseModel in a dtype.
        forward: the oracle's; None where the model itself is the oracle.
        recommended: the paper's nag_scale, nag_tau and nag_alpha.
        latent: its shape without the batch.
        sound: that of the sound's latent, where the model makes sound, too.
        image_streams: those that differ in this family.
        inputs: what its conditionings hold besides text, by ComfyUI's names, made anew for each.
        offsets: how the names of its weights end that lie around 0, as biases do.
    """

    name: str
    build: Callable[[torch.dtype], torch.nn.Module]
    forward: Callable
    recommended: tuple[float, float, float]
    latent: tuple[int, ...]
    image_streams: tuple[str, ...] = ("shared",)
    inputs: Callable[[], dict] = dict
    offsets: tuple[str, ...] = ("bias",)
    sound: tuple[int, ...] | None = None

    def __str__(self):
        return self.name

    def patcher(self, dtype=torch.float32):
        """A ModelPatcher as a loader gives it, the same one each time."""
        return _patcher(self, dtype)

    @property
    def oracle(self):
        """The module that guides in it."""
        return sys.modules[self.forward.__module__]

    def exact(self, patcher):
        """A clone of a ModelPatcher of this family in whose place the oracle answers; see exact_model."""
        return exact_model(self.forward, patcher)

    def conditioning(self, seed, tokens, pooled=POOLED, **values):
        """A CONDITIONING with one entry."""
        torch.manual_seed(seed)
        entry = {"pooled_output": torch.randn(1, pooled), **self.inputs(), **values}
        return [[torch.randn(1, tokens, TEXT), entry]]


@cache
def _patcher(family, dtype):
    model = family.build(dtype)
    torch.manual_seed(0)
    net = model.diffusion_model
    stored = net.state_dict().keys()  # not what a module computes for itself
    for name, tensor in (*net.named_parameters(), *net.named_buffers()):
        if name not in stored:
            continue
        tensor.requires_grad_(False).copy_(_random(tensor, not name.endswith(family.offsets)))
    device = DEVICE if family.forward is None else torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=torch.device("cpu"))


def _random(tensor, is_gain):
    """Weights with which no layer blows up, vanishes, or does nothing."""
    noise = torch.randn(tensor.shape)
    if tensor.ndim < 2:
        return is_gain + 0.2 * noise
    return noise / math.sqrt(tensor[0].numel())


def _unet(make, config_class, model_type, **config):
    def build(dtype):
        settings = {
            "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_res_blocks": [1, 1],
            "channel_mult": [1, 2], "use_spatial_transformer": True, "transformer_depth": [1, 1],
            "transformer_depth_middle": 1, "transformer_depth_output": [1, 1, 1, 1], "context_dim": TEXT,
            "legacy": False, "use_temporal_attention": False, "dtype": dtype, **config,
        }
        return make(config_class(settings), model_type)

    return build


def _sd3(**config):
    def build(dtype):
        settings = {
            "input_size": None, "pos_embed_scaling_factor": None, "pos_embed_max_size": 16, "num_patches": 256,
            "patch_size": 2, "in_channels": 16, "depth": 2, "num_blocks": 3, "adm_in_channels": POOLED,
            "context_embedder_config": {
                "target": "torch.nn.Linear", "params": {"in_features": TEXT, "out_features": 128}
            },
            "dtype": dtype, **config,
        }
        return comfy.model_base.SD3(comfy.supported_models.SD3(settings))

    return build


def _flux(**config):
    def build(dtype):
        settings = {
            "image_model": "flux", "in_channels": 16, "out_channels": 16, "vec_in_dim": POOLED, "context_in_dim": TEXT,
            "hidden_size": 48, "mlp_ratio": 2.0, "num_heads": 2, "depth": 2, "depth_single_blocks": 3,
            "axes_dim": [8, 8, 8], "theta": 10000, "patch_size": 2, "qkv_bias": True, "guidance_embed": True,
            "dtype": dtype, **config,
        }
        if "txt_ids_dims" in comfy.ldm.flux.model.FluxParams.__dataclass_fields__:
            settings["txt_ids_dims"] = []
        return comfy.model_base.Flux(comfy.supported_models.Flux(settings))

    return build


def _wan(base=None, image_to_video=False, **config):
    def build(dtype):
        settings = {
            "image_model": "wan2.1", "model_type": "t2v", "dim": 48, "ffn_dim": 64, "freq_dim": 32, "text_dim": TEXT,
            "num_heads": 2, "num_layers": 2, "in_dim": 16, "out_dim": 16, "text_len": 16, "dtype": dtype, **config,
        }
        make = base or comfy.model_base.WAN21
        return make(comfy.supported_models.WAN21_T2V(settings), image_to_video=image_to_video)

    return build


def _guidance():
    return {"guidance": 4.0}  # Flux embeds a thousand times this; bfloat16 can hold that of 4, not that of 3.5


def _reference_image():
    return {"reference_latents": [torch.randn(1, 16, 6, 4)], **_guidance()}


def _inpainting():
    mask = (torch.rand(1, 1, SIZE[0] * 8, SIZE[1] * 8) > 0.5).float()
    return {"concat_latent_image": torch.randn(1, 16, *SIZE), "concat_mask": mask, **_guidance()}


VIDEO = (16, 3, 4, 6)  # channels, frames, height, width


def _first_frame():
    return {"concat_latent_image": torch.randn(1, *VIDEO), "concat_mask": torch.rand(1, 4, *VIDEO[1:]).round()}


def _first_frame_and_clip_vision():
    # As many tokens as the texts of a Run have together: their number must not tell image from text.
    return {**_first_frame(), "clip_vision_output": SimpleNamespace(penultimate_hidden_states=torch.randn(1, 10, 1280))}


def _control_video():
    frames, mask = torch.randn(1, 32, *VIDEO[1:]), torch.rand(1, 64, *VIDEO[1:])
    return {"vace_frames": [frames], "vace_mask": [mask], "vace_strength": [0.7]}


BASE = comfy.model_base.BaseModel
EPS, V = comfy.model_base.ModelType.EPS, comfy.model_base.ModelType.V_PREDICTION
SD15, SD20, SDXL = (getattr(comfy.supported_models, name) for name in ("SD15", "SD20", "SDXL"))
BOTH_STREAMS = ("shared", "separate")
SD15_SAYS, SDXL_SAYS, SD35_SAYS = (2.0, 2.5, 0.5), (3.0, 2.5, 0.5), (5.0, 2.5, 0.125)
FLUX_SAYS, WAN_SAYS = (5.0, 2.5, 0.25), (11.0, 2.5, 0.25)
PICTURE4, PICTURE16 = (4, 6, 10), (16, *SIZE)
SDXL_SIZES = 1536  # SDXL's vector holds the picture's size and crop, too

FAMILIES = [
    Family("sd15", _unet(BASE, SD15, EPS, num_heads=4, adm_in_channels=None), unet.forward, SD15_SAYS, PICTURE4),
    Family(
        "sd2",
        _unet(BASE, SD20, V, use_linear_in_transformer=True, adm_in_channels=None, model_channels=64),
        unet.forward,
        SD15_SAYS,
        PICTURE4,
    ),
    Family(
        "sdxl",
        _unet(
            comfy.model_base.SDXL,
            SDXL,
            EPS,
            model_channels=64,
            use_linear_in_transformer=True,
            num_classes="sequential",
            adm_in_channels=POOLED + SDXL_SIZES,
            transformer_depth=[0, 2],
            transformer_depth_output=[0, 0, 2, 2],
        ),
        unet.forward,
        SDXL_SAYS,
        PICTURE4,
    ),
    Family("sd35_large", _sd3(qk_norm="rms"), sd3.forward, SD35_SAYS, PICTURE16),
    Family(
        "sd35_medium",
        _sd3(qk_norm="rms", x_block_self_attn_layers=[0, 1]),
        sd3.forward,
        SD35_SAYS,
        (16, 7, 12),  # an odd height, which the model pads
    ),
    Family(
        "sd3_context_processor",
        _sd3(context_processor_layers=1, context_size=TEXT),
        sd3.forward,
        SD35_SAYS,
        PICTURE16,
    ),
    Family("flux_dev", _flux(), flux.forward, FLUX_SAYS, (16, 7, 12), BOTH_STREAMS, _guidance),
    Family("flux_schnell", _flux(guidance_embed=False), flux.forward, FLUX_SAYS, PICTURE16, BOTH_STREAMS),
    Family("flux_kontext", _flux(), flux.forward, FLUX_SAYS, PICTURE16, BOTH_STREAMS, _reference_image),
    Family("flux_fill", _flux(in_channels=96), flux.forward, FLUX_SAYS, PICTURE16, BOTH_STREAMS, _inpainting),
    Family("wan21_t2v", _wan(), wan.forward, WAN_SAYS, VIDEO),
    Family(
        "wan21_i2v",
        _wan(image_to_video=True, model_type="i2v", in_dim=36),
        wan.forward,
        WAN_SAYS,
        VIDEO,
        inputs=_first_frame_and_clip_vision,
    ),
    Family("wan22_i2v", _wan(image_to_video=True, in_dim=36), wan.forward, WAN_SAYS, VIDEO, inputs=_first_frame),
    Family(
        "wan21_vace",
        _wan(comfy.model_base.WAN21_Vace, model_type="vace", vace_layers=2, vace_in_dim=96),
        wan.forward,
        WAN_SAYS,
        VIDEO,
        inputs=_control_video,
    ),
]
BY_NAME = {family.name: family for family in FAMILIES}
FAMILY_AND_STREAM = [(family, stream) for family in FAMILIES for stream in family.image_streams]
