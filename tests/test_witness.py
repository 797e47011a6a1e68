"""A run in which NAG was to act and guided nothing ends in an error; one in which there was nothing to do does not."""
import pytest
import torch
from comfy.patcher_extension import WrappersMP

from families import BY_NAME, FAMILY_AND_STREAM
from runs import Run, custom_sample
from stock import stock
from subject import out

pytestmark = pytest.mark.usefixtures("inference_mode")
NOTHING_GUIDED = "no attention was guided"
ONE_OF_A_KIND = [
    case for case in FAMILY_AND_STREAM if case[0].name in ("sdxl", "sd35_large", "flux_schnell", "wan21_t2v")
]
FLUX, SDXL = BY_NAME["flux_schnell"], BY_NAME["sdxl"]


def skipping(kind, calls=lambda call: True):
    """Another node's wrapper, that answers these of the model's calls itself, as a cache does."""
    count = iter(range(1000))

    def wrapper(executor, x, *args, **kwargs):
        return x if calls(next(count)) else executor(x, *args, **kwargs)

    return lambda patcher: with_wrapper(patcher, kind, wrapper)


def with_wrapper(patcher, kind, wrapper):
    patched = patcher.clone()
    patched.add_wrapper_with_key(kind, "another node", wrapper)
    return patched


def calls_of_its_own(patcher):
    """Another node's model_function_wrapper that knows of the model's own inputs only."""
    patched = patcher.clone()

    def call(apply_model, given):
        known = {key: value for key, value in given["c"].items() if key in ("c_crossattn", "c_concat", "y", "guidance")}
        options = {key: value for key, value in given["c"]["transformer_options"].items() if key != "wrappers"}
        return apply_model(given["input"], given["timestep"], **known, transformer_options=options)

    patched.set_model_unet_function_wrapper(call)
    return patched


OTHERS = {
    "a cache in the model": skipping(WrappersMP.DIFFUSION_MODEL),
    "a cache around the model": skipping(WrappersMP.APPLY_MODEL),
    "calls of its own": calls_of_its_own,
}
def fails_and_leaves_the_model(run, patcher, model, positive):
    plain = run.sample(patcher)
    with pytest.raises(RuntimeError, match=NOTHING_GUIDED):
        run.sample(model, positive)
    assert torch.equal(run.sample(patcher), plain)


@pytest.mark.parametrize(("family", "stream"), ONE_OF_A_KIND, ids=str)
@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_another_node_keeps_nag_out(nodes, family, stream, other):
    if other is OTHERS["a cache in the model"] and family.name.startswith("sd3"):
        pytest.skip("ComfyUI has no wrappers inside of this model")
    run, patcher = Run(family, cfg=3.0), family.patcher()
    options = out(nodes.NAGOptions, 0.0, 1.0, stream)
    for model in (other(out(nodes.NAGModel, patcher, options=options)),
                  out(nodes.NAGModel, other(patcher), options=options)):
        fails_and_leaves_the_model(run, patcher, model, run.positive)
    by_conditioning = out(nodes.NAGConditioning, run.positive, run.negative, options=options)
    fails_and_leaves_the_model(run, patcher, other(patcher), by_conditioning)


def test_another_node_forgets_our_attention(nodes):
    """It calls the model with transformer_options of its own making."""
    run, patcher = Run(SDXL), SDXL.patcher()

    def forget(model, args, kwargs):
        ours = ("patches", "patches_replace")
        options = {key: value for key, value in kwargs["transformer_options"].items() if key not in ours}
        return args, {**kwargs, "transformer_options": options}

    forgetting = patcher.model.diffusion_model.register_forward_pre_hook(forget, with_kwargs=True)
    try:
        fails_and_leaves_the_model(run, patcher, out(nodes.NAGModel, patcher), run.positive)
    finally:
        forgetting.remove()


def test_another_node_replaces_the_blocks(nodes):
    run, patcher = Run(FLUX), FLUX.patcher()
    model = out(nodes.NAGModel, patcher)
    net = patcher.model.diffusion_model
    for kind, blocks in (("double_block", net.double_blocks), ("single_block", net.single_blocks)):
        for i in range(len(blocks)):
            model.set_model_patch_replace(lambda inputs, _: inputs, "dit", kind, i)
    fails_and_leaves_the_model(run, patcher, model, run.positive)


@pytest.mark.parametrize("family", [SDXL, FLUX], ids=str)
def test_one_step_is_enough(nodes, family):
    """A cache may skip the others."""
    run, patcher = Run(family), family.patcher()
    model = out(nodes.NAGModel, patcher)
    for step in range(run.steps):
        run.sample(skipping(WrappersMP.DIFFUSION_MODEL, but_for(step))(model))


def but_for(step):
    return lambda call: call != step


def between(nodes, start, end):
    return out(nodes.NAGOptions, start, end, "shared")


@pytest.mark.parametrize("family", [SDXL, FLUX], ids=str)
def test_out_of_its_range_of_steps(nodes, family):
    """The first of two samplers, and NAG in the second half."""
    run, patcher = Run(family, steps=4), family.patcher()
    model = out(nodes.NAGModel, patcher, options=between(nodes, 0.9, 1.0))
    custom_sample(run, model, guider_of(model, run), sigmas=run.sigmas(patcher)[:3])


@pytest.mark.parametrize("family", [SDXL, FLUX], ids=str)
def test_positive_out_of_its_range_of_steps(nodes, family):
    run, patcher = Run(family, steps=4), family.patcher()
    late = stock("ConditioningSetTimestepRange", conditioning=run.positive, start=0.9, end=1.0)[0]
    late = out(nodes.NAGConditioning, late, run.negative)
    guider = guider_of(patcher, run, run.positive + late)
    custom_sample(run, patcher, guider, sigmas=run.sigmas(patcher)[:3])


@pytest.mark.parametrize("family", [SDXL, FLUX], ids=str)
def test_model_and_conditioning_both_bring_nag(nodes, family):
    run, patcher = Run(family), family.patcher()
    positive = out(nodes.NAGConditioning, run.positive, run.negative)
    assert torch.equal(run.sample(out(nodes.NAGModel, patcher), positive), run.sample(patcher, positive))


@pytest.mark.parametrize("family", [SDXL, FLUX], ids=str)
def test_sampler_that_makes_its_own_sigmas(nodes, family):
    """It may miss the range that a step of the schedule lies in."""
    run, patcher = Run(family), family.patcher()
    sigmas = run.sigmas(patcher)
    middle = sigmas[1].item()
    percent = next(p / 1000 for p in range(1000) if percent_to_sigma(patcher, p / 1000) <= middle)
    model = out(nodes.NAGModel, patcher, options=between(nodes, percent - 0.001, percent))
    (sampler,) = stock("SamplerDPMAdaptative", order=2, rtol=0.5, atol=0.5, h_init=5.0, pcoeff=0.0, icoeff=1.0,
                       dcoeff=0.0, accept_safety=0.81, eta=0.0, s_noise=1.0)
    custom_sample(run, model, guider_of(model, run), sampler=sampler)


def percent_to_sigma(patcher, percent):
    return patcher.get_model_object("model_sampling").percent_to_sigma(percent)


def guider_of(model, run, positive=None):
    inputs = {"positive": positive or run.positive, "negative": run.negative, "cfg": run.cfg}
    return stock("CFGGuider", model=model, **inputs)[0]
