"""LoRAs on families whose negative waits at the doors, on the model and on a conditioning; with fp8 weights, too."""
import pytest
import torch

from dit_lora import FILE, STRENGTH, add_lora, write_lora
from door_families import BY_NAME
from doors_others import EACH, every_mechanism, exactly
from oracle.equation import Nag
from oracle.sampling import guided_by
from other_nodes import ORDERS, PLACES, by_node, model_last
from runs import Run, assert_close, difference
from stock import stock
from stored import patcher_of, rounded, weights_of
from subject import model_node, options
from test_schedule import over

pytestmark = pytest.mark.usefixtures("inference_mode")
QWEN = BY_NAME["qwen_image"]
MODEL, *CONDITIONING = PLACES
BEHIND = [BY_NAME[name] for name in ("pixart_sigma", "ernie_image")]  # the prompts meet in front of the projection
OF_A_STEP = [*EACH, *BEHIND, BY_NAME["ace_step15"]]  # which encodes its negative once a run, where weights stay


@pytest.fixture
def lora(loras):
    """Writes a LoRA for all linear layers of a family, its text's, too; gives (up, down) by the weights' names."""

    def write(family):
        layers = family.patcher().model.diffusion_model.named_modules()
        shapes = {name: layer.weight.shape for name, layer in layers if isinstance(layer, torch.nn.Linear)}
        return write_lora(loras, shapes, scale=0.25)

    return write


def with_lora(family, factors):
    """A ModelPatcher of a model made with those weights."""
    patcher = own_patcher(family)
    add_lora(dict(patcher.model.diffusion_model.named_parameters()), factors)
    return patcher


def own_patcher(family):
    return patcher_of(family, weights_of(family), torch.float32)


@pytest.mark.parametrize(
    ("family", "order"), [(f, model_last) for f in [*EACH, *BEHIND]] + [(QWEN, o) for o in ORDERS[::2]]
)
def test_lora(nodes, lora, family, order):
    run, nag = Run(family, cfg=3.0, steps=2), Nag(family.conditioning(11, 5))
    expected = run.sample(exactly(family, with_lora(family, lora(family))), guided_by(run.positive, nag))
    without = run.sample(exactly(family, family.patcher()), guided_by(run.positive, nag))
    assert difference(expected, without) > 0.01, "the LoRA did nothing"
    change = by_node("LoraLoaderModelOnly", lora_name=FILE, strength_model=STRENGTH)
    model, positive = order(nodes, own_patcher(family), run.positive, nag, change)
    assert_close(run.sample(model, positive), expected)


def half_hooked():
    """A node that puts the LoRA on a conditioning: at full strength for the first half, then not at all."""
    (hooks,) = stock("CreateHookLoraModelOnly", lora_name=FILE, strength_model=STRENGTH)
    (keyframes,) = stock("CreateHookKeyframe", strength_mult=1.0, start_percent=0.0, prev_hook_kf=None)
    (keyframes,) = stock("CreateHookKeyframe", strength_mult=0.0, start_percent=0.5, prev_hook_kf=keyframes)
    (hooks,) = stock("SetHookKeyframes", hooks=hooks, hook_kf=keyframes)
    given = {"strength": 1.0, "set_cond_area": "default", "hooks": hooks}
    return by_node("ConditioningSetProperties", of="cond_NEW", **given)


@pytest.mark.parametrize(
    ("family", "place"), [(f, MODEL) for f in OF_A_STEP] + [(QWEN, place) for place in CONDITIONING]
)
def test_hooked_lora(nodes, lora, family, place):
    """The negative's text is the positive's model's."""
    run, nag = Run(family, cfg=3.0, steps=4), Nag(family.conditioning(11, 5))
    lora(family)
    hooked, patcher = half_hooked(), own_patcher(family)
    expected = run.sample(exactly(family, patcher), hooked(guided_by(run.positive, nag)))
    always = run.sample(exactly(family, with_lora(family, lora(family))), guided_by(run.positive, nag))
    never = run.sample(exactly(family, patcher), guided_by(run.positive, nag))
    assert min(difference(expected, other) for other in (always, never)) > 0.01
    model, positive = PLACES[place](nodes, patcher, run.positive, nag, hooked)
    assert_close(run.sample(model, positive), expected)


def test_hooked_lora_beside_a_schedule(nodes, lora):
    """NAG's strength and the LoRA's each have steps of their own."""
    run, nag = Run(QWEN, steps=4), Nag(QWEN.conditioning(11, 5))
    lora(QWEN)
    hooked, patcher = half_hooked(), own_patcher(QWEN)
    exact = guided_by(run.positive, over(run, patcher, nag, [1, 0.25, 0.75, 0.5, 0.5]))
    expected = run.sample(exactly(QWEN, patcher), hooked(exact))
    assert difference(expected, run.sample(exactly(QWEN, patcher), exact)) > 0.01
    chosen = options(nodes, nag, schedule="list", strengths="1, 0.25, 0.75, 0.5")
    model = model_node(nodes, patcher, nag, nag_negative=nag.negative, options=chosen)
    assert_close(run.sample(model, hooked(run.positive)), expected)


@every_mechanism
def test_lora_on_fp8_weights(nodes, lora, family):
    """Each layer casts its weights, and the LoRA's change, when it is called."""
    lora(family)
    run, nag = Run(family, cfg=3.0, steps=2), Nag(family.conditioning(11, 5))
    change = by_node("LoraLoaderModelOnly", lora_name=FILE, strength_model=STRENGTH)
    fp8, _ = rounded(family, torch.float8_e4m3fn, torch.float32)
    patched = change(fp8)
    expected = run.sample(exactly(family, patched), guided_by(run.positive, nag))
    assert difference(expected, run.sample(exactly(family, fp8), guided_by(run.positive, nag))) > 0.01
    model, positive = model_last(nodes, fp8, run.positive, nag, change)
    assert_close(run.sample(model, positive), expected)
