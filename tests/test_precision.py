"""Models in half precision."""
import pytest
import torch

from families import FAMILIES
from runs import Run, assert_close
from subject import nodes_fixture, out  # noqa: F401

pytestmark = pytest.mark.usefixtures("inference_mode")
TOLERANCE = {torch.float16: 0.02, torch.bfloat16: 0.1}


@pytest.mark.parametrize("family", FAMILIES, ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: str(dtype).split(".")[1])
def test_half_precision(nodes, family, dtype):
    run = Run(family, cfg=3.0)
    result = run.sample(out(nodes.NAGModel, family.patcher(dtype)))
    assert result.isfinite().all()
    assert_close(result, run.sample(out(nodes.NAGModel, family.patcher())), TOLERANCE[dtype])
