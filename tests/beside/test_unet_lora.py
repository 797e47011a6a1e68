"""LoRAs, their schedules and merged models under NAG, against the oracle of models with these weights baked in."""
import pytest
import torch

from families import BY_NAME
from oracle import sampling
from oracle.equation import Nag
from oracle.sampling import guided_by
from other_nodes import ORDERS, PLACES, by_node, in_turn, model_first, model_last
from runs import Run, assert_close, difference
from stock import stock, stock_class
from subject import conditioning_node, model_node
from unet_weights import STRENGTH, baked_clip, baked_model, model_of_its_own, saved_lora, tiny_clip, with_lora

pytestmark = pytest.mark.usefixtures("inference_mode")
SD15, SD2, SDXL = (BY_NAME[name] for name in ("sd15", "sd2", "sdxl"))


@pytest.mark.parametrize("family", [SD15, SD2, SDXL], ids=str)
@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("node_id", ["LoraLoaderModelOnly", "LoraLoaderBypassModelOnly"])
def test_lora_of_the_model(nodes, loras, family, cfg, node_id):
    """The first node changes the weights, the second what layers make of their inputs."""
    run, nag = Run(family, cfg=cfg), Nag(family.conditioning(11, 5))
    stock_class(node_id)
    lora, name = saved_lora(loras, family)
    patcher, positive = model_of_its_own(family), guided_by(run.positive, nag)
    expected = run.oracle(baked_model(family, lora, STRENGTH), positive)
    assert difference(run.oracle(family.patcher(), positive), expected) > 0.005, "the LoRA does nothing"
    for order in ORDERS:
        assert_close(run.sample(*order(nodes, patcher, run.positive, nag, with_lora(name, node_id))), expected)


@pytest.mark.usefixtures("nothing_compiled")
@pytest.mark.parametrize("compiled_first", [True, False], ids=["NAG, compiled, LoRA", "LoRA, compiled, NAG"])
def test_lora_of_a_compiled_model(nodes, loras, compiled_first):
    run, nag = Run(SD15, steps=2), Nag(SD15.conditioning(11, 5))
    lora, name = saved_lora(loras, SD15)
    load, compiled = with_lora(name), by_node("TorchCompileModel", backend="eager")
    order, change = (model_first, in_turn(compiled, load)) if compiled_first else (model_last, in_turn(load, compiled))
    expected = run.oracle(baked_model(SD15, lora, STRENGTH), guided_by(run.positive, nag))
    assert_close(run.sample(*order(nodes, model_of_its_own(SD15), run.positive, nag, change)), expected)


def encoded(clip, text):
    return stock("CLIPTextEncode", clip=clip, text=text)[0]


TEXTS = ("a photo of a cat", "a dog, blurry")


@pytest.mark.parametrize("order", ORDERS)
def test_lora_of_model_and_text_encoder(nodes, loras, order):
    run, clip = Run(SD15, cfg=3.0), tiny_clip()
    lora, name = saved_lora(loras, SD15, clip=clip)
    load = {"lora_name": name, "strength_model": STRENGTH, "strength_clip": 0.6}
    loaded = lambda patcher: stock("LoraLoader", model=patcher, clip=clip, **load)[0]
    _, clip_with_lora = stock("LoraLoader", model=model_of_its_own(SD15), clip=clip, **load)

    positive, negative = (encoded(baked_clip(lora, 0.6), text) for text in TEXTS)
    baked = baked_model(SD15, lora, STRENGTH)
    expected = run.oracle(baked, guided_by(positive, Nag(negative)))
    without = run.oracle(baked, guided_by(positive, Nag(encoded(clip, TEXTS[1]))))
    assert difference(without, expected) > 0.001, "the text encoder's LoRA does nothing to the negative"

    positive, negative = (encoded(clip_with_lora, text) for text in TEXTS)
    model, positive = order(nodes, model_of_its_own(SD15), positive, Nag(negative), loaded)
    assert_close(run.sample(model, positive), expected)


def hooks_of(name, *keyframes):
    """A LoRA as a hook; keyframes: (start_percent, strength_mult)."""
    (hooks,) = stock("CreateHookLora", lora_name=name, strength_model=STRENGTH, strength_clip=0.6)
    group = None
    for start, strength in keyframes:
        (group,) = stock("CreateHookKeyframe", strength_mult=strength, start_percent=start, prev_hook_kf=group)
    return stock("SetHookKeyframes", hooks=hooks, hook_kf=group)[0] if group is not None else hooks


def hooked(conditioning, hooks):
    given = {"strength": 1.0, "set_cond_area": "default", "hooks": hooks}
    return stock("ConditioningSetProperties", cond_NEW=conditioning, **given)[0]


KEYFRAMES = ((0.0, 1.0), (0.5, 0.25))


class OfTheHookedModel:
    """The oracle of a model whose weights depend on the conditioning and the step.

    Args:
        family: of the model.
        model_of: gives the model of a Nag, or of None for the negative of CFG, in the first or second part of the run.
    """

    def __init__(self, family, model_of):
        self.model_of = model_of
        self.forward, self.schedule = family.forward, family.patcher().model.model_sampling

    def __call__(self, net, x, t, cond, negative, nag):
        first = float(self.schedule.sigma(t[0])) > self.schedule.percent_to_sigma(KEYFRAMES[1][0])
        net = sampling.exactly(self.model_of(nag, first).model.diffusion_model)
        return self.forward(net, x, t, cond, negative, nag)


def placed(nodes, patcher, positive, nag, hooks):
    """NAG beside hooks on the positive: each way gives the model and the positive to sample."""
    given = nodes, patcher, positive, nag, lambda conditioning: hooked(conditioning, hooks)
    return [place(*given) for place in PLACES.values()]


@pytest.mark.parametrize("family", [SD15, SDXL], ids=str)
@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("negative_too", [False, True], ids=["positive", "both"])
def test_scheduled_lora(nodes, loras, family, cfg, negative_too):
    """NAG's negative shares the positive's model call, so the positive's hooks hold for both, whether the negative has
    them, too, or none. CFG's negative has a call of its own, with its own hooks."""
    run = Run(family, cfg=cfg, steps=4)
    lora, name = saved_lora(loras, family)
    hooks = hooks_of(name, *KEYFRAMES)
    plain, early, late = (baked_model(family, lora, STRENGTH * strength) for strength in (0.0, 1.0, KEYFRAMES[1][1]))
    nag = Nag(hooked(family.conditioning(11, 5), hooks) if negative_too else family.conditioning(11, 5))
    negative = hooked(run.negative, hooks) if negative_too else run.negative

    def model_of(nag, first):
        return (early if first else late) if nag is not None or negative_too else plain

    positive = guided_by(run.positive, nag)
    expected = run.oracle(family.patcher(), positive, forward=OfTheHookedModel(family, model_of))
    assert difference(run.oracle(early, positive), expected) > 0.005, "the schedule does nothing"
    for model, positive in placed(nodes, model_of_its_own(family), run.positive, nag, hooks):
        assert_close(run.sample(model, positive, negative), expected)


@pytest.mark.parametrize("hooks_first", [True, False], ids=["hooks first", "NAG first"])
def test_one_call_a_step_with_the_same_lora_on_both(nodes, loras, hooks_first):
    """ComfyUI batches what has the same hooks, and changes the weights between calls that have not."""
    run, patcher = Run(SD15, cfg=3.0), model_of_its_own(SD15)
    hooks = hooks_of(saved_lora(loras, SD15)[1], *KEYFRAMES)
    _, nag_first, nag_last = placed(nodes, patcher, run.positive, Nag(SD15.conditioning(11, 5)), hooks)
    calls = []
    patcher.model.diffusion_model.register_forward_pre_hook(lambda *_: calls.append(1))
    run.sample(*(nag_last if hooks_first else nag_first), hooked(run.negative, hooks))
    assert len(calls) == run.steps


def test_a_negative_with_a_lora_of_its_own(nodes, loras):
    """NAG can't have it: the negative has no model call of its own."""
    run, patcher = Run(SD15, cfg=3.0), model_of_its_own(SD15)
    nag = Nag(hooked(SD15.conditioning(11, 5), hooks_of(saved_lora(loras, SD15)[1])))
    for order in ORDERS:
        with pytest.raises(ValueError, match="NAG negative.*LoRA.*positive"):
            run.sample(*order(nodes, patcher, run.positive, nag))
    with pytest.raises(ValueError, match="NAG negative.*LoRA.*nag_negative"):
        run.sample(model_node(nodes, patcher, nag), negative=nag.negative)


@pytest.mark.parametrize("hooks_first", [True, False], ids=["hooks first", "NAG first"])
def test_regions_with_a_lora_and_a_negative_each(nodes, loras, hooks_first):
    run = Run(SD15, cfg=3.0, negative_tokens=6)
    loras = [saved_lora(loras, SD15, seed) for seed in (71, 72)]
    hooks = [hooks_of(name) for _, name in loras]
    nags = [Nag(SD15.conditioning(24, 6)), Nag(SD15.conditioning(25, 6), scale=2.5)]
    models = {id(nag): baked_model(SD15, lora, STRENGTH) for nag, (lora, _) in zip(nags, loras)}
    left = torch.zeros(1, *SD15.latent[1:])
    left[..., :5] = 1.0
    positives = [SD15.conditioning(21, 6, mask=left), SD15.conditioning(22, 6, mask=1 - left)]

    plain = SD15.patcher()
    hooked_model = OfTheHookedModel(SD15, lambda nag, first: plain if nag is None else models[id(nag)])
    positive = [entry for given in zip(positives, nags) for entry in guided_by(*given)]
    expected = run.oracle(plain, positive, forward=hooked_model)

    def region(positive, nag, hooks):
        if hooks_first:
            return conditioning_node(nodes, hooked(positive, hooks), nag)
        return hooked(conditioning_node(nodes, positive, nag), hooks)

    guided = [entry for given in zip(positives, nags, hooks) for entry in region(*given)]
    assert_close(run.sample(model_of_its_own(SD15), guided), expected)


@pytest.mark.parametrize("order", ORDERS)
def test_scheduled_lora_of_model_and_text_encoder(nodes, loras, order):
    """SetClipHooks: each text is encoded for each part of the schedule, NAG's negative as well."""
    run, clip = Run(SD15, cfg=3.0, steps=4), tiny_clip()
    lora, name = saved_lora(loras, SD15, clip=clip)
    hooks = hooks_of(name, *KEYFRAMES)
    (hooked_clip,) = stock("SetClipHooks", clip=clip, hooks=hooks, apply_to_conds=True, schedule_clip=True)
    strengths = [strength for _, strength in KEYFRAMES]
    early, late = (baked_model(SD15, lora, STRENGTH * strength) for strength in strengths)
    clips = [baked_clip(lora, 0.6 * strength) for strength in strengths]

    def by_hand(text):
        parts = [encoded(each, text)[0] for each in clips]
        ranges = [{"start_percent": 0.0, "end_percent": 0.5}, {"start_percent": 0.5, "end_percent": 1.0}]
        return [[tokens, values | part] for (tokens, values), part in zip(parts, ranges)]

    positive, negative = (by_hand(text) for text in TEXTS)
    hooked_model = OfTheHookedModel(SD15, lambda nag, first: early if first else late)
    exact = lambda nag: run.oracle(SD15.patcher(), guided_by(positive, nag), negative, hooked_model)
    expected = exact(Nag(negative))
    assert difference(exact(Nag(negative[:1])), expected) > 0.001

    positive, negative = (encoded(hooked_clip, text) for text in TEXTS)
    model, positive = order(nodes, model_of_its_own(SD15), positive, Nag(negative))
    assert_close(run.sample(model, positive, negative), expected)


def other_weights(seed):
    """Those of another model of the family."""
    generator = torch.Generator().manual_seed(seed)
    weights = SD15.patcher().model.diffusion_model.state_dict()
    noise = lambda w: w.std(correction=0) * torch.randn(w.shape, generator=generator)
    return {name: weight + 0.3 * noise(weight) for name, weight in weights.items()}


def simple(first, second):
    return stock("ModelMergeSimple", model1=first, model2=second[0], ratio=0.7)[0]


def blocks(first, second):
    given = {"input": 0.2, "middle": 0.5, "out": 0.9}
    return stock("ModelMergeBlocks", model1=first, model2=second[0], **given)[0]


def add_difference(first, second):
    (change,) = stock("ModelMergeSubtract", model1=second[0], model2=second[1], multiplier=0.5)
    return stock("ModelMergeAdd", model1=first, model2=change)[0]


def share_in_blocks(name):
    return {"input_blocks": 0.2, "middle_block": 0.5, "out": 0.9, "output_blocks": 0.9}.get(name.split(".")[0], 0.2)


MERGED = {
    simple: lambda name, a, b, c: 0.7 * a + 0.3 * b,
    blocks: lambda name, a, b, c: torch.lerp(b, a, share_in_blocks(name)),
    add_difference: lambda name, a, b, c: a + 0.5 * (b - c),
}


@pytest.mark.parametrize("merge", MERGED)
def test_merged_models(nodes, merge):
    run, nag = Run(SD15, cfg=3.0), Nag(SD15.conditioning(11, 5))
    weights = [SD15.patcher().model.diffusion_model.state_dict(), other_weights(81), other_weights(82)]
    merged = {name: MERGED[merge](name, *(each[name] for each in weights)) for name in weights[0]}
    expected = run.oracle(model_of_its_own(SD15, merged), guided_by(run.positive, nag))
    first, *others = (model_of_its_own(SD15, each) for each in weights)
    for order in ORDERS:
        result = run.sample(*order(nodes, first, run.positive, nag, lambda patcher: merge(patcher, others)))
        assert_close(result, expected)


def test_a_merge_takes_the_second_models_weights_only(nodes):
    """As with all patches, ComfyUI's merged models have those of the first."""
    run, nag = Run(SD15), Nag(SD15.conditioning(11, 5))
    first, second = model_of_its_own(SD15), model_of_its_own(SD15, other_weights(81))
    guided = model_node(nodes, second, nag, nag_negative=nag.negative)
    assert torch.equal(run.sample(simple(first, [guided])), run.sample(simple(first, [second])))
