"""What NAG nodes give can be pickled, and is the same where it is unpickled; with Ray: test_ray.py."""
import copy
import dataclasses
import io
import pickle
import sys

import pytest
import torch
from host.inside import load_pack
from host.server import PACK

from stock import stock

NEUTRAL = {"collections", "comfy", "torch", "_codecs", "builtins"}  # packages that are everywhere
STRENGTH = {"nag_scale": 5.0, "nag_tau": 2.5, "nag_alpha": 0.5}


@pytest.fixture(scope="module")
def playground(nodes):
    """(model, the CONDITIONING of "a blue square", that of "white")."""
    model, clip, _ = nodes.NAGPlaygroundLoader.execute().result
    with torch.inference_mode():
        return model, *(clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in ("a blue square", "white"))


@pytest.fixture
def carriers(nodes, playground, monkeypatch):
    """{node: what it puts its NAG on}, with all that can be set, in a graph."""
    model, positive, negative = playground
    for node in (nodes.NAGConditioning, nodes.NAGModel, nodes.NAGGuider):
        monkeypatch.setattr(node, "hidden", nodes.model.io.HiddenHolder.from_dict({"UNIQUE_ID": "5"}), raising=False)
    options = nodes.NAGOptions.execute(statistics=True, schedule="list", strengths="1, 0.5", end_percent=0.7).result[0]
    given = {**STRENGTH, "options": options}
    return {
        "conditioning": nodes.NAGConditioning.execute(positive, negative, **given).result[0],
        "model": nodes.NAGModel.execute(model, negative, **given).result[0].wrappers,
        "guider": nodes.NAGGuider.execute(model, positive, negative, **given).result[0].model_patcher.wrappers,
    }


@pytest.fixture
def door(pack, patches, monkeypatch):
    """Where pickles find the copies of the pack; what a test changes of it is undone."""
    found = sys.modules[patches("travelling").NAME]
    monkeypatch.setattr(found, "copies", dict(found.copies))
    return found


@pytest.fixture
def other_copy(pack, door, tmp_path):
    """The same pack under another name, from another folder; gone after the test."""
    (tmp_path / "nag.again").symlink_to(PACK)
    yield load_pack(tmp_path / "nag.again")
    prefix = str(tmp_path).replace(".", "_x_")
    for name in [name for name in sys.modules if name.startswith(prefix)]:
        del sys.modules[name]


class Listing(pickle.Unpickler):
    def __init__(self, pickled):
        super().__init__(io.BytesIO(pickled))
        self.asked = set()

    def find_class(self, module, name):
        self.asked.add(module.partition(".")[0])
        return super().find_class(module, name)


def requests_of(carrier, patches):
    """The one Request in it."""
    key = patches("sampling.request").KEY
    if isinstance(carrier, list):
        return carrier[0][1]["model_conds"][key].cond
    (wrapper,) = carrier["sampler_sample"][key]
    return wrapper.request


@pytest.mark.parametrize("name", ["conditioning", "model", "guider"])
def test_it_survives(carriers, patches, name):
    pickled = pickle.dumps(carriers[name])
    listing = Listing(pickled)
    made, again = requests_of(carriers[name], patches), requests_of(listing.load(), patches)
    assert listing.asked - NEUTRAL == {patches("travelling").NAME}
    for same in (again, requests_of(copy.deepcopy(carriers[name]), patches)):
        assert same is not made and type(same) is type(made)
        without = [dataclasses.replace(each, negative=None) for each in (same, made)]
        assert without[0] == without[1]
        assert torch.equal(same.negative[0][0], made.negative[0][0])
        assert same.negative[0][0].data_ptr() != made.negative[0][0].data_ptr()
    assert made.report is not None and made.settings.options.strengths == (1.0, 0.5)


def test_it_finds_the_copy_that_is_there(carriers, patches, door, other_copy, pack):
    pickled = pickle.dumps(carriers["conditioning"])
    kind = lambda: type(requests_of(pickle.loads(pickled), patches)).__module__
    assert set(door.copies) == {pack.__name__, other_copy.__name__}
    assert kind() == f"{pack.__name__}.patches.sampling.request"
    del door.copies[pack.__name__]
    assert kind() == f"{other_copy.__name__}.patches.sampling.request"


def test_copies_of_other_code_do_not_mix(carriers, patches, door, other_copy):
    pickled = pickle.dumps(carriers["conditioning"])
    own = patches("travelling").PACKAGE
    door.copies[other_copy.__name__] = lambda: "changed"
    assert type(requests_of(pickle.loads(pickled), patches)) is patches("sampling.request").Request
    del door.copies[own]
    with pytest.raises(RuntimeError, match="^This NAG comes from a process with another version of the NAG pack than "):
        pickle.loads(pickled)


def test_code_is_told_apart_by_what_it_says(patches, tmp_path, monkeypatch):
    travelling = patches("travelling")
    for folder, said in (("one", "1"), ("two", "2")):
        for inner in travelling.FOLDERS:
            (tmp_path / folder / inner).mkdir(parents=True)
        (tmp_path / folder / "patches" / "some.py").write_text(said)
    hashes = []
    for folder in ("one", "one", "two"):
        monkeypatch.setattr(travelling, "__file__", str(tmp_path / folder / "patches" / "travelling.py"))
        hashes.append(travelling.code.__wrapped__())
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_positive_and_a_negative_made_of_it_may_come_one_by_one(nodes, playground, inference_mode):
    """Conditioning Zero Out keeps what the positive brings, and the sampler drops it."""
    model, positive, negative = playground
    guided = nodes.NAGConditioning.execute(positive, negative, **STRENGTH).result[0]
    (zeroed,) = stock("ConditioningZeroOut", conditioning=guided)
    (latent,) = stock("EmptyLatentImage", width=128, height=128, batch_size=1)
    there, apart = (guided, zeroed), [pickle.loads(pickle.dumps(each)) for each in (guided, zeroed)]
    ours, theirs = (
        stock("KSampler", model=model, seed=0, steps=1, cfg=1.0, sampler_name="euler", scheduler="simple",
              positive=of[0], negative=of[1], latent_image=latent)[0]["samples"]
        for of in (there, apart)
    )  # fmt: skip
    assert torch.equal(ours, theirs)


def test_only_where_it_was_made_it_tells_the_editor(part, carriers, patches, monkeypatch):
    sent, report = [], part("nodes.report")
    monkeypatch.setattr(report, "send", lambda *message: sent.append(message))
    monkeypatch.setattr(report, "has_blank_negative", lambda node_id: node_id == "5")
    request = requests_of(pickle.loads(pickle.dumps(carriers["model"])), patches)
    request.advise(["said"], True)
    request.fail("failed")
    assert [(event, node_id) for event, node_id, _ in sent] == [("nag.notices", "5"), ("nag.error", "5")]
    assert request.has_blank_negative()
    elsewhere = [
        dataclasses.replace(each, made_in="elsewhere")
        for each in (request.report, request.advise, request.fail, request.has_blank_negative)
    ]
    said = [each(*given) for each, given in zip(elsewhere, [(None,), ([], False), ("",), ()])]
    assert not any(said) and len(sent) == 2
