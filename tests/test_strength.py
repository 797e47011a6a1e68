"""The one dial: what it makes of the numbers, for every family, and that it is these numbers."""
import importlib

import pytest
import torch

from families import BY_NAME
from runs import Run
from subject import out

FLUX = BY_NAME["flux_dev"]
# strength: nag_scale and nag_alpha of 5 and 0.25, and of 3 and 0.8
TURNED = {
    0: ((5, 0), (3, 0)), 0.25: ((5, 0.0625), (3, 0.2)), 0.5: ((5, 0.125), (3, 0.4)), 1: ((5, 0.25), (3, 0.8)),
    1.25: ((5, 0.375), (3, 1)), 1.5: ((5, 0.5), (3, 1)), 1.75: ((7, 0.5), (4, 1)), 2: ((9, 0.5), (5, 1)),
}  # fmt: skip
STRENGTHS = [step / 20 for step in range(41)]  # as its widget steps


@pytest.fixture(name="settings", scope="module")
def settings_fixture(pack):
    return importlib.import_module(f"{pack.__name__}.patches.settings")


@pytest.mark.parametrize("strength", TURNED)
def test_the_numbers(settings, strength):
    for (scale, alpha), expected in zip([(5.0, 0.25), (3.0, 0.8)], TURNED[strength]):
        assert settings.at_strength(strength, scale, alpha) == pytest.approx(expected, abs=1e-12)


def test_one_changes_nothing(settings):
    numbers = {"nag_scale": 1.1, "nag_tau": 2.3, "nag_alpha": 0.1}
    given = settings.Settings(**numbers)
    assert given.completed(None) == given


@pytest.mark.parametrize("equation", ["nag", "vsf"])
def test_every_familys_numbers_stay_in_range_and_grow(pack, settings, equation):
    families = importlib.import_module(f"{pack.__name__}.editor.families").all_families()
    given = {"nag_sigma_end": None, "options": settings.Options(equation=equation)}
    for recommended in families.values():
        found = [settings.Settings(**given, strength=s).completed(recommended) for s in STRENGTHS]  # checks
        kept = (recommended.nag_tau, recommended.nag_sigma_end)
        assert {(each.nag_tau, each.nag_sigma_end) for each in found} == {kept}
        effect = [(each.nag_alpha, each.nag_scale) for each in found]
        assert effect == sorted(set(effect)), recommended


@pytest.mark.parametrize("equation", ["vsf", "nasa"])
@pytest.mark.parametrize(("name", "scale"), [("flux_dev", 1.25), ("sdxl", 2.0)])
def test_auto_knows_the_equation(nodes, inference_mode, equation, name, scale):
    run, patcher = Run(BY_NAME[name], steps=1), BY_NAME[name].patcher()
    options = out(nodes.NAGOptions, equation=equation)
    sample = lambda **numbers: run.sample(out(nodes.NAGModel, patcher, options=options, **numbers))
    assert torch.equal(sample(), sample(nag_scale=scale))
    assert not torch.equal(sample(), sample(nag_scale=scale + 0.25))


def test_what_is_not_known_stays_so(settings):
    given = settings.Settings(nag_scale=3.0, strength=2.0).completed(None)
    assert (given.nag_scale, given.nag_alpha, given.nag_tau) == (5.0, None, None)
    assert settings.at_strength(2.0, 0.5, None) == (0.0, None) and settings.at_strength(2.0, 90.0, 1.0) == (100.0, 1.0)


@pytest.mark.parametrize(("strength", "scale", "alpha"), [(0.5, 5, 0.125), (1.25, 5, 0.375), (2, 9, 0.5)])
@pytest.mark.parametrize("by_conditioning", [False, True], ids=["model", "conditioning"])
def test_it_is_these_numbers(nodes, inference_mode, strength, scale, alpha, by_conditioning):
    """Also with what the model brings itself, which is known only in the run."""
    run, patcher = Run(FLUX), FLUX.patcher()
    if by_conditioning:
        prompts = (run.positive, run.negative)
        sample = lambda **numbers: run.sample(patcher, out(nodes.NAGConditioning, *prompts, **numbers))
    else:
        sample = lambda **numbers: run.sample(out(nodes.NAGModel, patcher, **numbers))
    assert FLUX.recommended == (5.0, 2.5, 0.25)
    found = sample(strength=strength)
    assert torch.equal(found, sample(nag_scale=scale, nag_alpha=alpha)) and not torch.equal(found, sample())
