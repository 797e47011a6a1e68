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

    frames = None
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
        """frames: all of a file, which may show several clips, one after the other."""
        seen, _ = self._judge.read(self._small(frames))
        unwanted = [self.world.hints(each, pair.negative) for each in seen]
        wanted = [self.world.shows(each, self._scenes[pair.prompt]) for each in seen]
        return {"unwanted": sum(unwanted) / len(seen), "wanted": sum(wanted) / len(seen)}

    def _small(self, frames):
        """(B, 3, 32, 32) of pictures, (B, 3, FRAMES, 32, 32) of clips, from -1 to 1."""
        pictures = torch.stack([torch.frombuffer(bytearray(frame.tobytes()), dtype=torch.uint8).reshape(
            frame.height, frame.width, 3).movedim(2, 0) for frame in frames])
        small = torch.nn.functional.adaptive_avg_pool2d(pictures.float(), SIZE) / 127.5 - 1
        count = self.world.FRAMES
        return small if count == 1 else small.unflatten(0, (len(small) // count, count)).transpose(1, 2)
