"""The playground's judge, for workflows with its loader: it knows the cases of its worlds, and no other prompts."""
import torch
from playground.worlds import WORLDS

from .judges import PLAYGROUND, BadJudge
from .pairs import Pair

LOADER = "NAGPlaygroundLoader"
SIZE = 32  # pixels of a drawn picture, which the model's VAE shows larger


def world_of(prompt):
    """The world whose pictures a prompt in API format paints; None if it is no playground's."""
    loaders = [node["inputs"] for node in prompt.values() if node["class_type"] == LOADER]
    return WORLDS["shapes"] if loaders else None


def pairs_of(world):
    return [Pair(number, world.describe(case.scene), case.negative, world.name)
            for number, case in enumerate(world.CASES, 1)]


class PlaygroundJudge:
    """name: PLAYGROUND."""

    def __init__(self, world=WORLDS["shapes"]):
        self.name, self.world = PLAYGROUND, world
        self._scenes = {world.describe(case.scene): case.scene for case in world.CASES}

    def check(self, pairs):
        for pair in pairs:
            if pair.prompt not in self._scenes or pair.negative not in self.world.FACTS:
                raise BadJudge(f'The playground\'s judge does not know the pair "{pair.prompt}" and "{pair.negative}". '
                               "Its own are taken where no --pairs is given.")

    def judge(self, frames, pair):
        from playground.worlds import pixels

        seen, scene = pixels.see(self._small(frames)), self._scenes[pair.prompt]
        return {"unwanted": float(pixels.hints(seen, pair.negative)), "wanted": float(pixels.shows(seen, scene))}

    def _small(self, frames):
        """(3, 32, 32) of a picture, (3, FRAMES, 32, 32) of a clip, from -1 to 1."""
        pictures = torch.stack([torch.frombuffer(bytearray(frame.tobytes()), dtype=torch.uint8).reshape(
            frame.height, frame.width, 3).movedim(2, 0) for frame in frames])
        small = torch.nn.functional.adaptive_avg_pool2d(pictures.float(), SIZE) / 127.5 - 1
        return small[0] if self.world.FRAMES == 1 else small.movedim(0, 1)
