"""An afternoon of other prompts, strengths and pictures under torch.compile: the same few graphs, one of them right."""
import dataclasses
import shutil

import pytest
import torch
from comfy_api.torch_helpers import set_torch_compile_wrapper
from torch._dynamo.utils import counters

from compiling import AT_DOORS, DITS, WAYS, blocks_of, compiled
from mechanisms import BY_NAME
from runs import Run, assert_close
from subject import out

pytestmark = pytest.mark.usefixtures("nothing_compiled", "inference_mode")
LENGTHS = [(2 + 7 * i % 20, 2 + 3 * i % 11) for i in range(20)]  # of positive and negative
STRENGTHS = [(1.5 + i, 1 + i / 7, 0.05 + i / 11) for i in range(10)]
FEW = 4  # graphs: of each kind of block one for the first prompt and one for all others
BY_BLOCKS = "blocks, few guards"


@pytest.fixture(autouse=True)
def no_giving_up():
    """An error where torch.compile would go on without compiling."""
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        yield


@pytest.fixture
def guided(nodes):
    def guided(patcher, stream, numbers=(4.0, 1.5, 0.5)):
        return out(nodes.NAGModel, patcher, None, *numbers, out(nodes.NAGOptions, 0.0, 1.0, stream))

    return guided


def assert_same(run, patcher, change, guided):
    """`change`: the ModelPatcher, compiled; `guided`: puts NAG on either."""
    assert_close(run.sample(guided(change)), run.sample(guided(patcher)))


CASES = [
    *((*case, "node") for case in [("sdxl", "shared"), *DITS]),
    *((*case, BY_BLOCKS) for case in DITS + AT_DOORS if case != ("flux_dev", "shared")),
    ("flux_dev", "shared", "blocks, in one graph"),  # the same, and no break in a graph
]


@pytest.mark.parametrize(("name", "stream", "way"), CASES)
def test_prompts_and_strengths(guided, name, stream, way):
    patcher = BY_NAME[name].patcher()
    change = compiled(patcher) if way == "node" else WAYS[way](patcher, name)
    for i, (n_positive, n_negative) in enumerate(LENGTHS):
        run = Run(BY_NAME[name], steps=2, positive_tokens=n_positive, negative_tokens=n_negative)
        assert_same(run, patcher, change, lambda model, i=i: guided(model, stream, STRENGTHS[i // 2]))
    assert counters["stats"]["unique_graphs"] <= FEW


@pytest.mark.parametrize(("name", "stream"), [dit for dit in DITS if dit != ("flux_dev", "shared")])
def test_pictures(guided, name, stream):
    """Of other sizes, and several at once. There is one graph more for the first batch."""
    family = BY_NAME[name]
    patcher = family.patcher()
    change = WAYS[BY_BLOCKS](patcher, name)
    for width, batch in [(4, 1), (6, 1), (8, 1), (10, 1), (4, 2), (4, 3), (6, 4), (8, 5)]:
        run = Run(dataclasses.replace(family, latent=(*family.latent[:-1], width)), steps=1, batch=batch)
        assert_same(run, patcher, change, lambda model: guided(model, stream))
    assert counters["stats"]["unique_graphs"] <= FEW * 3 // 2


@pytest.mark.parametrize("name", ["sd35_large", "wan21_t2v"])
def test_statistics_of_prompts(patches, name):
    """All blocks count, those of the same graph too."""
    settings, patcher = patches("settings"), BY_NAME[name].patcher()
    numbers = settings.Settings(4.0, 1.3, 0.6, options=settings.Options(statistics=True))
    change = WAYS[BY_BLOCKS](patcher, name)
    for n_positive, n_negative in LENGTHS[:4]:
        run = Run(BY_NAME[name], steps=2, positive_tokens=n_positive, negative_tokens=n_negative)
        found = []
        for model in (change, patcher):
            reports = []
            request = patches("sampling.request").Request(numbers, None, reports.append)
            run.sample(patches("sampling.entry").guide_model(model, request))
            found.append([value for step in reports for value in (step.ratio, step.clipped, step.moved)])
        assert len(found[0]) == 6
        assert found[0] == pytest.approx(found[1], rel=1e-3)
    assert counters["stats"]["unique_graphs"] <= FEW


@pytest.mark.skipif(shutil.which("c++") is None, reason="inductor needs a C++ compiler")
def test_inductor(guided):
    """Its code for sizes that change."""
    family, keys = BY_NAME["wan21_t2v"], blocks_of(BY_NAME["wan21_t2v"].patcher(), "wan21_t2v")
    patcher = family.patcher()
    change = patcher.clone()
    set_torch_compile_wrapper(change, backend="inductor", keys=keys)
    for n_positive, n_negative, scale in [(6, 4, 3.0), (9, 5, 4.0), (13, 7, 5.0)]:
        run = Run(family, steps=1, positive_tokens=n_positive, negative_tokens=n_negative)
        models = [guided(model, "shared", (scale, 1.5, 0.5)) for model in (change, patcher)]
        assert_close(*(run.sample(model) for model in models), 1e-4)
