"""Transformers that other nodes have patched, and the oracle of them."""
import sys
from types import SimpleNamespace
from unittest.mock import patch

import comfy.ldm.flux.redux
import comfy.sd
import pytest
import torch

from families import BY_NAME, TEXT
from oracle import dit
from oracle.equation import attention
from oracle.sampling import exact_model
from stock import stock
from stored import patcher_of, weights_of

DITS = [
    (BY_NAME["sd35_large"], "shared"),
    (BY_NAME["flux_dev"], "shared"),
    (BY_NAME["flux_dev"], "separate"),
    (BY_NAME["wan21_t2v"], "shared"),
]
every_dit = pytest.mark.parametrize(("family", "stream"), DITS, ids=str)


class Patches(dit.Others):
    """ComfyUI's patches in transformer_options, called where ComfyUI does, in float32.

    A block's replacement gets what the model knows of: the positive's text, and of two images the first.
    """

    sees_negative = False

    def __init__(self, options):
        self.patches = options.get("patches", {})
        self.replacements = options.get("patches_replace", {}).get("dit", {})

    def entered(self, text, image):
        ids = {f"{name}_ids": torch.zeros(*t.shape[:2], 3) for name, t in (("txt", text), ("img", image))}
        inputs = {"txt": text.float(), "img": image.float(), **ids}
        for each in self.patches.get("post_input", ()):
            inputs = each(inputs)
        return inputs["txt"].double()

    def around(self, place, texts, images, run):
        replacement = self.replacements.get(place)
        if replacement is None:
            return run()
        if not self.sees_negative:
            texts, images = texts[:1], images[:1]
        streams = {"txt": texts, "img": images} if place[0] == "double_block" else {"img": [*texts, *images]}

        def original(args):
            spread(args, streams)
            run()
            return gathered(streams)

        spread(replacement(gathered(streams), {"original_block": original}), streams)


class PatchesOfJoinedText(Patches):
    """Where the negative's text comes to the blocks behind the positive's: what is done to one is done to both."""

    sees_negative = True


def gathered(streams):
    return {name: torch.cat([part.x for part in parts], 1).float() for name, parts in streams.items()}


def spread(tensors, streams):
    for name, parts in streams.items():
        if name in tensors:
            tokens = tensors[name].double().split([part.x.shape[1] for part in parts], 1)
            for part, x in zip(parts, tokens):
                part.x = x


def exact_dit(family, patcher):
    """A clone of a ModelPatcher in whose place the oracle answers, and does what patches in the model say."""
    return exact_model(family.forward, patcher, PatchesOfJoinedText if family.name.startswith("wan") else Patches)


def own_patcher(family, change=lambda weights: None):
    """A ModelPatcher of another model with the family's weights, changed in place."""
    patcher = patcher_of(family, weights_of(family), torch.float32)
    change(dict(patcher.model.diffusion_model.named_parameters()))
    return patcher


def other_weights(weights):
    generator = torch.Generator().manual_seed(3)
    for name, weight in weights.items():
        if name.endswith("modulation"):  # ComfyUI does not merge Wan's
            continue
        weight += 0.3 * weight.std() * torch.randn(weight.shape, generator=generator)


def attending(forward, attend):
    """The oracle's forward where another node has `attend`(q, k, v, heads, mask) in the place of attention."""

    def other(*args):
        with patch.object(sys.modules[forward.__module__], "attention", attend):
            return forward(*args)

    return other


def cooler(q, k, v, heads, mask=None):
    """The oracle's attention with other scores."""
    return attention(q * 0.7, k, v, heads, mask)


def with_weights(net):
    """Random ones, of a ControlNet."""
    generator = torch.Generator().manual_seed(15)
    for name, weight in (*net.named_parameters(), *net.named_buffers()):
        noise = torch.randn(weight.shape, generator=generator)
        weight.requires_grad_(False).copy_(
            noise / weight[0].numel() ** 0.5 if weight.ndim > 1 else (not name.endswith("bias")) + 0.2 * noise
        )
    return net


class FoldingVAE:
    """Latents of 16 channels with an eighth of the pixels each way, as an image VAE's are."""

    def spacial_compression_encode(self):
        return 8

    def encode(self, pixels):
        """(batch, height, width, 3) to (batch, 16, height / 8, width / 8)."""
        folded = torch.nn.functional.pixel_unshuffle(pixels[..., :3].movedim(-1, 1), 8)
        return folded[:, ::12].contiguous() * 2 - 1


def random(*shape):
    """The same numbers each time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(13))


def style(strength, strength_type):
    """What StyleModelApply does to a conditioning: tokens behind the text, maybe with a bias on them."""
    def change(conditioning):
        redux = comfy.ldm.flux.redux.ReduxImageEncoder(10, TEXT, dtype=torch.float32)
        generator = torch.Generator().manual_seed(14)
        for weight in redux.parameters():
            weight.requires_grad_(False).copy_(torch.randn(weight.shape, generator=generator) / weight.shape[-1] ** 0.5)
        return stock(
            "StyleModelApply",
            conditioning=conditioning,
            style_model=comfy.sd.StyleModel(redux),
            clip_vision_output=SimpleNamespace(last_hidden_state=random(1, 5, 10)),
            strength=strength,
            strength_type=strength_type,
        )[0]

    return change
