"""The playground's judges: how often they are right, what they do not see, and what their features tell."""
import argparse
import random

import pytest
import torch

RIGHT = {"shapes": 0.99, "clips": 0.99, "emoji": 0.97}  # of the pictures, for each kind of fact
BENT = 0.2  # of bent pictures, the share in which it may still read a form


@pytest.fixture(scope="module")
def judges(part):
    return part("playground.judge")


@pytest.fixture(scope="module")
def worlds(part):
    return part("playground.worlds").WORLDS


@pytest.mark.parametrize("name", RIGHT)
def test_right_of_fresh_pictures(judges, worlds, name):
    """Of pictures drawn with a seed that neither training nor its log used, as drawn and disturbed."""
    judge = judges.load(name)
    pictures, labels = judges.drawn(worlds[name], worlds[name].without_habit, 600, random.Random("fresh"))
    torch.manual_seed(0)
    for shown, less in ((judges.as_floats(pictures), 0), (judges.disturbed(judges.as_floats(pictures)), 0.03)):
        shares = judges.accuracy(judge, shown, labels)
        assert set(shares) == {*worlds[name].KINDS, "all"}
        assert all(share >= RIGHT[name] - less for kind, share in shares.items() if kind != "all"), shares
    smears = judges.smears(shown)
    assert judge(smears)[0].gt(0).any(1).float().mean() < 0.02
    bent = judge(judges.warped(shown, 3, 4.5))[0][:, judges.forms_of(worlds[name])]
    assert bent.gt(0).any(1).float().mean() < BENT


@pytest.mark.parametrize("name", RIGHT)
def test_reads_pictures(judges, worlds, name):
    """What it reads of the cases, as pictures come from a decoder, is what a completed scene shows."""
    world, rng = worlds[name], random.Random(9)
    scenes = [world.complete(case.scene, rng) for case in world.CASES]
    shown, features = judges.load(world).read(world.draw(scenes, rng).half())
    right = [facts == world.facts(scene) for facts, scene in zip(shown, scenes)]
    assert sum(right) >= len(right) - 2
    assert all(world.shows(facts, case.scene) for facts, case, sure in zip(shown, world.CASES, right) if sure)
    assert features.shape == (len(scenes), judges.FEATURES) and features.dtype == torch.float32


def test_training_is_seeded_and_learns(judges, worlds):
    options = argparse.Namespace(device="cpu", steps=12, batch=24, pool=200, rate=3e-3, seed=3)
    trained = []
    for _ in range(2):
        torch.manual_seed(3)
        lines = []
        trained.append(judges.train(worlds["shapes"], options, lines.append))
    weights = [torch.cat([w.flatten() for w in judge.state_dict().values()]) for judge in trained]
    assert torch.equal(*weights) and "seed 3" in lines[0] and "step    12" in lines[-1]
    torch.manual_seed(4)
    pictures, labels = judges.drawn(worlds["shapes"], worlds["shapes"].without_habit, 200, random.Random(5))
    pictures, labels = judges.as_floats(pictures), labels.float()
    loss = torch.nn.functional.binary_cross_entropy_with_logits
    assert loss(trained[0](pictures)[0], labels) < 0.7 * loss(judges.Judge(worlds["shapes"])(pictures)[0], labels)


def test_features_tell_habits_apart(judges, worlds):
    """Two sets of the same habits lie nearer than a set without them."""
    world, judge, rng = worlds["shapes"], judges.load("shapes"), random.Random(6)

    def mean(scene):
        return judge.read(world.draw([scene() for _ in range(500)], rng))[1].mean(0)

    usual = [mean(lambda: world.complete(world.random_request(rng)[1], rng)) for _ in range(2)]
    even = mean(lambda: world.without_habit(rng))
    assert (usual[0] - usual[1]).norm() < 0.5 * (usual[0] - even).norm()
