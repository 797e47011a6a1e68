"""Which models are guided with whose values, and which are refused: by ComfyUI's own classes of them."""
import comfy.model_base
import comfy.model_patcher
import comfy.supported_models
import pytest
import torch

from families import SD15_SAYS, SDXL_SAYS, _unet
from subject import out

V, EPS = comfy.model_base.ModelType.V_PREDICTION, comfy.model_base.ModelType.EPS
EDM = comfy.model_base.ModelType.V_PREDICTION_EDM
VIDEO = {"use_temporal_attention": True, "use_temporal_resblock": True, "video_kernel_size": [3, 1, 1],
         "model_channels": 64, "extra_ff_mix_layer": True, "use_spatial_context": True, "merge_strategy":
         "learned_with_images", "merge_factor": 0.0, "use_linear_in_transformer": True}
X4 = {"num_classes": 1000, "channel_mult": [1, 1, 1, 2], "num_res_blocks": [1] * 4, "transformer_depth": [1] * 4,
      "transformer_depth_output": [1] * 8}
VECTOR = {"num_classes": "sequential", "num_heads": 2}


def patcher(base, config, kind, **settings):
    made = getattr(comfy.model_base, base)
    if base == "SD21UNCLIP":
        noise = {"noise_schedule_config": {"timesteps": 10, "beta_schedule": "squaredcos_cap_v2"}, "timestep_dim": 8}
        make = lambda settings, kind: made(settings, noise, kind)
    else:
        make = made
    with torch.no_grad():
        model = _unet(make, getattr(comfy.supported_models, config), kind, **settings)(torch.float32)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


WITHOUT_TEXT = {
    "SVD": ("SVD_img2vid", "SVD_img2vid", EDM, {**VIDEO, "adm_in_channels": 768, **VECTOR}),
    "SV3D_u": ("SV3D_u", "SV3D_u", EDM, {**VIDEO, "adm_in_channels": 256, **VECTOR}),
    "SV3D_p": ("SV3D_p", "SV3D_p", EDM, {**VIDEO, "adm_in_channels": 1280, **VECTOR}),
    "Stable Zero123": ("Stable_Zero123", "SD15", EPS, {"adm_in_channels": None, "num_heads": 2, "in_channels": 8}),
}


@pytest.mark.parametrize(("base", "config", "kind", "settings"), WITHOUT_TEXT.values(), ids=WITHOUT_TEXT)
def test_no_text_to_guide_by(nodes, monkeypatch, base, config, kind, settings):
    if base == "Stable_Zero123":  # its projection comes with the checkpoint
        monkeypatch.setattr(comfy.model_base, base, lambda settings, kind, of=comfy.model_base.Stable_Zero123: of(
            settings, kind, cc_projection_weight=torch.zeros(8, 8), cc_projection_bias=torch.zeros(8)))
    model = patcher(base, config, kind, **settings)
    with pytest.raises(ValueError, match="UNetModel, and NAG can't guide it: it follows an image and no text"):
        out(nodes.NAGModel, model)


WITH_TEXT = {
    "SD2 unCLIP": ("SD21UNCLIP", "SD21UnclipL", V, {**VECTOR, "adm_in_channels": 16}, SD15_SAYS),
    "SD x4 upscaler": (
        "SD_X4Upscaler", "SD_X4Upscaler", V, {**X4, "num_heads": 2, "in_channels": 7}, SD15_SAYS
    ),
    "InstructPix2Pix": (
        "SD15_instructpix2pix", "SD15", EPS, {"num_heads": 2, "in_channels": 8, "adm_in_channels": None}, SD15_SAYS
    ),
    "SDXL InstructPix2Pix": (
        "SDXL_instructpix2pix", "SDXL", EPS, {**VECTOR, "in_channels": 8, "adm_in_channels": 16}, SDXL_SAYS
    ),
    "SDXL refiner": ("SDXLRefiner", "SDXLRefiner", EPS, {**VECTOR, "adm_in_channels": 16}, SDXL_SAYS),
}  # fmt: skip


@pytest.mark.parametrize(("base", "config", "kind", "settings", "says"), WITH_TEXT.values(), ids=WITH_TEXT)
def test_whose_values(patches, base, config, kind, settings, says):
    model = patcher(base, config, kind, **settings).model
    strength = patches("models").find_adapter(model).recommended(model)
    assert (strength.nag_scale, strength.nag_tau, strength.nag_alpha) == says
