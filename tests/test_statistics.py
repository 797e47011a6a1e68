"""What NAG says that it did at each step, against the oracle's account of the same."""
import copy
import dataclasses

import comfy.samplers
import pytest
import torch
from comfy.patcher_extension import WrappersMP

from mechanisms import BY_NAME, MECHANISM_AND_STREAM
from oracle.equation import Nag
from oracle.equation import guide as exact_guide
from oracle.sampling import guided_by
from runs import Run

pytestmark = pytest.mark.usefixtures("inference_mode")

SCALE, TAU, ALPHA = Nag([]).scale, Nag([]).tau, Nag([]).alpha


@pytest.fixture
def statistics(patches):
    return patches("sampling.statistics")


@pytest.fixture
def guided(patches):
    """(model, its reports): a model with NAG that reports what it does."""

    def make(patcher, negative, reporting=True, **options):
        reports = []
        options = patches("settings").Options(statistics=reporting, **options)
        settings = patches("settings").Settings(SCALE, TAU, ALPHA, options=options)
        request = patches("sampling.request").Request(settings, negative, reports.append)
        return patches("sampling.entry").guide_model(patcher, request), reports

    return make


def exact_measure(z_pos, z_neg, nag):
    """A row for each token: r, whether it is clipped, and how far it moves."""
    extrapolated = z_pos + (nag.scale - 1) * (z_pos - z_neg)
    size = z_pos.abs().sum(-1)
    ratio = extrapolated.abs().sum(-1) / size
    moved = (exact_guide(z_pos, z_neg, nag) - z_pos).abs().sum(-1) / size
    return torch.stack([ratio, (ratio > nag.tau).double(), moved], -1).flatten(0, -2)


class Recorder:
    """Takes the place of the oracle's `guide`, and notes for each step what it guides."""

    def __init__(self):
        self.steps = []

    def step(self, executor, *args):
        """A PREDICT_NOISE wrapper."""
        self.steps.append([])
        return executor(*args)

    def guide(self, z_pos, z_neg, nag):
        self.steps[-1].append(exact_measure(z_pos, z_neg, nag))
        return exact_guide(z_pos, z_neg, nag)

    def means(self):
        return [torch.cat(step).mean(0).tolist() if step else None for step in self.steps]


@pytest.mark.parametrize("shape", [(2, 5, 12), (1, 3000, 640)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_measure(statistics, shape, dtype):
    z_pos, z_neg = (torch.randn(shape, generator=torch.Generator().manual_seed(i)).to(dtype) for i in (0, 1))
    expected = exact_measure(z_pos.double(), z_neg.double(), Nag([]))
    count, *sums = statistics.measure(z_pos, z_neg, SCALE, TAU, ALPHA).tolist()
    assert count == len(expected)
    assert sums == pytest.approx(expected.sum(0).tolist(), rel=1e-4)


def test_tokens_without_features_are_left_out(statistics):
    z_pos, z_neg = torch.randn(1, 4, 6), torch.randn(1, 4, 6)
    z_pos[:, 1:3] = 0
    expected = exact_measure(z_pos[:, ::3].double(), z_neg[:, ::3].double(), Nag([])).sum(0).tolist()
    assert statistics.measure(z_pos, z_neg, SCALE, TAU, ALPHA).tolist() == pytest.approx([2, *expected], rel=1e-4)


@pytest.mark.parametrize(("family", "stream"), MECHANISM_AND_STREAM, ids=str)
def test_a_run(family, stream, guided, monkeypatch):
    run, patcher = Run(family, batch=2, steps=4), family.patcher()
    model, reports = guided(patcher, run.negative, image_stream=stream, end_percent=0.6)
    run.sample(model)

    recorder, exact = Recorder(), run.exact(patcher)
    monkeypatch.setattr(family.oracle, "guide", recorder.guide)
    exact.add_wrapper(WrappersMP.PREDICT_NOISE, recorder.step)
    run.sample(exact, guided_by(run.positive, Nag(run.negative, end_percent=0.6, image_stream=stream)))

    expected = recorder.means()
    assert len(reports) == len(expected) == 4
    assert None in expected and expected[0] is not None, "the run has steps with NAG and without"
    sigmas = run.sigmas(patcher)
    for i, (step, means) in enumerate(zip(reports, expected)):
        assert (step.step, step.steps, step.run, step.on) == (i, 4, reports[0].run, means is not None)
        assert step.sigma == pytest.approx(float(sigmas[i]))
        assert [step.ratio, step.clipped, step.moved] == (
            [None] * 3 if means is None else pytest.approx(means, rel=1e-3, abs=1e-6)
        )


@pytest.mark.parametrize(("family", "stream"), MECHANISM_AND_STREAM, ids=str)
def test_statistics_leave_the_result_as_it_is(family, stream, guided):
    run, patcher = Run(family, cfg=2.0), family.patcher()
    silent, nothing = guided(patcher, run.negative, reporting=False, image_stream=stream)
    reporting, reports = guided(patcher, run.negative, image_stream=stream)
    assert run.sample(silent).equal(run.sample(reporting))
    assert not nothing and len(reports) == run.steps


def test_each_conditioning_reports_its_own(patches):
    """Two regions with a negative each, of which the second starts late."""
    run = Run(BY_NAME["sdxl"], steps=4)
    settings, options = patches("settings").Settings, patches("settings").Options
    reports, positive = [], []
    for start in (0.0, 0.5):
        own = []
        request = patches("sampling.request").Request(
            settings(SCALE, TAU, ALPHA, options=options(start_percent=start, statistics=True)), run.negative, own.append
        )
        positive += patches("sampling.entry").guide_conditioning(run.positive, request)
        reports.append(own)
    run.sample(run.family.patcher(), positive)
    assert [step.on for step in reports[0]] == [True] * 4
    assert [step.on for step in reports[1]] == [False] * 2 + [True] * 2
    assert reports[0][0].run != reports[1][0].run


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_2m_sde", "uni_pc", "ddim", "dpm_2_ancestral"])
def test_every_step_of_other_samplers_is_reported(sampler, guided):
    run = Run(BY_NAME["sdxl"], steps=4)
    model, reports = guided(run.family.patcher(), run.negative)
    run.sample_by(model, sampler)
    assert [step.step for step in reports] == list(range(4))
    assert all(step.on and step.ratio > 0 for step in reports)


def test_a_node_that_copies_the_conditionings_before_each_call(guided):
    run = Run(BY_NAME["sdxl"], steps=4)
    model, reports = guided(run.family.patcher(), run.negative)
    expected = run.sample(model)
    names = ("model", "conds", "input", "sigma", "model_options")
    calculate = lambda args: comfy.samplers.calc_cond_batch(*(copy.deepcopy(args["conds"]) if name == "conds" else
                                                              args[name] for name in names))
    model.set_model_sampler_calc_cond_batch_function(calculate)
    assert run.sample(model).equal(expected)
    assert [dataclasses.replace(step, run="") for step in reports[4:]] == [
        dataclasses.replace(step, run="") for step in reports[:4]
    ]


def test_the_samplers_own_callback_is_called(guided):
    run, called = Run(BY_NAME["sdxl"]), []
    model, reports = guided(run.family.patcher(), run.negative)
    comfy.samplers.sample(
        model, torch.zeros(1, *run.family.latent), run.positive, run.negative, 1.0, torch.device("cpu"),
        comfy.samplers.sampler_object("euler"), run.sigmas(model), latent_image=run.latent(),
        callback=lambda step, *_: called.append((step, len(reports))),
    )  # fmt: skip
    assert called == [(0, 1), (1, 2), (2, 3)]


def test_nothing_is_read_in_the_step(statistics):
    """Reading a value of the meta device raises, as it makes the host wait for any other device."""
    meta, reports = torch.device("meta"), []
    gathered = statistics.Statistics([2.0, 1.0, 0.0], meta, reports.append)
    features = torch.zeros(1, 5, 12, device=meta)
    for step in range(2):
        gathered.add(features, features, SCALE, TAU, ALPHA)
        gathered.end_step(step)
    assert reports == []


def test_figures_that_are_no_numbers_are_left_out(statistics):
    """JSON has no word for them."""
    reports = []
    gathered = statistics.Statistics([1.0, 0.0], torch.device("cpu"), reports.append)
    broken = torch.ones(1, 3, 4)
    broken[0, 1] = torch.inf
    gathered.add(broken, torch.ones(1, 3, 4), SCALE, TAU, ALPHA)
    gathered.end_step(0)
    assert [(step.on, step.ratio, step.clipped, step.moved) for step in reports] == [(True, None, None, None)]


def test_a_failed_run_keeps_its_last_step(guided):
    run = Run(BY_NAME["sdxl"])
    model, reports = guided(run.family.patcher(), run.negative)

    def fail(step, *_):
        raise RuntimeError("cancelled")

    with pytest.raises(RuntimeError, match="cancelled"):
        comfy.samplers.sample(
            model, torch.zeros(1, *run.family.latent), run.positive, run.negative, 1.0, torch.device("cpu"),
            comfy.samplers.sampler_object("euler"), run.sigmas(model), latent_image=run.latent(), callback=fail,
        )  # fmt: skip
    assert [step.step for step in reports] == [0]
