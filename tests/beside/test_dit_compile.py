"""torch.compile of a transformer as other packs use it: block by block, in one graph, as a patch of the model."""
import pytest
from torch._dynamo.utils import counters

from compiling import AT_DOORS, DITS, WAYS
from dit_others import own_patcher
from mechanisms import BY_NAME
from runs import Run, assert_close
from subject import out

pytestmark = pytest.mark.usefixtures("nothing_compiled", "inference_mode")
CASES = [
    *[("flux_dev", "shared", way) for way in WAYS],
    *[(*dit, "blocks, few guards") for dit in DITS + AT_DOORS if dit != ("flux_dev", "shared")],
    *[(name, "shared", "whole, in one graph") for name in ("sd35_large", "z_image")],
]  # one of a kind in every way; the others where the fewest guards help


@pytest.mark.parametrize(("name", "stream", "way"), CASES)
def test_never_a_graph_of_something_else(nodes, name, stream, way):
    """The model sees ten text tokens each time, with and without NAG."""

    def guided(patcher, nag_scale=4.0):
        options = out(nodes.NAGOptions, 0.0, 1.0, stream)
        return out(nodes.NAGModel, patcher, nag_scale=nag_scale, nag_tau=1.5, nag_alpha=0.5, options=options)

    family = BY_NAME[name]
    patcher = own_patcher(family)
    ten, six, four = (Run(family, steps=2, positive_tokens=n, negative_tokens=10 - n) for n in (10, 6, 4))
    compiled = WAYS[way](patcher, name)
    for run, change in [
        (ten, lambda patcher: patcher),
        (six, guided),
        (six, lambda patcher: guided(patcher, nag_scale=7.0)),
        (four, guided),
        (ten, lambda patcher: patcher),
    ]:
        assert_close(run.sample(change(compiled)), run.sample(change(patcher)))
    assert_close(six.sample(WAYS[way](guided(patcher), name)), six.sample(guided(patcher)))
    assert counters["stats"]["unique_graphs"] > 0
