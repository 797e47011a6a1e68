"""The playground's worlds: words and sentences, habits, and that their facts are what their pictures show."""
import random

import pytest
import torch

WORLDS = ("shapes", "clips", "emoji")
COUNT = 200


@pytest.fixture(scope="module", params=WORLDS)
def world(request, part):
    return part("playground.worlds").WORLDS[request.param]


@pytest.fixture(scope="module")
def completed(world):
    """Complete scenes of random requests, and their pictures."""
    rng = random.Random(1)
    scenes = [world.complete(world.random_request(rng)[1], rng) for _ in range(COUNT)]
    return scenes, world.draw(scenes, rng)


# ---------------------------------------------------------------- pictures and facts
def test_pictures(world, completed):
    scenes, pictures = completed
    frames = () if world.FRAMES == 1 else (world.FRAMES,)
    assert pictures.shape == (COUNT, 3, *frames, 32, 32) and pictures.dtype == torch.float32
    assert -1 <= pictures.min() < -0.8 and 0.8 < pictures.max() <= 1


def test_draw_is_seeded(world, completed):
    scenes, _ = completed
    drawn = [world.draw(scenes, random.Random(seed)) for seed in (3, 3, 4)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_shapes_as_the_pixels_say(part):
    shapes, pixels = part("playground.worlds.shapes"), part("playground.worlds.pixels")
    rng = random.Random(2)
    scenes = [shapes.complete(shapes.random_request(rng)[1], rng) for _ in range(COUNT)]
    for scene, picture in zip(scenes, shapes.draw(scenes, rng)):
        seen = pixels.see(picture)
        found = shapes.Scene(seen.things, seen.background, seen.frame > 0.7)
        assert shapes.facts(found) == shapes.facts(scene)
        for asked in (shapes.random_request(rng)[1] for _ in range(20)):
            assert shapes.shows(shapes.facts(scene), asked) == pixels.shows(seen, asked)


def test_clips_as_the_pixels_say(part):
    """Every frame shows the same thing, and its middle moves the way that the facts say."""
    clips, pixels = part("playground.worlds.clips"), part("playground.worlds.pixels")
    rng = random.Random(2)
    scenes = [clips.complete(clips.random_request(rng)[1], rng) for _ in range(40)]
    grid = torch.arange(32.0)
    for scene, clip in zip(scenes, clips.draw(scenes, rng)):
        frames = clip.movedim(1, 0)
        (thing,), background = pixels.see(frames[0]).things, pixels.see(frames[0]).background
        assert all(pixels.see(frame).things == (thing,) for frame in frames)
        weight = (frames - frames[:, :, :1, :1]).abs().sum(1)  # of the shape: unlike the corner
        middle = [(weight.sum(axis) * grid).sum(1) / weight.sum((1, 2)) for axis in (1, 2)]  # x, y in each frame
        (x,), (y,) = (set(values.diff().div(clips.STEP).round().int().tolist()) for values in middle)
        direction = next(name for name, way in clips.DIRECTIONS.items() if way == (x, y))
        assert clips.facts(scene) == {thing.shape, thing.colour, direction, background}


def test_emoji_as_the_nearest_drawing_says(part):
    """Each picture's nearest scene, of all styles, subjects, companions and places on its background, is its own."""
    emoji = part("playground.worlds.emoji")
    rng = random.Random(2)
    scenes = [emoji.complete(emoji.random_request(rng)[1], rng) for _ in range(12)]
    subjects, companions = emoji._drawings()
    for scene, picture in zip(scenes, emoji.draw(scenes, rng)):
        corner = (picture[:, -1, 0] + 1) / 2
        background = min(emoji.BACKGROUNDS, key=lambda b: (corner - torch.tensor(emoji.BACKGROUNDS[b])).norm().item())
        best = None
        for top in (-1, 0, 1):
            for left in (-1, 0, 1):
                pixels = picture.add(1).div(2).roll((-top, -left), (1, 2)).movedim(0, -1)
                for style, (drawn, beside) in enumerate(zip(subjects, companions)):
                    under = torch.lerp(corner.expand(len(drawn), 32, 32, 3), drawn[..., :3], drawn[..., 3:])
                    both = torch.lerp(under[:, None], beside[..., :3], beside[..., 3:])
                    far = (both - pixels).square().sum((2, 3, 4))
                    at = divmod(far.argmin().item(), len(beside))
                    if best is None or far.min() < best[0]:
                        best = far.min(), emoji.STYLES[style], list(emoji.SUBJECTS)[at[0]], at[1]
        _, style, subject, companion = best
        named = ["", *emoji.COMPANIONS][companion]
        assert best[0] < 1e-3 and emoji.facts(emoji.Scene(subject, style, background, named)) == emoji.facts(scene)


def test_emoji_are_whole(part):
    """The sheet holds what the tables name: no drawing is missing or the same as another."""
    emoji = part("playground.worlds.emoji")
    subjects, companions = emoji._drawings()
    assert subjects.shape == (3, 40, 32, 32, 4) and companions.shape == (3, 4, 32, 32, 4)
    assert subjects[..., 3].sum((2, 3)).min() > 90 and companions[:, 1:, ..., 3].sum((2, 3)).min() > 30
    flat = torch.cat([subjects.flatten(0, 1), companions[:, 1:].flatten(0, 1)]).flatten(1)
    assert torch.cdist(flat, flat).fill_diagonal_(99).min() > 3
    assert emoji.SHEET.stat().st_size < 250_000


def test_facts(world, completed):
    scenes, _ = completed
    shown = [world.facts(scene) for scene in scenes]
    assert frozenset().union(*shown) == set(world.FACTS) and len(set(world.FACTS)) == len(world.FACTS)


# ---------------------------------------------------------------- sentences
def test_sentences_say_all(world):
    """The same prompt, the same scene: nothing of a scene is left out of its sentence."""
    rng, scenes = random.Random(4), {}
    for _ in range(1000):
        scene = world.random_request(rng)[1]
        if not getattr(scene, "more", False):
            assert scenes.setdefault(world.describe(scene), scene) == scene
    assert len(scenes) > 50


def test_words(world):
    rng, read = random.Random(5), set()
    for _ in range(3000):
        prompt, _ = world.random_request(rng)
        words = world.words_of(prompt)
        assert len(words) <= world.MAX_WORDS and world.words_of(f"{prompt.upper()}!") == words
        read.update(words)
    assert read == set(world.WORDS)
    with pytest.raises(Exception, match="'elephants'.*It knows these words: a, ") as raised:
        world.words_of("a pair of elephants")
    assert type(raised.value).__name__ == "UnknownWord"


def test_shows_what_the_prompt_says(world):
    rng = random.Random(6)
    for _ in range(COUNT):
        asked = world.random_request(rng)[1]
        assert world.shows(world.facts(world.complete(asked, rng)), asked)


def test_shows_nothing_else(world):
    """Of two sentences that say everything, the picture of one does not show the other."""
    rng = random.Random(7)
    scenes = [world.complete(world.random_request(rng)[1], rng) for _ in range(COUNT)]
    for one, other in zip(scenes, scenes[1:]):
        if world.facts(one) != world.facts(other):
            assert not world.shows(world.facts(one), other) or not world.shows(world.facts(other), one)


# ---------------------------------------------------------------- cases
def test_cases(world):
    """The negative names a habit that often shows, and never what the prompt itself says."""
    assert len(world.CASES) >= 32 and len(set(world.CASES)) == len(world.CASES)
    rng = random.Random(8)
    for case in world.CASES:
        assert case.negative in world.FACTS and world.words_of(case.negative)
        prompt = world.describe(case.scene)
        assert case.negative not in world.words_of(prompt)
        shown = [world.facts(world.complete(case.scene, rng)) for _ in range(COUNT)]
        assert all(world.shows(facts, case.scene) for facts in shown)
        share = sum(world.hints(facts, case.negative) for facts in shown) / COUNT
        assert 0.3 < share < 0.95, (prompt, case.negative, share)


def test_cases_are_diverse(world):
    negatives = [case.negative for case in world.CASES]
    assert len(set(negatives)) >= 5 and max(map(negatives.count, negatives)) <= 12


def test_off_palette(world, completed):
    """Drawn pictures have their palette's colours and a few mixed ones at edges; cyan is no world's colour."""
    _, pictures = completed
    share = world.off_palette(pictures)
    if share is not None:
        assert share.shape == (COUNT,) and 0 < share.max() < 0.1
        cyan = torch.tensor([-1.0, 1.0, 1.0]).reshape(1, 3, *[1] * (pictures.ndim - 2)).expand_as(pictures)
        assert world.off_palette(cyan).tolist() == world.off_palette(cyan * torch.nan).tolist() == [1.0] * COUNT
