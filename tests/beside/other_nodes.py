"""Another node beside NAG: where NAG can stand, and what the node does to a model."""
from functools import reduce

import pytest
import torch

from stock import stock
from subject import conditioning_node, model_node


def unchanged(given):
    return given


def model_first(nodes, patcher, positive, nag, change=unchanged):
    return change(model_node(nodes, patcher, nag, nag_negative=nag.negative)), positive


def model_last(nodes, patcher, positive, nag, change=unchanged):
    return model_node(nodes, change(patcher), nag, nag_negative=nag.negative), positive


def by_conditioning(nodes, patcher, positive, nag, change=unchanged):
    return change(patcher), conditioning_node(nodes, positive, nag)


ORDERS = (model_first, model_last, by_conditioning)
"""Where NAG can stand beside a node, `change`, that changes the model: each gives the model and positive to sample."""
every_order = pytest.mark.parametrize("order", ORDERS)
every_way = pytest.mark.parametrize("way", ORDERS[1:])  # to guide a model that no other node changes

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


def by_node(node_id, of="model", **inputs):
    """What a node of ComfyUI makes of this one of its inputs, given the others."""
    return lambda given: stock(node_id, **{of: given}, **inputs)[0]


def by_controlnet(node_id, negative, percents, **inputs):
    """What a node with a ControlNet makes of a positive, and of this negative."""
    image = torch.rand(1, 64, 96, 3, generator=torch.Generator().manual_seed(16))
    return lambda positive: stock(
        node_id, positive=positive, negative=negative, image=image, strength=0.7, start_percent=percents[0],
        end_percent=percents[1], **inputs,
    )  # fmt: skip


def in_turn(*changes):
    return lambda given: reduce(lambda changed, change: change(changed), changes, given)


def patched_by(setter, function, *where):
    """What a node does that calls this method of a ModelPatcher."""

    def patch(patcher):
        patched = patcher.clone()
        getattr(patched, setter)(function, *where)
        return patched

    return patch


def cooler_override(func, q, *args, **kwargs):
    return func(q * 0.7, *args, **kwargs)


def overriding(patcher):
    """Where other nodes put an attention of their own."""
    patched = patcher.clone()
    patched.model_options["transformer_options"]["optimized_attention_override"] = cooler_override
    return patched
