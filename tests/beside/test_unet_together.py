"""A graph as people build them: LoRA, ControlNet, image prompt, FreeU, PAG, another attention, and NAG."""
import pytest

from families import BY_NAME
from oracle.equation import Nag
from oracle.sampling import guided_by
from other_nodes import ORDERS, by_node, in_turn, model_first, overriding, patched_by
from runs import Run, assert_close
from unet_control import apply_advanced, controlnet
from unet_others import BLOCKS, ImagePrompt, exact_unet
from unet_weights import STRENGTH, baked_model, model_of_its_own, saved_lora, with_lora

pytestmark = pytest.mark.usefixtures("inference_mode")
IMAGE = ImagePrompt(BLOCKS, width=128)
patched = in_turn(
    *(patched_by("set_model_attn2_replace", IMAGE.replace, *block) for block in BLOCKS),
    by_node("FreeU_V2", b1=1.3, b2=1.4, s1=0.9, s2=0.2),
    by_node("PerturbedAttentionGuidance", scale=2.0),
    overriding,
    patched_by("set_model_attn2_output_patch", lambda x, options: x * 1.3),
)


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
@pytest.mark.parametrize("changes", [{}, {"cfg": 3.0, "batch": 2}], ids=["cfg 1", "cfg 3"])
def test_all_of_them(nodes, loras, name, changes):
    family = BY_NAME[name]
    run, nag = Run(family, negative_tokens=6, **changes), Nag(family.conditioning(11, 5))
    lora, file = saved_lora(loras, family)
    positive, negative = apply_advanced(controlnet(family), run.positive, run.negative, end=0.7)
    exact = patched(exact_unet(baked_model(family, lora, STRENGTH)))
    expected = run.sample(exact, guided_by(positive, nag), negative)
    load = with_lora(file)
    for order in ORDERS:
        model, guided = order(nodes, model_of_its_own(family), positive, nag, in_turn(load, patched))
        assert_close(run.sample(model, guided, negative), expected)
    between = lambda patcher: patched(model_first(nodes, load(patcher), positive, nag)[0])
    assert_close(run.sample(between(model_of_its_own(family)), positive, negative), expected)
