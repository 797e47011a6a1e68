"""ComfyUI-NAG's samplers against ComfyUI's own behind NAG Model, and the inputs that its graphs bring."""
import comfy.samplers
import pytest
import torch

from families import BY_NAME
from runs import Run, custom_sample
from stock import load_all, stock
from subject import out

pytestmark = pytest.mark.usefixtures("inference_mode")

SDXL, FLUX = BY_NAME["sdxl"], BY_NAME["flux_dev"]
STEPS = 4
STRENGTH = {"nag_scale": 4.0, "nag_tau": 2.0, "nag_alpha": 0.4}
NAG = {**STRENGTH, "nag_sigma_end": 0.0}
CLASSES = {
    "KSamplerWithNAG": ("KSamplerWithNAG", "KSampler"),
    "KSamplerWithNAG (Advanced)": ("KSamplerAdvancedWithNAG", "KSamplerAdvanced"),
    "SamplerCustomWithNAG": ("SamplerCustomWithNAG", "SamplerCustom"),
}

# What ComfyUI-NAG's nodes ask for, in its order.
NAG_INPUTS = ["nag_scale", "nag_tau", "nag_alpha", "nag_sigma_end"]
PROMPTS = ["positive", "negative", "nag_negative"]
INPUTS = {
    "KSamplerWithNAG": [
        *("model", "seed", "steps", "cfg", *NAG_INPUTS, "sampler_name", "scheduler", *PROMPTS),
        *("latent_image", "denoise"),
    ],
    "KSamplerWithNAG (Advanced)": [
        *("model", "add_noise", "noise_seed", "steps", "cfg", *NAG_INPUTS, "sampler_name", "scheduler", *PROMPTS),
        *("latent_image", "start_at_step", "end_at_step", "return_with_leftover_noise"),
    ],
    "SamplerCustomWithNAG": [
        *("model", "add_noise", "noise_seed", "cfg", *NAG_INPUTS, *PROMPTS, "sampler", "sigmas", "latent_image"),
    ],
}
# Its numbers: default, lowest, highest, step.
NUMBERS = {
    "seed": (0, 0, 2**64 - 1, None),
    "noise_seed": (0, 0, 2**64 - 1, None),
    "steps": (20, 1, 10000, None),
    "cfg": (8.0, 0.0, 100.0, 0.1),
    "nag_scale": (5.0, 0.0, 100.0, 0.1),
    "nag_tau": (2.5, 1.0, 10.0, 0.1),
    "nag_alpha": (0.25, 0.0, 1.0, 0.01),
    "nag_sigma_end": (0.0, 0.0, 20.0, 0.01),
    "denoise": (1.0, 0.0, 1.0, 0.01),
    "start_at_step": (0, 0, 10000, None),
    "end_at_step": (10000, 0, 10000, None),
}
every_node = pytest.mark.parametrize("name", CLASSES)


def legacy(nodes, name):
    load_all()  # these nodes stand on ComfyUI's
    return getattr(nodes, CLASSES[name][0])


@every_node
def test_the_inputs_are_comfyui_nags(nodes, name):
    inputs = legacy(nodes, name).INPUT_TYPES()
    assert list(inputs["required"]) == INPUTS[name]
    assert list(inputs["optional"]) == ["options"]
    numbers = {key: value for key, (_, value) in inputs["required"].items() if key in NUMBERS}
    found = {
        key: tuple(value.get(part) for part in ("default", "min", "max", "step")) for key, value in numbers.items()
    }
    assert found == {key: NUMBERS[key] for key in numbers} and len(found) > 5
    seed = "seed" if "seed" in numbers else "noise_seed"
    assert [key for key in numbers if numbers[key].get("control_after_generate")] == [seed]


def test_the_choices_are_comfyui_nags(nodes):
    """The first of them is the default."""
    inputs = {key: node.INPUT_TYPES()["required"] for key in CLASSES for node in [legacy(nodes, key)]}
    advanced = inputs["KSamplerWithNAG (Advanced)"]
    assert advanced["add_noise"][1]["options"] == ["enable", "disable"]
    assert advanced["return_with_leftover_noise"][1]["options"] == ["disable", "enable"]
    assert inputs["SamplerCustomWithNAG"]["add_noise"][1]["default"] is True
    for name in ("KSamplerWithNAG", "KSamplerWithNAG (Advanced)"):
        assert inputs[name]["sampler_name"][1]["options"] == comfy.samplers.KSampler.SAMPLERS
        assert inputs[name]["scheduler"][1]["options"] == comfy.samplers.KSampler.SCHEDULERS


@every_node
def test_deprecated(nodes, name):
    schema = legacy(nodes, name).GET_SCHEMA()
    assert schema.node_id == name and schema.is_deprecated


def test_outputs(nodes):
    outputs = {name: [o.display_name for o in legacy(nodes, name).GET_SCHEMA().outputs] for name in CLASSES}
    assert outputs["SamplerCustomWithNAG"] == ["output", "denoised_output"]
    assert {len(outputs[name]) for name in CLASSES if name != "SamplerCustomWithNAG"} == {1}


def run_of(family, cfg=1.0):
    return Run(family, cfg=cfg, steps=STEPS)


def latent(family, masked=False):
    """An image to start from, half of it masked or not."""
    samples = torch.randn((1, *family.latent), generator=torch.Generator().manual_seed(3))
    mask = torch.zeros(1, 1, *family.latent[-2:])
    mask[..., : family.latent[-1] // 2] = 1
    return {"samples": samples, "noise_mask": mask} if masked else {"samples": samples}


def sampling(name, run, patcher, masked=False, **changes):
    """The inputs of ComfyUI's own node that the legacy node `name` stands on, but for the model."""
    common = {
        "cfg": run.cfg, "positive": run.positive, "negative": run.negative, "latent_image": latent(run.family, masked)
    }
    by_widgets = {"steps": STEPS, "sampler_name": "euler", "scheduler": "simple"}
    own = {
        "KSamplerWithNAG": {"seed": run.seed, **by_widgets, "denoise": 1.0},
        "KSamplerWithNAG (Advanced)": {
            "noise_seed": run.seed, **by_widgets, "add_noise": "enable", "start_at_step": 0, "end_at_step": 10000,
            "return_with_leftover_noise": "disable",
        },
        "SamplerCustomWithNAG": {
            "noise_seed": run.seed, "add_noise": True, "sampler": comfy.samplers.sampler_object("euler"),
            "sigmas": run.sigmas(patcher),
        },
    }[name]  # fmt: skip
    return {**common, **own, **changes}


def negative_of_nag(family):
    return family.conditioning(11, 5)


CASES = {
    "KSamplerWithNAG": [{}, {"cfg": 3.0}, {"denoise": 0.5}, {"masked": True}, {"seed": 8}],
    "KSamplerWithNAG (Advanced)": [
        {},
        {"cfg": 3.0},
        {"masked": True},
        {"add_noise": "disable"},
        {"start_at_step": 1},
        {"end_at_step": 2},
        {"end_at_step": 2, "return_with_leftover_noise": "enable"},
        {"noise_seed": 8},
    ],
    "SamplerCustomWithNAG": [{}, {"cfg": 3.0}, {"masked": True}, {"add_noise": False}, {"noise_seed": 8}],
}


@pytest.mark.parametrize("family", [SDXL, FLUX], ids=str)
@pytest.mark.parametrize(("name", "changes"), [(name, changes) for name in CASES for changes in CASES[name]], ids=str)
def test_same_as_the_stock_sampler_behind_nag_model(nodes, family, name, changes):
    """Bit for bit, in each of its outputs, and different from what the sampler does without the changes or NAG."""
    changes = dict(changes)
    run, patcher, negative = run_of(family, changes.pop("cfg", 1.0)), family.patcher(), negative_of_nag(family)
    inputs = sampling(name, run, patcher, **changes)
    found = legacy(nodes, name).execute(patcher, nag_negative=negative, **NAG, **inputs).result

    guided = out(nodes.NAGModel, patcher, nag_negative=negative, **STRENGTH)
    expected = stock(CLASSES[name][1], model=guided, **inputs)
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        assert torch.equal(ours["samples"], theirs["samples"])

    assert not torch.equal(found[0]["samples"], stock(CLASSES[name][1], model=patcher, **inputs)[0]["samples"])
    if changes:
        unchanged = stock(CLASSES[name][1], model=guided, **sampling(name, run_of(family), patcher))
        assert not torch.equal(found[0]["samples"], unchanged[0]["samples"])


@every_node
def test_sigma_end_and_options_are_the_guiders(nodes, name):
    """NAG Model has no nag_sigma_end: the guider's result is the one to agree with."""
    run, patcher, negative = run_of(FLUX, 3.0), FLUX.patcher(), negative_of_nag(FLUX)
    until = run.sigmas(patcher)[1].item()
    more = {**NAG, "nag_sigma_end": until, "options": out(nodes.NAGOptions, 0.0, 1.0, "separate")}
    inputs = sampling(name, run, patcher, latent_image={"samples": run.latent()})
    found = legacy(nodes, name).execute(patcher, nag_negative=negative, **more, **inputs).result[0]["samples"]
    guider = out(nodes.NAGCFGGuider, patcher, run.positive, run.negative, negative, run.cfg, **more)
    assert torch.equal(found, custom_sample(run, patcher, guider))
    for name_of_input in ("nag_sigma_end", "options"):
        other = {**more, name_of_input: {**NAG, "options": None}[name_of_input]}
        without = legacy(nodes, name).execute(patcher, nag_negative=negative, **other, **inputs)
        assert not torch.equal(found, without.result[0]["samples"])


@every_node
@pytest.mark.parametrize("culprit", ["positive", "nag_negative"])
def test_an_empty_prompt(nodes, name, culprit):
    run, patcher = run_of(SDXL), SDXL.patcher()
    inputs = {**sampling(name, run, patcher), **NAG, "nag_negative": run.negative, culprit: []}
    words = {"positive": "positive is empty", "nag_negative": "The NAG negative is empty"}[culprit]
    with pytest.raises(ValueError, match=words):
        legacy(nodes, name).execute(patcher, **inputs)


@every_node
def test_a_negative_for_another_model(nodes, name):
    run, patcher = run_of(SDXL), SDXL.patcher()
    wrong = [[torch.randn(1, 4, 768), {"pooled_output": torch.randn(1, 768)}]]
    with pytest.raises(ValueError, match="768 wide"):
        legacy(nodes, name).execute(patcher, nag_negative=wrong, **NAG, **sampling(name, run, patcher))
