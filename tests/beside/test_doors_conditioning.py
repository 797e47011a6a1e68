"""Nodes that change conditionings, where the negative waits at the doors: what they bring is the positive's."""
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from dit_others import FoldingVAE, random, style
from door_families import BY_NAME
from door_families.builder import DoorFamily, patches_of
from doors_others import exactly
from oracle.equation import Nag
from oracle.sampling import guided_by
from other_nodes import PLACES, by_node, in_turn
from runs import Run, assert_close, difference
from stock import stock

pytestmark = pytest.mark.usefixtures("inference_mode")


class VideoVAE(FoldingVAE):
    """Of one frame; LTX's has 128 channels, and a 32nd of the pixels each way."""

    downscale_index_formula = 8, 32, 32

    def __init__(self, factor=8, step=12):
        self.factor, self.step = factor, step

    def encode(self, pixels):
        folded = torch.nn.functional.pixel_unshuffle(pixels[..., :3].movedim(-1, 1), self.factor)
        return folded[:, :: self.step, None].contiguous() * 2 - 1


LTX_VAE = VideoVAE(32, 24)


@dataclass(frozen=True)
class Case:
    """
    Args:
        change: what the node does to a positive.
        tokens: of the image, where it has others.
        latent: what the sampler is given, where the node makes one.
    """

    family: DoorFamily
    change: Callable
    tokens: Callable | None = None
    latent: Callable | None = None


def edit(name, method, *shapes):
    """References, of which the model makes as many tokens as they have patches."""
    references = in_turn(
        *(by_node("ReferenceLatent", "conditioning", latent={"samples": random(1, *s)}) for s in shapes)
    )
    how = by_node("FluxKontextMultiReferenceLatentMethod", "conditioning", reference_latents_method=method)
    family, size = BY_NAME[name], 1 if name.startswith("flux2") else 2
    of_picture, further = family.tokens.of_image, sum(patches_of(size)(shape) for shape in shapes)
    return Case(family, in_turn(references, how), lambda latent: of_picture(latent) + further)


def of_both(node_id, **inputs):
    """A node for a positive and a negative, of which one is wanted."""
    return lambda conditioning: made(node_id, conditioning, **inputs)[0]


def made(node_id, conditioning, **inputs):
    return stock(node_id, positive=conditioning, negative=conditioning, **inputs)


def guide_of_ltx(name):
    """A frame more in the latent, which stands for a moment of the video."""
    family = BY_NAME[name]
    given = {
        "vae": LTX_VAE, "latent": {"samples": torch.zeros(1, *family.latent)},
        "image": random(1, 128, 192, 3).sigmoid(), "frame_idx": 8, "strength": 0.7,
    }  # fmt: skip
    latent = lambda: made("LTXVAddGuide", family.conditioning(1, 6), **given)[2]
    return Case(family, of_both("LTXVAddGuide", **given), latent=latent)


def image_to_video(name, node_id, latent_of=2, **given):
    family = BY_NAME[name]
    latent = lambda: made(node_id, family.conditioning(1, 6), **given)[latent_of]
    return Case(family, of_both(node_id, **given), latent=latent)


LTX_SIZE = {"width": 192, "height": 128, "length": 17, "batch_size": 1}
CASES = {
    "Qwen-Image-Edit": lambda: edit("qwen_image", "index", (16, 1, 6, 4), (16, 1, 4, 4)),
    "Qwen-Image-Edit 2511": lambda: edit("qwen_image", "index_timestep_zero", (16, 1, 6, 4), (16, 1, 4, 4)),
    "Flux.2 Klein": lambda: edit("flux2_klein", "index", (128, 2, 3), (128, 1, 4)),
    "Flux.2 Klein, timestep 0": lambda: edit("flux2_klein", "index_timestep_zero", (128, 2, 3)),
    "Krea 2": lambda: edit("krea2", "index_timestep_zero", (16, 1, 6, 4)),
    **{
        f"StyleModelApply, {how}, {name}": lambda name=name, how=how: Case(BY_NAME[name], style(0.5, how))
        for name, how in (("chroma", "multiply"), ("chroma", "attn_bias"), ("longcat", "attn_bias"))
    },
    "FluxGuidance": lambda: Case(BY_NAME["flux2_dev"], by_node("FluxGuidance", "conditioning", guidance=2.0)),
    "LTXVConditioning": lambda: Case(BY_NAME["ltxv"], of_both("LTXVConditioning", frame_rate=60.0)),
    "LTXVAddGuide": lambda: guide_of_ltx("ltxv"),
    "LTXVImgToVideo": lambda: image_to_video(
        "ltxv", "LTXVImgToVideo", vae=LTX_VAE, image=random(1, 128, 192, 3).sigmoid(), strength=0.9, **LTX_SIZE
    ),
    "Kandinsky5ImageToVideo": lambda: image_to_video(
        "kandinsky5_video", "Kandinsky5ImageToVideo", vae=VideoVAE(), start_image=random(1, 48, 64, 3).sigmoid(),
        width=64, height=48, length=9, batch_size=1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("other", CASES)
@pytest.mark.parametrize("place", PLACES)
def test_conditioning_changed_by_another_node(nodes, other, place):
    case = CASES[other]()
    family = case.family
    if case.tokens is not None:
        family = dataclasses.replace(family, tokens=dataclasses.replace(family.tokens, of_image=case.tokens))
    run, patcher, sampled = Run(family, cfg=3.0), family.patcher(), case.latent and case.latent()
    nag, negative = Nag(family.conditioning(11, 9)), case.change(run.negative)
    exact = exactly(family, patcher)
    expected = run.sample(exact, guided_by(case.change(run.positive), nag), negative, sampled)
    plain = run.sample(patcher, case.change(run.positive), negative, sampled)
    assert difference(expected, plain) > 0.001, "NAG did nothing"
    if case.latent is None:
        unchanged = run.sample(exactly(case.family, patcher), guided_by(run.positive, nag))
        assert difference(expected, unchanged) > 0.001, "the other node did nothing"
    model, positive = PLACES[place](nodes, patcher, run.positive, nag, case.change)
    assert_close(run.sample(model, positive, negative, sampled), expected)
