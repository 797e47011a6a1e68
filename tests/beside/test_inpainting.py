"""Inpainting: NAG acts on what the model sees, whichever node masks the latent, the picture or the steps.

Each run is compared with the same run of ComfyUI's in which the oracle answers in the model's place.
"""
from functools import cache

import comfy.sd
import comfy.taesd.taesd
import pytest
import torch

from families import BASE, BY_NAME, EPS, PICTURE4, SD15, SD15_SAYS, Family, _unet
from oracle import unet
from oracle.equation import Nag
from oracle.sampling import guided_by
from other_nodes import by_node, every_order, unchanged
from runs import Run, assert_close
from stock import stock
from subject import conditioning_node, model_node

pytestmark = pytest.mark.usefixtures("inference_mode")


def _inpainting_unet(dtype):
    """SD1.5's: its input has the mask and the masked picture behind the latent."""
    model = _unet(BASE, SD15, EPS, num_heads=4, adm_in_channels=None, in_channels=9)(dtype)
    model.set_inpaint()
    return model


SD15_INPAINTING = Family("sd15_inpainting", _inpainting_unet, unet.forward, SD15_SAYS, PICTURE4)
MADE_FOR_IT = [SD15_INPAINTING, BY_NAME["flux_fill"]]
FAMILIES = [BY_NAME["sdxl"], BY_NAME["flux_schnell"], *MADE_FOR_IT]
every_family = pytest.mark.parametrize("family", FAMILIES, ids=str)


@cache
def vae(channels):
    """TAESD with random weights, by ComfyUI's own loader."""
    generator = torch.Generator().manual_seed(4)
    shapes = {name: t.shape for name, t in comfy.taesd.taesd.TAESD(latent_channels=channels).state_dict().items()}
    weights = {name: 0.05 * torch.randn(shape, generator=generator) for name, shape in shapes.items() if shape}
    return comfy.sd.VAE(sd={**{name: torch.tensor(1.0) for name in shapes}, **weights})


def picture(family):
    """As Load Image gives it: a picture, and a mask with every shade in it."""
    height, width = (8 * size for size in family.latent[1:])
    generator = torch.Generator().manual_seed(9)
    pixels = torch.rand(1, height, width, 3, generator=generator)
    return pixels, torch.linspace(0, 1, width).expand(1, height, width).clone()


def masked_latent(family):
    latent = {"samples": Run(family, denoise=0.6).latent()}
    return stock("SetLatentNoiseMask", samples=latent, mask=picture(family)[1])[0]


@every_family
@every_order
@pytest.mark.parametrize("strength", [None, 1.0, 0.6], ids=["mask", "differential", "differential, in part"])
def test_noise_mask(nodes, family, order, strength):
    """SetLatentNoiseMask, and DifferentialDiffusion, for which the mask is another one at each step."""
    change = by_node("DifferentialDiffusion", strength=strength) if strength else unchanged
    run, patcher = Run(family, cfg=3.0, denoise=0.6, batch=2), family.patcher()
    latent = masked_latent(family)
    nag = Nag(family.conditioning(11, 5))
    model, positive = order(nodes, patcher, run.positive, nag, change)
    expected = run.sample(change(run.exact(patcher)), guided_by(run.positive, nag), latent=latent)
    assert_close(run.sample(model, positive, latent=latent), expected)


@every_family
@every_order
def test_vae_encode_for_inpaint(nodes, family, order):
    pixels, mask = picture(family)
    tiny = vae(family.latent[0])
    (latent,) = stock("VAEEncodeForInpaint", vae=tiny, pixels=pixels, mask=mask, grow_mask_by=6)
    run, patcher = Run(family, cfg=3.0), family.patcher()
    nag = Nag(family.conditioning(11, 5))
    model, positive = order(nodes, patcher, run.positive, nag)
    expected = run.sample(run.exact(patcher), guided_by(run.positive, nag), latent=latent)
    assert_close(run.sample(model, positive, latent=latent), expected)


@pytest.mark.parametrize("family", MADE_FOR_IT, ids=str)
@pytest.mark.parametrize("noise_mask", [True, False])
@pytest.mark.parametrize("by", ["model", "the sampler's negative", "conditioning before", "conditioning after"])
def test_inpaint_model_conditioning(nodes, family, noise_mask, by):
    """The model sees the masked picture beside the latent; so does NAG, whose negative needs none of its own."""
    run, patcher = Run(family, cfg=3.0), family.patcher()
    pixels, mask = picture(family)
    nag = Nag(family.conditioning(11, 5))

    def inpainted(positive):
        return stock(
            "InpaintModelConditioning", positive=positive, negative=run.negative, vae=vae(family.latent[0]),
            pixels=pixels, mask=mask, noise_mask=noise_mask,
        )  # fmt: skip

    plain, negative, latent = inpainted(run.positive)
    model, positive = patcher, plain
    if by == "model":
        model = model_node(nodes, patcher, nag, nag_negative=nag.negative)
    elif by == "the sampler's negative":
        nag = Nag(negative)
        model = model_node(nodes, patcher, nag)
    elif by == "conditioning before":
        positive = inpainted(conditioning_node(nodes, run.positive, nag))[0]
    else:
        positive = conditioning_node(nodes, plain, nag)
    result = run.sample(model, positive, negative, latent)
    assert_close(result, run.sample(run.exact(patcher), guided_by(plain, nag), negative, latent))
