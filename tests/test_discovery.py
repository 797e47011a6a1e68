"""Models with their declarations taken away: what is found of them by itself, against the model itself in lockstep."""
import pytest
import torch

import door_families
import families
from oracle.equation import Nag
from oracle.sampling import guided_by
from runs import Run, assert_close, difference
from subject import model_node

pytestmark = pytest.mark.usefixtures("inference_mode")

# Those that have code of their own, and what is said of them.
REFUSED = {
    "sd15": "is not that of a run of this text alone",
    "sd2": "is not that of a run of this text alone",
    "sdxl": "is not that of a run of this text alone",
    **dict.fromkeys(("mochi", "hunyuan_dit", "hunyuan_dit1"), "modulated by what it makes of the text itself"),
    **dict.fromkeys(("hidream", "hidream_e1", "hidream_without_experts"), "is not that of a run of this text alone"),
    "wan21_i2v": "lets the picture attend to just these, but to 71 tokens of text",  # and to those of an image
}
BY_NAME = families.BY_NAME | door_families.BY_NAME
FOUND = [family for family in BY_NAME.values() if family.name not in REFUSED]


def of_text(family):
    """What a conditioning of a family holds of its text's tokens."""
    told = getattr(family, "of_text", lambda n: {})(1)
    return {"attention_mask", *(name for name in told if "reference" not in name)}


@pytest.fixture
def undeclared(patches, monkeypatch):
    """Nobody has declared any family."""
    monkeypatch.setattr(patches("models"), "REGISTRY", {})
    monkeypatch.setattr(patches("models.discovery"), "_found", {})


@pytest.mark.parametrize("lengths", [(6, 4), (5, 17)], ids=str)
@pytest.mark.parametrize("family", FOUND, ids=str)
def test_found(nodes, undeclared, family, lengths):
    patcher = family.patcher()
    positive, negative = family.conditioning(1, lengths[0]), family.conditioning(2, lengths[1])
    same = {name: value for name, value in positive[0][1].items() if name not in of_text(family)}
    negative[0][1].update(same)
    run, nag = Run(family), Nag(negative)
    expected = run.sample(family.exact(patcher), guided_by(positive, nag))
    plain = run.sample(patcher, positive)
    assert difference(plain, expected) > 1e-3
    assert_close(run.sample(model_node(nodes, patcher, nag, nag_negative=negative), positive), expected)
    assert torch.equal(run.sample(patcher, positive), plain)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(nodes, undeclared, name):
    family = BY_NAME[name]
    run, patcher = Run(family), family.patcher()
    with pytest.raises(ValueError, match=REFUSED[name]):
        run.sample(model_node(nodes, patcher, Nag(run.negative)))
