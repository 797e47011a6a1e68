"""Nodes that change a transformer's weights: NAG on the changed model is NAG on one made with those weights."""
import pytest
import torch

from dit_lora import FILE, STRENGTH, add_lora, write_lora
from dit_others import every_dit, other_weights, own_patcher
from oracle.equation import Nag
from oracle.sampling import exactly, guided_by
from other_nodes import PLACES, by_node, every_order
from runs import Run, assert_close, difference
from stock import stock

pytestmark = pytest.mark.usefixtures("inference_mode")
LAYERS = {
    "sd35_large": [
        "context_embedder",
        "y_embedder.mlp.0",
        "joint_blocks.0.x_block.attn.qkv",
        "joint_blocks.0.context_block.attn.qkv",
        "joint_blocks.1.context_block.adaLN_modulation.1",
    ],
    "flux_dev": [
        "txt_in",
        "vector_in.in_layer",
        "double_blocks.0.img_attn.qkv",
        "double_blocks.1.txt_attn.proj",
        "double_blocks.0.txt_mod.lin",
        "single_blocks.1.linear1",
        "single_blocks.2.modulation.lin",
    ],
    "wan21_t2v": [
        "text_embedding.0",
        "blocks.0.cross_attn.k",
        "blocks.0.cross_attn.v",
        "blocks.1.self_attn.q",
        "blocks.1.ffn.0",
    ],
}  # attention and modulation among them


@pytest.fixture
def lora(loras):
    """Writes a LoRA for a family, where ComfyUI's loaders find it by FILE; gives (up, down) by the weights' names."""

    def write(family):
        weights = dict(family.patcher().model.diffusion_model.named_parameters())
        return write_lora(loras, {layer: weights[f"{layer}.weight"].shape for layer in LAYERS[family.name]})

    return write


def with_lora(family, factors, strength):
    """A ModelPatcher of a model made with those weights."""
    return own_patcher(family, lambda weights: add_lora(weights, factors, strength))


@every_dit
@every_order
def test_lora(nodes, lora, family, stream, order):
    run, nag = Run(family, cfg=3.0), Nag(family.conditioning(11, 5), image_stream=stream)
    expected = run.oracle(with_lora(family, lora(family), STRENGTH), guided_by(run.positive, nag))
    assert difference(expected, run.oracle(family.patcher(), guided_by(run.positive, nag))) > 0.01
    change = by_node("LoraLoaderModelOnly", lora_name=FILE, strength_model=STRENGTH)
    model, positive = order(nodes, own_patcher(family), run.positive, nag, change)
    assert_close(run.sample(model, positive), expected)


@every_dit
@every_order
def test_merged_models(nodes, family, stream, order):
    run, nag = Run(family, cfg=3.0), Nag(family.conditioning(11, 5), image_stream=stream)
    second = own_patcher(family, other_weights)
    others = dict(second.model.diffusion_model.named_parameters())

    def merge(weights):
        for name, weight in weights.items():
            weight.lerp_(others[name], 0.7)

    change = by_node("ModelMergeSimple", of="model1", model2=second, ratio=0.3)
    expected = run.oracle(own_patcher(family, merge), guided_by(run.positive, nag))
    assert difference(expected, run.oracle(family.patcher(), guided_by(run.positive, nag))) > 0.01

    model, positive = order(nodes, own_patcher(family), run.positive, nag, change)
    assert_close(run.sample(model, positive), expected)


def scheduled_hooks():
    """A LoRA on a conditioning, at full strength for the first half, then at 0.4 of it."""
    (hooks,) = stock("CreateHookLoraModelOnly", lora_name=FILE, strength_model=STRENGTH)
    (keyframes,) = stock("CreateHookKeyframe", strength_mult=1.0, start_percent=0.0, prev_hook_kf=None)
    (keyframes,) = stock("CreateHookKeyframe", strength_mult=0.4, start_percent=0.5, prev_hook_kf=keyframes)
    return stock("SetHookKeyframes", hooks=hooks, hook_kf=keyframes)[0]


class Scheduled:
    """The oracle's forward with other weights for the positive, which are others in the second half."""

    def __init__(self, family, first, then):
        self.forward = family.forward
        self.first, self.then = (exactly(patcher.model.diffusion_model) for patcher in (first, then))
        sampling = family.patcher().model.model_sampling
        self.half = sampling.timestep(torch.tensor(sampling.percent_to_sigma(0.5)))

    def __call__(self, net, x, t, cond, negative, nag):
        if nag is not None:
            net = self.then if t[0] <= self.half else self.first
        return self.forward(net, x, t, cond, negative, nag)


@every_dit
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_hook_schedules(nodes, lora, family, stream, place, cfg):
    run, nag = Run(family, cfg=cfg, steps=4), Nag(family.conditioning(11, 5), image_stream=stream)
    factors = lora(family)
    first, then = (with_lora(family, factors, STRENGTH * strength) for strength in (1.0, 0.4))
    patcher = own_patcher(family)
    expected = run.oracle(patcher, guided_by(run.positive, nag), forward=Scheduled(family, first, then))
    given = {"strength": 1.0, "set_cond_area": "default", "hooks": scheduled_hooks()}
    hooked = by_node("ConditioningSetProperties", of="cond_NEW", **given)
    model, positive = PLACES[place](nodes, patcher, run.positive, nag, hooked)
    assert_close(run.sample(model, positive), expected)
