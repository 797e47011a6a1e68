"""What is no error and still not what people want is said when a run starts: in the log, and to the node."""
import re

import pytest
import torch

from families import BY_NAME
from runs import Run
from stock import stock
from subject import out

pytestmark = pytest.mark.usefixtures("inference_mode")
FAMILIES = [BY_NAME["sdxl"], BY_NAME["flux_schnell"]]
every_family = pytest.mark.parametrize("family", FAMILIES, ids=str)


@pytest.fixture
def asking(patches):
    """Requests with settings of these numbers; each keeps what it is told."""

    def request(negative=None, nag_scale=None, blank=False):
        settings = patches("settings").Settings(nag_scale=nag_scale)
        told = []

        def advise(sentences, idle):
            assert idle == bool(sentences)  # each of these says that NAG does nothing of use
            told.append(sentences)

        made = patches("sampling.request").Request(settings, negative, advise=advise, has_blank_negative=lambda: blank)
        return made, told

    return request


@pytest.fixture
def guide(patches):
    return patches("sampling.entry").guide_model, patches("sampling.entry").guide_conditioning


def said_by(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def zeroed(conditioning):
    return stock("ConditioningZeroOut", conditioning=conditioning)[0]


CASES = {
    "a prompt": ({}, lambda run: run.negative, None),
    "zeroed": ({}, lambda run: zeroed(run.negative), "zeroed"),
    "one of two is a prompt": ({}, lambda run: zeroed(run.positive) + run.negative, None),
    "an empty text": ({"blank": True}, lambda run: run.negative, "text of the NAG negative is empty"),
    "the positive": ({}, lambda run: run.positive, "same as the positive"),
    "towards": ({"nag_scale": 0.5}, lambda run: run.negative, "nag_scale is 0.5. Below 1 .* towards .* 1 is off"),
    "KJNodes' off": ({"nag_scale": 0.0}, lambda run: run.negative, "nag_scale is 0. Below 1 .* towards"),
}


@every_family
@pytest.mark.parametrize(("how", "negative", "said"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("way", ["the sampler's", "its own", "on the conditioning"])
def test_said_at_the_start_of_a_run(asking, guide, caplog, family, how, negative, said, way):
    run, patcher = Run(family, steps=1), family.patcher()
    on_model, on_conditioning = guide
    negative = negative(run)
    request, told = asking(None if way == "the sampler's" else negative, **how)
    if way == "on the conditioning":
        run.sample(patcher, on_conditioning(run.positive, request))
    else:
        run.sample(on_model(patcher, request), negative=negative if way == "the sampler's" else None)
    assert len(told) == 1  # of nothing, too: it takes back what was said of an earlier run
    found = told[0] + [message for message in said_by(caplog) if message.startswith("NAG: ")]
    assert len(found) == (0 if said is None else 2)
    for message in found:
        assert re.search(said, message)


@every_family
def test_the_models_nag_beside_that_of_every_positive(asking, guide, caplog, family):
    run, patcher = Run(family, steps=1), family.patcher()
    on_model, on_conditioning = guide
    (of_model, told_model), (of_positive, told_positive) = asking(), asking(run.negative)
    guided = on_conditioning(run.positive, of_positive)
    result = run.sample(on_model(patcher, of_model), guided)
    assert torch.equal(result, run.sample(patcher, guided))
    assert told_positive == [[], []]
    (message,), = told_model
    assert "model's NAG is not used" in message and message in " ".join(said_by(caplog))


@every_family
def test_the_models_nag_for_one_of_two_positives(asking, guide, family):
    run, patcher = Run(family, steps=1), family.patcher()
    on_model, on_conditioning = guide
    (of_model, told_model), (of_positive, told_positive) = asking(), asking(run.negative)
    both = on_conditioning(run.positive, of_positive) + family.conditioning(3, 5)
    run.sample(on_model(patcher, of_model), both)
    assert told_positive == told_model == [[]]


@every_family
@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("model_too", [False, True], ids=["alone", "beside NAG Model"])
def test_nag_conditioning_in_the_samplers_negative(nodes, family, cfg, model_too):
    run, patcher = Run(family, cfg=cfg), family.patcher()
    plain = run.sample(patcher)
    model = out(nodes.NAGModel, patcher, nag_negative=family.conditioning(5, 3)) if model_too else patcher
    with pytest.raises(ValueError, match="NAG Conditioning goes into a sampler's negative.*positive"):
        run.sample(model, negative=out(nodes.NAGConditioning, run.positive, run.negative))
    assert torch.equal(run.sample(patcher), plain)


@every_family
def test_a_negative_that_is_made_of_the_guided_positive(nodes, family):
    """As in ComfyUI's own graphs for Flux: its NAG was never meant."""
    run, patcher = Run(family, cfg=3.0), family.patcher()
    guided = out(nodes.NAGConditioning, run.positive, run.negative)
    result = run.sample(patcher, guided, zeroed(guided))
    assert torch.equal(result, run.sample(patcher, guided, zeroed(run.positive)))


@pytest.mark.parametrize("beside", [True, False], ids=["theirs", "ours"])
def test_whose_error_it_is(pack, patches, beside):
    """That of a pack whose folder is called as ours, with more behind it, is not ours."""
    told, module = [], f"{pack.__name__}{'-extended' * beside}.nodes"
    request = patches("sampling.request").Request(patches("settings").Settings(), fail=told.append)
    with pytest.raises(ValueError, match="wrong"), patches("sampling.notices").telling([request]):
        exec("raise ValueError('wrong')", {"__name__": module})
    assert told == ([] if beside else ["wrong"])
