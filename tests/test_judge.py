"""The playground's judges: how often they are right, what they do not see, the Fréchet distance in their features."""
import argparse
import random

import pytest
import scipy.linalg
import torch

RIGHT = {"shapes": 0.99, "clips": 0.99, "emoji": 0.97}  # of the pictures, for each kind of fact


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
    assert not any(judge.read(judges.smears(shown[:20]).reshape(world_shape(worlds[name], 20)))[0])


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


def world_shape(world, count):
    return (count, 3, 32, 32) if world.FRAMES == 1 else (count, 3, world.FRAMES, 32, 32)


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


def test_frechet_distance(judges):
    """Against scipy's root of a matrix, in float64."""
    torch.manual_seed(0)
    one, other = torch.randn(500, 8) @ torch.randn(8, 8) + 1, torch.randn(400, 8) @ torch.randn(8, 8)
    first, second = one.double().T.cov(), other.double().T.cov()
    root = torch.from_numpy(scipy.linalg.sqrtm((first @ second).numpy()).real)
    moved = (one.double().mean(0) - other.double().mean(0)).square().sum()
    expected = (moved + (first + second - 2 * root).trace()).item()
    assert judges.frechet_distance(one, other) == pytest.approx(expected, rel=1e-6)
    assert judges.frechet_distance(one, one) == pytest.approx(0, abs=1e-6)


def test_features_tell_habits_apart(judges, worlds):
    """Two sets of the same habits lie nearer than a set without them."""
    world, judge, rng = worlds["shapes"], judges.load("shapes"), random.Random(6)

    def features(scene):
        return judge.read(world.draw([scene() for _ in range(500)], rng))[1]

    usual = [features(lambda: world.complete(world.random_request(rng)[1], rng)) for _ in range(2)]
    near, far = judges.frechet_distance(*usual), judges.frechet_distance(usual[0], features(
        lambda: world.without_habit(rng)))
    assert near < 0.5 * far
