"""A graph as people build them: LoRA, ControlNet, image prompt, FreeU, PAG, another attention, and NAG."""
import pytest

from families import BY_NAME
from oracle.equation import Nag
from oracle.sampling import guided_by
from runs import Run, assert_close
from test_unet_attention import BLOCKS, ImagePrompt
from test_unet_controlnet import apply_advanced, controlnet
from test_unet_lora import STRENGTH, saved, with_lora  # noqa: F401
from test_unet_patches import OTHERS
from unet_others import ORDERS, exact_unet
from unet_weights import baked_model, model_of_its_own

pytestmark = pytest.mark.usefixtures("inference_mode")
PATCHED_BY = ("FreeU_V2", "PerturbedAttentionGuidance", "optimized_attention_override", "attn2_output_patch")


def patched(patcher):
    patcher = patcher.clone()
    image = ImagePrompt(BLOCKS, width=128)
    for block in BLOCKS:
        patcher.set_model_attn2_replace(image.replace, *block)
    for name in PATCHED_BY:
        patcher = OTHERS[name](patcher)
    return patcher


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
@pytest.mark.parametrize("changes", [{}, {"cfg": 3.0, "batch": 2}], ids=["cfg 1", "cfg 3"])
def test_all_of_them(nodes, saved, name, changes):  # noqa: F811
    family = BY_NAME[name]
    run, nag = Run(family, negative_tokens=6, **changes), Nag(family.conditioning(11, 5))
    lora, file = saved(family)
    positive, negative = apply_advanced(controlnet(family), run.positive, run.negative, end=0.7)
    exact = patched(exact_unet(baked_model(family, lora, STRENGTH)))
    expected = run.sample(exact, guided_by(positive, nag), negative)
    load = with_lora(file)
    for order in ORDERS:
        model, guided = order(nodes, model_of_its_own(family), positive, nag, lambda patcher: patched(load(patcher)))
        assert_close(run.sample(model, guided, negative), expected)
    between = lambda patcher: patched(ORDERS[0](nodes, load(patcher), positive, nag, lambda model: model)[0])
    assert_close(run.sample(between(model_of_its_own(family)), positive, negative), expected)
