"""The strength over the steps of a run: linear, cosine, a list."""
import math

import comfy.samplers
import nodes as comfy_nodes
import pytest
import torch
from torch._dynamo.utils import counters

from compiling import compiled
from families import BY_NAME, FAMILIES
from mechanisms import BY_NAME as BY_MECHANISM
from oracle.equation import Nag
from oracle.sampling import guided_by
from runs import Run, assert_close, custom_sample, difference
from stock import stock
from subject import conditioning_node, model_node, options, out

pytestmark = pytest.mark.usefixtures("inference_mode")
SDXL, FLUX, WAN, QWEN = (BY_MECHANISM[name] for name in ("sdxl", "flux_dev", "wan21_i2v", "qwen_image"))
ONE_OF_A_KIND = [SDXL, BY_NAME["sd35_large"], FLUX, WAN, QWEN, BY_MECHANISM["pixart_sigma"]]
INFINITE = (0.0, math.inf)
SIGMAS = [10.0, 6.0, 3.0, 1.0, 0.0]
COSINE = [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]


def chosen(settings, schedule, strengths=()):
    return settings.Options(schedule=schedule, strengths=strengths)


# ---------------------------------------------------------------- the factors


@pytest.mark.parametrize(
    ("schedule", "strengths", "limits", "expected"),
    [
        ("constant", (), INFINITE, [1, 1, 1, 1]),
        ("linear", (), INFINITE, [1, 0.75, 0.5, 0.25]),
        ("cosine", (), INFINITE, COSINE),
        ("linear", (), (2.0, math.inf), [1, 2 / 3, 1 / 3, 0]),
        ("linear", (), (1.0, 6.0), [0, 1, 2 / 3, 1 / 3]),
        ("linear", (), (2.9, 3.1), [0, 0, 1, 0]),
        ("linear", (), (4.0, 5.0), [0, 0, 0, 0]),
        ("list", (1.5, 0.5), INFINITE, [1.5, 0.5, 0.5, 0.5]),
        ("list", (0.0, 2.0, 1.0, 0.3, 0.7), INFINITE, [0, 2, 1, 0.3]),
        ("list", (1.0, 0.9, 0.8), (0.0, 6.0), [0, 0.9, 0.8, 0.8]),
    ],
)
def test_at_each_step(patches, schedule, strengths, limits, expected):
    given = chosen(patches("settings"), schedule, strengths)
    assert patches("sampling.schedule").factors(given, SIGMAS, *limits) == pytest.approx(expected)
    as_tensor = torch.tensor(SIGMAS, dtype=torch.float64)
    assert patches("sampling.schedule").factors(given, as_tensor, *limits) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("sigmas", "expected"),
    [
        ([10.0, 5.0, 1.0, 5.0, 1.0, 0.0], [1, 2 / 3, 1 / 3, 2 / 3, 1 / 3]),  # it starts again in the middle
        ([0.0, 1.0, 5.0, 10.0], [1, 2 / 3, 1 / 3]),  # it goes from a picture to its noise
        ([10.0, 0.0], [1]),
        ([10.0], []),
        ([], []),
    ],
)
def test_of_other_sigmas(patches, sigmas, expected):
    given = chosen(patches("settings"), "linear")
    assert patches("sampling.schedule").factors(given, sigmas, *INFINITE) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("sigma", "expected"),
    [(10, 1), (8, 0.875), (6, 0.75), (1, 0.25), (0.5, 0.125), (0, 0), (12, 1)],
)
def test_between_two_steps(patches, sigma, expected):
    """In a line; in front of the first step it is that of the first."""
    given = chosen(patches("settings"), "linear")
    schedule = patches("sampling.schedule").schedule_of(given, torch.tensor(SIGMAS), *INFINITE)
    assert schedule.at(float(sigma)) == pytest.approx(expected)


def test_constant_is_none(patches):
    """So that nothing is asked of it, sigma least of all."""
    given = chosen(patches("settings"), "constant")
    assert patches("sampling.schedule").schedule_of(given, torch.tensor(SIGMAS), *INFINITE) is None
    settings, guidance = patches("settings").Settings(4.0, 2.5, 0.5), patches("sampling.guidance").Guidance
    assert guidance(settings, (), *INFINITE).always()
    linear = patches("sampling.schedule").schedule_of(
        chosen(patches("settings"), "linear"), torch.tensor(SIGMAS), *INFINITE
    )
    assert not guidance(settings, (), *INFINITE, schedule=linear).always()


# ---------------------------------------------------------------- what it does


def in_a_line(sigmas, factors):
    """The factor at a sigma, by those at some, which fall."""

    def at(sigma):
        for (high, first), (low, last) in zip(zip(sigmas, factors), zip(sigmas[1:], factors[1:])):
            if low <= sigma <= high:
                return last + (first - last) * (sigma - low) / (high - low)
        return factors[0]

    return at


def over(run, patcher, nag, factors, sampler="euler"):
    """The oracle's Nag with these factors, 0 to 1.5, at the steps of the run and behind the last."""
    device = torch.device("cpu")
    sigmas = comfy.samplers.KSampler(patcher, run.steps, device, sampler, "simple", 1.0).sigmas.tolist()
    at = in_a_line(sigmas, factors)
    # Up to 1 the strength multiplies alpha, from 1 to 1.5 alpha grows to twice.
    turned = lambda strength: nag.alpha * (strength if strength <= 1 else 2 * strength - 1)
    return Nag(**{**vars(nag), "over": lambda sigma: turned(at(sigma))})


KINDS = {
    "linear": ({"schedule": "linear"}, [1, 0.75, 0.5, 0.25, 0]),
    "cosine": ({"schedule": "cosine"}, [*COSINE, 0]),
    "list": ({"schedule": "list", "strengths": "0.4; 1,25; 0; 1"}, [0.4, 1.25, 0, 1, 1]),
}
every_kind = pytest.mark.parametrize(("widgets", "factors"), KINDS.values(), ids=KINDS)


@pytest.mark.parametrize("family", ONE_OF_A_KIND, ids=str)
@pytest.mark.parametrize("by_conditioning", [False, True], ids=["model", "conditioning"])
@every_kind
def test_against_the_oracle(nodes, family, widgets, factors, by_conditioning):
    run, patcher = Run(family, steps=4, cfg=3.0 if by_conditioning else 1.0), family.patcher()
    nag = Nag(family.conditioning(11, 5), alpha=0.3)
    given = {"options": options(nodes, nag, **widgets)}
    if by_conditioning:
        result = run.sample(patcher, conditioning_node(nodes, run.positive, nag, **given))
    else:
        result = run.sample(model_node(nodes, patcher, nag, nag_negative=nag.negative, **given))
    expected = run.oracle(patcher, guided_by(run.positive, over(run, patcher, nag, factors)))
    assert difference(expected, run.oracle(patcher, guided_by(run.positive, nag))) > 1e-4
    assert_close(result, expected)


@pytest.mark.parametrize("sampler", ["heun", "dpm_2", "dpm_2_ancestral", "dpmpp_2s_ancestral", "euler_ancestral"])
@pytest.mark.parametrize("family", [SDXL, FLUX], ids=str)
def test_samplers_that_call_between_steps(nodes, sampler, family):
    run, patcher = Run(family, steps=4), family.patcher()
    nag = Nag(run.negative, alpha=0.3)
    model = model_node(nodes, patcher, nag, options=options(nodes, nag, schedule="linear"))
    exact = guided_by(run.positive, over(run, patcher, nag, [1, 0.75, 0.5, 0.25, 0], sampler))
    assert_close(run.sample_by(model, sampler), run.sample_by(run.exact(patcher), sampler, exact))


@pytest.mark.parametrize("node", ["NAGGuider", "NAGCFGGuider", "NAGSampler"])
def test_every_node(nodes, node):
    """As NAG Model has it."""
    run, patcher = Run(SDXL, steps=4, cfg=1.0), SDXL.patcher()
    nag = Nag(run.negative)
    given = {"options": options(nodes, nag, schedule="cosine"), "nag_scale": nag.scale, "nag_tau": nag.tau,
             "nag_alpha": nag.alpha}  # fmt: skip
    expected = run.sample(out(nodes.NAGModel, patcher, nag.negative, **given))
    if node == "NAGSampler":
        found = out(nodes.NAGSampler, patcher, run.seed, run.steps, run.cfg, "euler", "simple", run.positive,
                    run.negative, {"samples": run.latent()}, 1.0, **given)["samples"]  # fmt: skip
    else:
        inputs = (run.positive, nag.negative) if node == "NAGGuider" else (run.positive, *2 * (run.negative,), 1.0)
        found = custom_sample(run, patcher, out(getattr(nodes, node), patcher, *inputs, **given))
    assert_close(found, expected)


def test_between_start_and_end(nodes):
    """Its first step is the first at which NAG acts, its last the last."""
    run, patcher = Run(FLUX, steps=6), FLUX.patcher()
    sigmas = run.sigmas(patcher).tolist()
    to_sigma = patcher.get_model_object("model_sampling").percent_to_sigma
    start = next(p / 1000 for p in range(1001) if to_sigma(p / 1000) < (sigmas[0] + sigmas[1]) / 2)
    end = next(p / 1000 for p in range(1001) if to_sigma(p / 1000) < (sigmas[3] + sigmas[4]) / 2)
    nag = Nag(run.negative, start_percent=start, end_percent=end)
    result = run.sample(model_node(nodes, patcher, nag, options=options(nodes, nag, schedule="linear")))
    exact = over(run, patcher, nag, [0, 1, 2 / 3, 1 / 3, 0, 0, 0])
    assert_close(result, run.oracle(patcher, guided_by(run.positive, exact)))


def test_two_samplers_in_a_row(nodes):
    """Each has a schedule over its own steps."""
    run, patcher = Run(SDXL, steps=4), SDXL.patcher()
    nag = Nag(run.negative)
    model = model_node(nodes, patcher, nag, options=options(nodes, nag, schedule="linear"))
    sigmas = run.sigmas(patcher)

    def sampled(model, positive, start, end, latent):
        first = start == 0
        (denoised,) = comfy_nodes.common_ksampler(
            model, run.seed, 4, 1.0, "euler", "simple", positive, run.negative, latent, disable_noise=not first,
            start_step=start, last_step=end, force_full_denoise=not first,
        )  # fmt: skip
        return denoised

    def both(sample):
        halfway = sample(0, 2, {"samples": run.latent()})
        return sample(2, 4, halfway)["samples"]

    def exactly(start, end, latent):
        at = in_a_line(sigmas.tolist()[start : end + 1], [1, 0.5, 0])
        exact = Nag(**{**vars(nag), "over": lambda sigma: nag.alpha * at(sigma)})
        return sampled(run.exact(patcher), guided_by(run.positive, exact), start, end, latent)

    assert_close(both(lambda *run_of: sampled(model, run.positive, *run_of)), both(exactly))


def test_where_it_is_zero_nothing_runs(nodes, patches):
    """As out of NAG's range: no token of the negative's is there, and the statistics say so."""
    reports, numbers = [], patches("settings")
    given = numbers.Options(statistics=True, schedule="list", strengths=(1.0, 0.0, 0.5))
    run, patcher = Run(QWEN), QWEN.patcher()
    request = patches("sampling.request").Request(
        numbers.Settings(4.0, 2.5, 0.5, options=given), run.negative, reports.append
    )
    lengths = []

    def note(func, q, k, v, heads, *args, **kwargs):
        lengths[-1].append(k.shape[2])
        return func(q, k, v, heads, *args, **kwargs)

    def start(executor, *args, **kwargs):
        lengths.append([])
        return executor(*args, **kwargs)

    model = patches("sampling.entry").guide_model(patcher, request)
    model.model_options["transformer_options"]["optimized_attention_override"] = note
    model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.PREDICT_NOISE, "start", start)
    run.sample(model)
    assert [step.on for step in reports] == [True, False, True]
    assert reports[2].moved < reports[0].moved
    blocks = len(patcher.model.diffusion_model.transformer_blocks)
    assert len(lengths[1]) == blocks and len(lengths[0]) > blocks and len(lengths[2]) > blocks


def test_the_dial_and_the_schedule_are_factors(nodes):
    """Up to the most, 2."""
    run, patcher = Run(SDXL, steps=2), SDXL.patcher()
    sample = lambda **given: run.sample(out(nodes.NAGModel, patcher, nag_alpha=0.2, **given))
    strengths = lambda text: {"options": out(nodes.NAGOptions, schedule="list", strengths=text)}
    assert torch.equal(sample(strength=0.5, **strengths("1.5")), sample(strength=0.75))
    assert torch.equal(sample(strength=1.5, **strengths("2, 2")), sample(strength=2.0))
    assert torch.equal(sample(**strengths("1, 1")), sample())


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_constant_is_as_ever(nodes, family):
    run, patcher = Run(family, steps=2), family.patcher()
    ever = run.sample(out(nodes.NAGModel, patcher))
    given = out(nodes.NAGOptions, end_percent="auto", schedule="constant", strengths="0, 0", blocks="all")
    assert torch.equal(run.sample(out(nodes.NAGModel, patcher, options=given)), ever)


def test_nothing_but_zeros(nodes, patches):
    """It is off, and is said to be."""
    run, patcher, told = Run(SDXL), SDXL.patcher(), []
    settings = patches("settings")
    given = settings.Settings(options=chosen(settings, "list", (0.0, 0.0)))
    request = patches("sampling.request").Request(given, advise=lambda *said: told.append(said))
    model = patches("sampling.entry").guide_model(patcher, request)
    assert torch.equal(run.sample(model), run.sample(patcher))
    assert told == [([patches("sampling.notices").ALL_ZERO], True)]


@pytest.mark.parametrize("family", [SDXL, FLUX], ids=str)
def test_hook_keyframes_and_ranges_of_conditionings(nodes, family):
    """A positive that holds for a part of the steps has that part of the schedule."""
    run, patcher = Run(family, steps=4), family.patcher()
    nag = Nag(run.negative)
    early = stock("ConditioningSetTimestepRange", conditioning=run.positive, start=0.0, end=0.5)[0]
    late = stock("ConditioningSetTimestepRange", conditioning=run.positive, start=0.5, end=1.0)[0]
    given = {"options": options(nodes, nag, schedule="linear")}
    result = run.sample(patcher, conditioning_node(nodes, early, nag, **given) + late)
    exact = guided_by(early, over(run, patcher, nag, [1, 0.75, 0.5, 0.25, 0]))
    assert_close(result, run.oracle(patcher, exact + late))


# ---------------------------------------------------------------- torch.compile


@pytest.mark.usefixtures("nothing_compiled")
@pytest.mark.parametrize("family", [SDXL, FLUX, QWEN, WAN], ids=str)
def test_compiled(nodes, family):
    """No graph more than with a strength that stays."""
    run, patcher, nag = Run(family, steps=4), family.patcher(), Nag(None, alpha=0.3)
    constant = model_node(nodes, patcher, nag)
    assert_close(run.sample(compiled(constant)), run.sample(constant))
    seen = counters["stats"]["unique_graphs"]
    for schedule in ("linear", "cosine"):
        model = model_node(nodes, patcher, nag, options=options(nodes, nag, schedule=schedule))
        assert_close(run.sample(compiled(model)), run.sample(model))
    assert counters["stats"]["unique_graphs"] == seen
