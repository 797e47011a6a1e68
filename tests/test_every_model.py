"""No model of this ComfyUI is forgotten: each is guided, or refused in a sentence that says what it lacks."""
import comfyui_version
import pytest

from mechanisms import is_here
from tested import ROWS, TESTED_BY

OLDEST = "0.3.62"  # of the releases that the pack supports


def test_every_family_is_tested(patches):
    families = {name for adapter in patches("models").adapters() for name in adapter.families}
    assert families == TESTED_BY.keys()
    assert set().union(*TESTED_BY.values()) == ROWS.keys()


@pytest.mark.parametrize("name", ROWS)
def test_the_tiny_model_is_of_its_family(patches, name):
    model = ROWS[name].patcher().model  # skips what this ComfyUI has not
    assert name in TESTED_BY[patches("models").find_adapter(model).family(model)]


@pytest.mark.parametrize("family", TESTED_BY)
def test_since_which_comfyui(patches, family):
    version = tuple(map(int, comfyui_version.__version__.split(".")))
    (adapter,) = (each for each in patches("models").adapters() if family in each.families)
    since = tuple(map(int, adapter.since.get(family, OLDEST).split(".")))
    assert any(is_here(ROWS[name]) for name in TESTED_BY[family]) == (version >= since)
