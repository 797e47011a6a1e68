"""Every sampler of ComfyUI with NAG, against the same sampler with the oracle in the model's place."""
import comfy.samplers
import pytest
import torch

from families import BY_NAME
from oracle.equation import Nag
from oracle.sampling import guided_by
from other_nodes import by_conditioning, model_last
from runs import CLOSE, Run, assert_close, custom_sample
from stock import stock
from subject import model_node, out, strength

pytestmark = pytest.mark.usefixtures("inference_mode")

FAMILIES = [BY_NAME[name] for name in ("sdxl", "flux_schnell")]
every_family = pytest.mark.parametrize("family", FAMILIES, ids=str)
family_and_way = pytest.mark.parametrize(
    ("family", "way"), [(FAMILIES[0], model_last), (FAMILIES[1], by_conditioning)], ids=["sdxl", "flux_schnell"]
)


@every_family
def test_the_oracle_in_the_models_place(family):
    """It says the same as the oracle that does without ComfyUI's samplers."""
    run, patcher = Run(family, cfg=3.0, batch=2), family.patcher()
    guided = guided_by(run.positive, Nag(family.conditioning(11, 5)))
    assert_close(run.sample(run.exact(patcher), guided), run.oracle(patcher, guided))


def cfg_guider(run, model, positive):
    return stock("CFGGuider", model=model, positive=positive, negative=run.negative, cfg=run.cfg)[0]


def exact_guider(run, nag):
    return cfg_guider(run, run.exact(run.family.patcher()), guided_by(run.positive, nag))


def guided_and_exact(nodes, run, way, nag):
    """CFG guiders of ComfyUI over the model with NAG, and over the oracle."""
    ours = way(nodes, run.family.patcher(), run.positive, nag)
    return cfg_guider(run, *ours), exact_guider(run, nag)


ROUNDING = {"dpm_adaptive": 3e-3}  # which hundreds of small steps add up to, without NAG too


@family_and_way
@pytest.mark.parametrize("sampler_name", comfy.samplers.SAMPLER_NAMES)
def test_every_sampler(nodes, family, way, sampler_name):
    run, patcher = Run(family, cfg=3.0), family.patcher()
    (sampler,) = stock("KSamplerSelect", sampler_name=sampler_name)
    guiders = guided_and_exact(nodes, run, way, Nag(family.conditioning(11, 5)))
    result, expected = (custom_sample(run, patcher, guider, sampler) for guider in guiders)
    assert_close(result, expected, ROUNDING.get(sampler_name, CLOSE))


KINDS = ["euler_ancestral", "dpmpp_2m_sde", "dpmpp_2s_ancestral_cfg_pp", "res_multistep", "uni_pc", "lcm"]


@pytest.mark.parametrize("family", [BY_NAME["sd35_large"], BY_NAME["wan21_t2v"]], ids=str)
@pytest.mark.parametrize("sampler_name", KINDS)
def test_our_guider_with_samplers_of_each_kind(nodes, family, sampler_name):
    run, patcher = Run(family, cfg=3.0), family.patcher()
    nag = Nag(family.conditioning(11, 5))
    given = (patcher, run.positive, run.negative, nag.negative, run.cfg, *strength(nag).values(), 0.0)
    ours = out(nodes.NAGCFGGuider, *given)
    (sampler,) = stock("KSamplerSelect", sampler_name=sampler_name)
    result, expected = (custom_sample(run, patcher, guider, sampler) for guider in (ours, exact_guider(run, nag)))
    assert_close(result, expected)


NODES = {
    "SamplerEulerAncestralCFGPP": {"eta": 0.8, "s_noise": 1.0},
    "SamplerEulerCFGpp": {"version": "alternative"},
    "SamplerLCMUpscale": {"scale_ratio": 2.0, "scale_steps": 2, "upscale_method": "bislerp"},
    "SamplerLMS": {"order": 3},
    "SamplerDPMPP_2M_SDE": {"solver_type": "heun", "eta": 0.7, "s_noise": 1.0, "noise_device": "cpu"},
    "SamplerER_SDE": {"solver_type": "Reverse-time SDE", "max_stage": 2, "eta": 0.9, "s_noise": 1.0},
}


@family_and_way
@pytest.mark.parametrize("node_id", NODES)
def test_sampler_nodes(nodes, family, way, node_id):
    """Upscaling in the midst of the sampling, too: then the latent grows between the steps."""
    run, patcher = Run(family, cfg=3.0), family.patcher()
    sampler = stock(node_id, **NODES[node_id])[0]
    guiders = guided_and_exact(nodes, run, way, Nag(family.conditioning(11, 5)))
    result, expected = (custom_sample(run, patcher, guider, sampler) for guider in guiders)
    assert_close(result, expected)


def in_two_stages(run, models, positives):
    """By two KSamplerAdvanced, the second of which goes on with the noise that the first leaves."""
    latent = {"samples": run.latent()}
    first = {"add_noise": "enable", "start_at_step": 0, "end_at_step": 2, "return_with_leftover_noise": "enable"}
    second = {
        "add_noise": "disable", "start_at_step": 2, "end_at_step": 10000, "return_with_leftover_noise": "disable"
    }  # fmt: skip
    for stage, model, positive in zip((first, second), models, positives):
        (latent,) = stock(
            "KSamplerAdvanced", model=model, noise_seed=run.seed, steps=4, cfg=run.cfg, sampler_name="dpmpp_2m",
            scheduler="simple", positive=positive, negative=run.negative, latent_image=latent, **stage,
        )  # fmt: skip
    return latent["samples"]


@family_and_way
@pytest.mark.parametrize("guided", [(True, True), (True, False), (False, True)], ids=["both", "first", "second"])
def test_two_stages(nodes, family, way, guided):
    """As with a refiner, or Wan2.2's pair."""
    run, patcher = Run(family, cfg=3.0), family.patcher()
    nag = Nag(family.conditioning(11, 5))
    ours = way(nodes, patcher, run.positive, nag)
    pairs = [ours if each else (patcher, run.positive) for each in guided]
    exact = [guided_by(run.positive, nag) if each else run.positive for each in guided]
    assert_close(in_two_stages(run, *zip(*pairs)), in_two_stages(run, [run.exact(patcher)] * 2, exact))


def over_split_sigmas(run, guider, sigmas):
    high, low = stock("SplitSigmas", sigmas=sigmas, step=2)
    half_way = custom_sample(run, run.family.patcher(), guider, sigmas=high)
    noise = stock("DisableNoise")[0]
    return custom_sample(run, run.family.patcher(), guider, sigmas=low, noise=noise, latent={"samples": half_way})


@family_and_way
def test_split_sigmas(nodes, family, way):
    run, patcher = Run(family, cfg=3.0, steps=4), family.patcher()
    guiders = guided_and_exact(nodes, run, way, Nag(family.conditioning(11, 5), end_percent=0.8))
    result, expected = (over_split_sigmas(run, guider, run.sigmas(patcher)) for guider in guiders)
    assert_close(result, expected)


@every_family
def test_sigma_of_a_percentage(nodes, family):
    """SamplingPercentToSigma tells where nag_sigma_end has to be to stop as NAG Options' end_percent does."""
    run, patcher = Run(family, steps=4), family.patcher()
    (sigma,) = stock("SamplingPercentToSigma", model=patcher, sampling_percent=0.5, return_actual_sigma=False)
    nag = Nag(family.conditioning(11, 5), end_percent=0.5)
    guider = out(nodes.NAGGuider, patcher, run.positive, nag.negative, *strength(nag).values(), sigma)
    by_percentage = run.sample(model_node(nodes, patcher, nag, nag_negative=nag.negative))
    assert torch.equal(custom_sample(run, patcher, guider), by_percentage)
    assert_close(by_percentage, run.oracle(patcher, guided_by(run.positive, nag)))
