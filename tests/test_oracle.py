"""The oracle itself: without NAG it is ComfyUI's model, and with NAG it says something else."""
import pytest

from families import FAMILIES, FAMILY_AND_STREAM
from oracle.equation import Nag
from oracle.sampling import guided_by
from runs import Run, assert_close, difference

pytestmark = pytest.mark.usefixtures("inference_mode")


@pytest.mark.parametrize("family", FAMILIES, ids=str)
@pytest.mark.parametrize("changes", [{}, {"cfg": 3.0, "batch": 3, "denoise": 0.6}], ids=["text-to-image", "cfg"])
def test_without_nag_the_oracle_is_the_model(family, changes):
    run, patcher = Run(family, **changes), family.patcher()
    assert_close(run.sample(patcher), run.oracle(patcher))


@pytest.mark.parametrize(("family", "stream"), FAMILY_AND_STREAM, ids=str)
def test_nag_moves_the_oracle(family, stream):
    run, patcher = Run(family), family.patcher()
    guided = run.oracle(patcher, guided_by(run.positive, Nag(run.negative, image_stream=stream)))
    assert difference(guided, run.oracle(patcher)) > 0.02


@pytest.mark.parametrize("family", [family for family in FAMILIES if len(family.image_streams) > 1], ids=str)
def test_image_streams_differ(family):
    run, patcher = Run(family), family.patcher()
    nags = [Nag(run.negative, image_stream=stream) for stream in family.image_streams]
    assert difference(*(run.oracle(patcher, guided_by(run.positive, nag)) for nag in nags)) > 0.001
