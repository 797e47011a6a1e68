"""The judges of the playground's worlds, for workflows with its loader: they know their cases, and no other prompts."""
import torch
from playground import judge
from playground.worlds import WORLDS

from .judges import PLAYGROUND, BadJudge
from .pairs import Pair

LOADER = "NAGPlaygroundLoader"
OTHER_WORLDS = {"tiny Wan": "clips", "tiny emoji": "emoji"}  # than shapes, by what the loader calls a model
SIZE = 32  # pixels of a drawn picture, which the models' VAE shows larger


def world_of(prompt):
    """The world that a prompt in API format paints with; None if it has no loader of the playground."""
    loaders = [node["inputs"] for node in prompt.values() if node["class_type"] == LOADER]
    if not loaders:
        return None
    model = str(loaders[0].get("model", "")).removesuffix(", distilled")
    return WORLDS[OTHER_WORLDS.get(model, "shapes")]


def pairs_of(world):
    return [Pair(number, world.describe(case.scene), case.negative, world.name)
            for number, case in enumerate(world.CASES, 1)]


class PlaygroundJudge:
    """name: PLAYGROUND. world: of WORLDS; None: none of them is painted."""

    kind = "a small classifier that was trained on drawn pictures"

    def __init__(self, world):
        self.name, self.world = PLAYGROUND, world

    def check(self, pairs):
        if self.world is None:
            raise BadJudge(f"The judge {self.name!r} knows pictures of the playground's models only.")
        self._scenes = {self.world.describe(case.scene): case.scene for case in self.world.CASES}
        for pair in pairs:
            if pair.prompt not in self._scenes or pair.negative not in self.world.FACTS:
                raise BadJudge(f'The playground\'s judge does not know the pair "{pair.prompt}" and "{pair.negative}". '
                               "Its own are taken where no --pairs is given.")
        try:
            self._judge = judge.load(self.world)
        except FileNotFoundError:
            raise BadJudge(f"{judge.path_of(self.world)} is not there.") from None

    def judge(self, frames, pair):
        (seen,), _ = self._judge.read(self._small(frames))
        return {"unwanted": float(self.world.hints(seen, pair.negative)),
                "wanted": float(self.world.shows(seen, self._scenes[pair.prompt]))}

    def _small(self, frames):
        """(1, 3, 32, 32) of a picture, (1, 3, FRAMES, 32, 32) of a clip, from -1 to 1."""
        pictures = torch.stack([torch.frombuffer(bytearray(frame.tobytes()), dtype=torch.uint8).reshape(
            frame.height, frame.width, 3).movedim(2, 0) for frame in frames])
        small = torch.nn.functional.adaptive_avg_pool2d(pictures.float(), SIZE) / 127.5 - 1
        return small if self.world.FRAMES == 1 else small.movedim(0, 1)[None]
