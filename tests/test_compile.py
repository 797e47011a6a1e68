"""ComfyUI's TorchCompileModel and NAG: the same pictures, and no compiling once NAG has been seen on and off."""
import shutil

import pytest
from torch._dynamo.utils import counters

from compiling import compiled
from mechanisms import BY_NAME, MECHANISM_AND_STREAM
from runs import Run, assert_close
from subject import out

ONE_OF_A_KIND = [
    "sdxl", "sd35_large", "flux_dev", "wan21_i2v", "z_image", "cosmos_predict2", "pixart_sigma", "ernie_image",
]  # fmt: skip
BY_INDUCTOR = ["flux_dev", "pixart_sigma"]  # what it makes code of is nearly the same in the others
pytestmark = pytest.mark.usefixtures("nothing_compiled", "inference_mode")


@pytest.fixture
def guided(nodes):
    """A clone of a model with NAG, given its negative by the sampler."""

    def guided(patcher, image_stream="shared", start_percent=0.0, end_percent=1.0, nag_scale=4.0):
        options = out(nodes.NAGOptions, start_percent, end_percent, image_stream)
        return out(nodes.NAGModel, patcher, nag_scale=nag_scale, nag_tau=2.5, nag_alpha=0.3, options=options)

    return guided


def graphs():
    return counters["stats"]["unique_graphs"]


@pytest.mark.parametrize(("family", "stream"), MECHANISM_AND_STREAM, ids=str)
def test_same_result_and_no_recompilation(guided, family, stream):
    first, second = Run(family), Run(family, seed=8)
    other_negative = family.conditioning(5, first.negative_tokens)
    patcher = family.patcher()
    half_nag = guided(patcher, stream, end_percent=0.5)
    nag = guided(patcher, stream)

    assert_close(first.sample(compiled(patcher)), first.sample(patcher))
    assert_close(first.sample(compiled(half_nag)), first.sample(half_nag))  # on, then off
    seen = graphs()
    assert seen > 1

    assert_close(second.sample(compiled(patcher)), second.sample(patcher))
    assert_close(second.sample(compiled(nag)), second.sample(nag))
    with_other_negative = first.sample(nag, negative=other_negative)
    assert_close(first.sample(compiled(nag), negative=other_negative), with_other_negative)
    assert_close(second.sample(guided(compiled(patcher), stream)), second.sample(nag))
    assert_close(first.sample(compiled(half_nag)), first.sample(half_nag))
    assert graphs() == seen


@pytest.mark.parametrize("name", BY_INDUCTOR)
@pytest.mark.skipif(shutil.which("c++") is None, reason="inductor needs a C++ compiler")
def test_inductor(guided, name):
    run, nag = Run(BY_NAME[name], steps=2), guided(BY_NAME[name].patcher())
    assert_close(run.sample(compiled(nag, "inductor")), run.sample(nag), 1e-4)


@pytest.mark.parametrize("name", ONE_OF_A_KIND)
def test_never_a_graph_of_something_else(guided, name):
    """The model sees ten text tokens each time, with and without NAG."""
    family = BY_NAME[name]
    patcher = family.patcher()
    ten, six, four = (Run(family, positive_tokens=n, negative_tokens=max(10 - n, 1)) for n in (10, 6, 4))
    never = guided(patcher, start_percent=1.0)
    for run, model in [
        (ten, never),
        (six, guided(patcher)),
        *((six, guided(patcher, stream, nag_scale=7.0)) for stream in reversed(family.image_streams)),
        (four, guided(patcher)),
        (ten, patcher),
        (ten, never),
    ]:
        assert_close(run.sample(compiled(model)), run.sample(model))


@pytest.mark.parametrize("name", ["sdxl", "flux_dev", "wan21_i2v", "z_image", "pixart_sigma"])
def test_statistics_of_each_run(patches, name):
    """Each run has its own to count in, which a graph of an earlier one must not miss."""
    run, settings = Run(BY_NAME[name], steps=2), patches("settings")
    numbers = settings.Settings(4.0, 1.3, 0.6, options=settings.Options(statistics=True))

    def reported(change=lambda patcher: patcher):
        reports = []
        request = patches("sampling.request").Request(numbers, run.negative, reports.append)
        run.sample(change(patches("sampling.entry").guide_model(run.family.patcher(), request)))
        return [pytest.approx((step.ratio, step.clipped, step.moved), rel=1e-3) for step in reports]

    expected = reported()
    assert len(expected) == 2
    for _ in range(3):
        assert [approx.expected for approx in reported(compiled)] == expected
