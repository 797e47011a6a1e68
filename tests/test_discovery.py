"""Models with their declarations taken away: what is found of them by itself, against the model itself in lockstep."""
import pytest
import torch

from door_families import FAMILIES
from oracle.equation import Nag
from oracle.sampling import guided_by
from runs import Run, assert_close, difference
from subject import model_node

pytestmark = pytest.mark.usefixtures("inference_mode")


@pytest.fixture
def undeclared(patches, monkeypatch):
    """Nobody has declared any family."""
    monkeypatch.setattr(patches("models"), "REGISTRY", {})


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_found(nodes, undeclared, family):
    run, patcher = Run(family), family.patcher()
    nag = Nag(run.negative)
    expected = run.sample(family.lockstep(), guided_by(run.positive, nag))
    assert_close(run.sample(model_node(nodes, patcher, nag)), expected)
