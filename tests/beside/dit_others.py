"""Transformers that other nodes have patched, and the oracle of them."""
import sys
from unittest.mock import patch

import comfy.model_patcher
import torch
from comfy.patcher_extension import WrappersMP

from families import BY_NAME
from oracle import dit, sampling
from oracle.equation import attention
from subject import conditioning_node, model_node

DITS = [
    (BY_NAME["sd35_large"], "shared"),
    (BY_NAME["flux_dev"], "shared"),
    (BY_NAME["flux_dev"], "separate"),
    (BY_NAME["wan21_t2v"], "shared"),
]
PLACES = {
    "NAG Model": lambda nodes, patcher, positive, nag, change: (
        model_node(nodes, patcher, nag, nag_negative=nag.negative), change(positive)
    ),
    "NAG Conditioning first": lambda nodes, patcher, positive, nag, change: (
        patcher, change(conditioning_node(nodes, positive, nag))
    ),
    "NAG Conditioning last": lambda nodes, patcher, positive, nag, change: (
        patcher, conditioning_node(nodes, change(positive), nag)
    ),
}  # fmt: skip
"""Where NAG can stand beside a node, `change`, that changes the positive. Each gives the model and the positive."""


class Patches(dit.Others):
    """ComfyUI's patches in transformer_options, called where ComfyUI does, in float32.

    A block's replacement gets both prompts' tokens in one sequence: what it does to one token it does to all.
    """

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
        streams = {"txt": texts, "img": images} if place[0] == "double_block" else {"img": [*texts, *images]}

        def original(args):
            spread(args, streams)
            run()
            return gathered(streams)

        spread(replacement(gathered(streams), {"original_block": original}), streams)


def gathered(streams):
    return {name: torch.cat([part.x for part in parts], 1).float() for name, parts in streams.items()}


def spread(tensors, streams):
    for name, parts in streams.items():
        if name in tensors:
            tokens = tensors[name].double().split([part.x.shape[1] for part in parts], 1)
            for part, x in zip(parts, tokens):
                part.x = x


class ExactDiT(sampling.ExactModel):
    def __call__(
        self, executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **values
    ):
        others = Patches(transformer_options)
        return super().__call__(executor, x, t, c_concat, c_crossattn, control, None, **values, others=others)


def exact_dit(family, patcher):
    """A clone of a ModelPatcher in whose place the oracle answers, and does what patches in the model say."""
    exact = patcher.clone()
    exact.add_wrapper_with_key(WrappersMP.APPLY_MODEL, sampling.KEY, ExactDiT(family.forward))
    return exact


def own_patcher(family, change=lambda weights: None):
    """A ModelPatcher of another model with the family's weights, changed in place."""
    model = family.build(torch.float32).requires_grad_(False)
    model.diffusion_model.load_state_dict(family.patcher().model.diffusion_model.state_dict())
    change(dict(model.diffusion_model.named_parameters()))
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


def attending(forward, attend):
    """The oracle's forward where another node has `attend`(q, k, v, heads, mask) in the place of attention."""

    def other(*args):
        with patch.object(sys.modules[forward.__module__], "attention", attend):
            return forward(*args)

    return other


def cooler(q, k, v, heads, mask=None):
    """The oracle's attention with other scores."""
    return attention(q * 0.7, k, v, heads, mask)


class FoldingVAE:
    """Latents of 16 channels with an eighth of the pixels each way, as an image VAE's are."""

    def spacial_compression_encode(self):
        return 8

    def encode(self, pixels):
        """(batch, height, width, 3) to (batch, 16, height / 8, width / 8)."""
        folded = torch.nn.functional.pixel_unshuffle(pixels[..., :3].movedim(-1, 1), 8)
        return folded[:, ::12].contiguous() * 2 - 1
