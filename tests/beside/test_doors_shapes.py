"""What other nodes see in a model whose negative waits at the doors: the shapes that they would see without NAG."""
import dataclasses

import pytest
import torch

from doors_others import every_mechanism
from oracle.equation import Nag
from runs import Run, difference
from subject import conditioning_node, model_node

pytestmark = pytest.mark.usefixtures("inference_mode")
PATCHES = ("post_input", "noise_refiner", "double_block", "single_block")
BLOCKS = ("double_block", "single_block")
MOST_BLOCKS = 8


class Seeing:
    """Other nodes' patches, and replacements of blocks: each notes what it is given, and changes nothing.

    Attributes:
        seen: (where, shapes) of each call, in order.
    """

    def __init__(self):
        self.seen = []

    def __call__(self, patcher):
        patched = patcher.clone()
        for name in PATCHES:
            patched.set_model_patch(self.patch(name), name)
        for name in BLOCKS:
            for i in range(MOST_BLOCKS):
                patched.set_model_patch_replace(self.replacement(name, i), "dit", name, i)
        return patched

    def patch(self, name):
        def see(given):
            self.seen.append((name, shapes(given)))
            return given

        return see

    def replacement(self, *place):
        def see(given, further):
            out = further["original_block"](given)
            self.seen.append((place, shapes(given), shapes(out)))
            return out

        return see


def shapes(value):
    """Of all tensors in it, and where the image is said to lie."""
    if isinstance(value, dict):
        return {name: shapes(item) for name, item in value.items() if name != "transformer_options"} | {
            "img_slice": list(value.get("transformer_options", {}).get("img_slice", ()))
        }
    if dataclasses.is_dataclass(value):
        return shapes(vars(value))
    if isinstance(value, (list, tuple)):
        return [shapes(item) for item in value]
    return tuple(value.shape) if torch.is_tensor(value) else value if isinstance(value, int) else None


def by_model(nodes, patcher, positive, nag):
    return model_node(nodes, patcher, nag, nag_negative=nag.negative), positive


def by_conditioning(nodes, patcher, positive, nag):
    return patcher, conditioning_node(nodes, positive, nag)


@every_mechanism
@pytest.mark.parametrize("n_negative", [3, 14])
@pytest.mark.parametrize("by", [by_model, by_conditioning])
def test_shapes_without_the_negative(nodes, family, n_negative, by):
    run, patcher, plain, guided = Run(family, batch=2, steps=2), family.patcher(), Seeing(), Seeing()
    unguided = run.sample(plain(patcher))
    if not plain.seen:
        pytest.skip("this ComfyUI lets no other node between these blocks")
    nag = Nag(family.conditioning(11, n_negative))
    model, positive = by(nodes, patcher, run.positive, nag)
    assert difference(run.sample(guided(model), positive), unguided) > 0.001, "NAG did nothing"
    assert guided.seen == plain.seen
