"""Prompts drawn by lot, each with a negative that names what habit mostly puts there, as a world's own cases do.

They had no part in any choice: what was chosen by the cases' pictures is tried on these.
"""
import collections
import random

from playground.worlds.language import Case

COUNT, SEEDS = 96, 4  # prompts differ more than noise does: more of them than the world's cases, fewer pictures of each
FIRST_SEED = 500  # of each: below it lies what the cases' pictures began with
HABIT = (0.4, 0.9)  # in how many pictures of a prompt the unwanted shows
SKETCHES = 200


def cases(world, count=COUNT):
    """`count` Cases of a world, all different and none of its own; the same each time, and a smaller count has the
    first of them."""
    rng, found = random.Random(world.name), []
    while len(found) < count:
        prompt, scene = world.random_request(rng)
        usual = unwanted(world, scene, rng) if prompt and world.describe(scene) == prompt else ()  # whole sentences
        if usual:
            case = Case(scene, rng.choice(usual))
            if case not in world.CASES and case not in found:
                found.append(case)
    return tuple(found)


def unwanted(world, scene, rng):
    """The facts, of one word, that habit adds to a prompt in HABIT of its pictures, in the world's order."""
    shown = collections.Counter(fact for _ in range(SKETCHES) for fact in world.facts(world.complete(scene, rng)))
    return [fact for fact in world.FACTS if fact in world.WORDS and HABIT[0] <= shown[fact] / SKETCHES <= HABIT[1]]
