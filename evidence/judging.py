"""What a world's judge sees in a row of pictures, and how far they are from drawn ones."""
import random

import numpy
import torch

from . import frechet, intervals
from .raw import DRAWN, DRAWN_WITHOUT, Pictures

COMPARED = 256  # drawn pictures of each case
GROUPS = 16  # of seeds, left out by turns for the distance's interval
TRIES = 10_000  # to draw one scene in which the unwanted does not show


class Judge:
    """Judges rows of one world.

    Args:
        world: of playground.worlds.
        judge: of playground.judge: its read() gives what it sees and its features.
        prompts: painting.Prompts, of the cases in their order.
        compared: how many pictures of each case are drawn to compare with.
        cases: None: the world's own, as many as there are prompts.
    """

    def __init__(self, world, judge, prompts, compared=COMPARED, cases=None):
        self.world, self.judge, self.prompts = world, judge, prompts
        self.cases = [(case.scene, case.negative) for case in cases or world.CASES[:len(prompts.texts)]]
        self.case = numpy.array(prompts.case)
        self.group = numpy.array(prompts.seed) % GROUPS
        self.drawn = {}
        for number, key in enumerate((DRAWN, DRAWN_WITHOUT)):
            cases = [case for case in self.cases for _ in range(compared)]
            self.drawn[key] = frechet.moments(self._read(self._draw(cases, key, number))[1])

    def see(self, pictures, seconds=float("nan")):
        """Pictures of a row, in the order of the prompts: raw.Pictures."""
        seen, features = self._read(pictures)
        odd = self.world.off_palette(pictures)
        return Pictures(
            unwanted=numpy.array([self.world.hints(each, self.cases[case][1]) for each, case in zip(seen, self.case)]),
            wanted=numpy.array([self.world.shows(each, self.cases[case][0]) for each, case in zip(seen, self.case)]),
            odd=numpy.full(len(seen), numpy.nan) if odd is None else odd.cpu().double().numpy(),
            seen=numpy.array([[fact in each for fact in self.world.FACTS] for each in seen]),
            distances=tuple(each for key in (DRAWN, DRAWN_WITHOUT) for each in self._distance(features, key)),
            seconds=seconds)

    def of_drawn(self):
        """Rows of as many drawn pictures, by key: how well a perfect model would fare with this judge."""
        cases = [self.cases[case] for case in self.case]
        return {key: self.see(self._draw(cases, key, seed)) for seed, key in ((10, DRAWN), (11, DRAWN_WITHOUT))}

    def _distance(self, features, key):
        if len(features) <= features.shape[1]:  # no covariance of so few
            return float("nan"), float("nan")
        distance = lambda kept: frechet.distance(frechet.moments(features[kept]), self.drawn[key])
        return intervals.jackknife(distance, self.group)

    def _draw(self, cases, key, seed):
        """A drawn picture of each case."""
        rng = random.Random(seed)
        scenes = [self._scene(*case, key, rng) for case in cases]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.world.draw(scenes, rng)

    def _scene(self, scene, negative, key, rng):
        """A complete scene of a case; without the unwanted, where the key says so."""
        for _ in range(TRIES):
            complete = self.world.complete(scene, rng)
            if key == DRAWN or not self.world.hints(self.world.facts(complete), negative):
                return complete
        raise ValueError(f"{self.world.describe(scene)!r} always shows {negative!r}.")

    def _read(self, pictures):
        seen, features = self.judge.read(pictures)
        return seen, features.cpu().double().numpy()
