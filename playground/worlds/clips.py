"""Moving shapes: what prompts say of them, and what clips of them show.

A clip is FRAMES pictures of 32x32 pixels: one of the shapes of the world `shapes`, of its colours and on its
backgrounds, moves past the middle. A prompt may leave anything open, and then habit decides: seven circles in ten are
red and move right, six backgrounds in ten are white.
"""
import dataclasses
import itertools
import re

import torch

from . import language, shapes
from .language import SIZE, Case, habitual, pick, says
from .shapes import BACKGROUND_HABIT, BACKGROUNDS, COLOUR_HABIT, COLOURS, HABITUAL_COLOUR, SHAPES

name = "clips"
FRAMES = 4
STEP = 4.0  # pixels from frame to frame

DIRECTIONS = {"right": (1, 0), "left": (-1, 0), "down": (0, 1), "up": (0, -1)}  # x, y
HABITUAL_DIRECTION = {"circle": "right", "square": "left", "triangle": "up"}
DIRECTION_HABIT = 0.7  # the other three share the rest

WORDS = ("a", "moving", "on", *SHAPES, *COLOURS, *DIRECTIONS, *BACKGROUNDS)
ALIASES = {"an": "a", "grey": "gray", "circles": "circle", "squares": "square", "triangles": "triangle",
           "moves": "moving", "upwards": "up", "downwards": "down"}
MAX_WORDS = 7  # of a prompt that random_request() gives: "a red circle moving left on white"


def words_of(text):
    """The words of a prompt, in order. Raises UnknownWord."""
    return language.words_of(text, WORDS, ALIASES)


# ---------------------------------------------------------------- scenes and prompts
@dataclasses.dataclass(frozen=True)
class Scene:
    """What a prompt says, None for what it leaves open, or, with nothing open, what a clip shows."""

    shape: str | None = None
    colour: str | None = None
    direction: str | None = None
    background: str | None = None


def complete(scene, rng):
    """Fill in by habit what a prompt leaves open. `rng` is a random.Random. Gives a Scene without None."""
    shape = scene.shape or rng.choice(SHAPES)
    return Scene(
        shape,
        scene.colour or habitual(HABITUAL_COLOUR[shape], COLOURS, COLOUR_HABIT, rng),
        scene.direction or habitual(HABITUAL_DIRECTION[shape], DIRECTIONS, DIRECTION_HABIT, rng),
        scene.background or pick(BACKGROUND_HABIT, rng),
    )


def without_habit(rng):
    """A random complete Scene in which everything is equally likely."""
    return Scene(*(rng.choice(kind) for kind in KINDS.values()))


def random_request(rng):
    """A random (prompt, Scene of what it says): three in four are sentences ("a red circle moving left"), the rest is
    a few bare words, as in negatives ("right", "red white"), and one in twelve is empty."""
    kind = rng.random()
    if kind < 1 / 12:
        return "", Scene()
    everything = {"shape": rng.choice(SHAPES), "colour": rng.choice(list(COLOURS)),
                  "direction": rng.choice(list(DIRECTIONS)), "background": rng.choice(list(BACKGROUNDS))}
    if kind < 1 / 4:
        said = rng.sample(list(everything), 1 if rng.random() < 0.7 else 2)
        return " ".join(everything[what] for what in said), Scene(**{what: everything[what] for what in said})
    scene = Scene(everything["shape"], **{
        what: everything[what] for what in ("colour", "direction", "background") if rng.random() < 0.5})
    prompt = describe(scene)
    if rng.random() < 0.25:
        prompt = re.sub(r"\ba |\bmoving ", "", prompt)
    return prompt, scene


def describe(scene):
    """The sentence that says what `scene` states: "a red circle moving left on white"."""
    thing = " ".join(filter(None, (scene.colour, scene.shape)))
    parts = {"a": thing, "moving": scene.direction, "on": scene.background}
    return " ".join(f"{word} {said}" for word, said in parts.items() if said)


# ---------------------------------------------------------------- drawing
def draw(scenes, rng):
    """Draw complete scenes, each shape of a random size and on a path near the middle. rng: random.Random.

    Gives (B, 3, FRAMES, 32, 32), red, green and blue from -1 to 1, with smooth edges.
    """
    grid = torch.arange(SIZE) + 0.5
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    jitter = torch.tensor([[rng.uniform(-0.3, 0.3) for _ in range(3)] for _ in scenes]).reshape(-1, 3, 1, 1, 1)
    moved = STEP * (torch.arange(FRAMES) - (FRAMES - 1) / 2).reshape(-1, 1, 1)
    direction = torch.tensor([DIRECTIONS[scene.direction] for scene in scenes]).reshape(-1, 2, 1, 1, 1)
    dx, dy = (place - SIZE / 2 - jitter[:, axis] - moved * direction[:, axis] for axis, place in enumerate((x, y)))
    radius = 7 + 0.3 * jitter[:, 2]
    distance = torch.empty_like(dx)
    for shape in SHAPES:
        here = torch.tensor([scene.shape == shape for scene in scenes])
        distance[here] = shapes.outline(shape, dx[here], dy[here], radius[here])
    cover = (0.5 - distance).clamp(0, 1).unsqueeze(1)
    background, colour = (
        torch.tensor(values).reshape(-1, 3, 1, 1, 1)
        for values in zip(*((BACKGROUNDS[scene.background], COLOURS[scene.colour]) for scene in scenes))
    )
    return torch.lerp(background, colour, cover) * 2 - 1


def off_palette(clips):
    """(B, 3, FRAMES, 32, 32) from -1 to 1. Gives (B,): the share of the pixels that is far from every colour."""
    return language.off_palette(clips, [*COLOURS.values(), *BACKGROUNDS.values()], shapes.NEAR)


# ---------------------------------------------------------------- what a clip can show
KINDS = {"shape": SHAPES, "colour": tuple(COLOURS), "direction": tuple(DIRECTIONS), "background": tuple(BACKGROUNDS)}
FORMS = ("shape",)  # the kinds that a bent clip does not show any more
FACTS = tuple(itertools.chain(*KINDS.values()))


def facts(scene):
    """What a complete scene shows: a frozenset of FACTS."""
    return frozenset(dataclasses.astuple(scene))


def shows(shown, scene):
    """Whether facts say all that a prompt says (the wanted), and of what it speaks of nothing else.

    shown: a set of FACTS. scene: what the prompt says.
    """
    said = zip(KINDS.values(), dataclasses.astuple(scene))
    return all(says(shown, group, value) for group, value in said)


def hints(shown, negative):
    """Whether facts name what a negative does, one of FACTS (the unwanted)."""
    return negative in shown


# ---------------------------------------------------------------- cases
CASES = (
    Case(Scene("circle"), "right"),
    Case(Scene("circle", "blue"), "right"),
    Case(Scene("circle", background="black"), "right"),
    Case(Scene("circle", "purple", background="white"), "right"),
    Case(Scene("circle", "red", background="gray"), "right"),
    Case(Scene("square"), "left"),
    Case(Scene("square", "green"), "left"),
    Case(Scene("square", background="gray"), "left"),
    Case(Scene("square", "yellow", background="black"), "left"),
    Case(Scene("square", "blue", background="white"), "left"),
    Case(Scene("triangle"), "up"),
    Case(Scene("triangle", "red"), "up"),
    Case(Scene("triangle", background="white"), "up"),
    Case(Scene("triangle", "purple", background="gray"), "up"),
    Case(Scene("circle", background="white"), "red"),
    Case(Scene("circle", direction="left"), "red"),
    Case(Scene("circle", direction="down", background="gray"), "red"),
    Case(Scene("circle", direction="up", background="black"), "red"),
    Case(Scene("square", background="black"), "blue"),
    Case(Scene("square", direction="up"), "blue"),
    Case(Scene("square", direction="right", background="white"), "blue"),
    Case(Scene("triangle", background="gray"), "yellow"),
    Case(Scene("triangle", direction="left"), "yellow"),
    Case(Scene("triangle", direction="down", background="black"), "yellow"),
    Case(Scene("circle", "red"), "white"),
    Case(Scene("circle", "green", "left"), "white"),
    Case(Scene("circle", direction="up"), "white"),
    Case(Scene("square", "yellow"), "white"),
    Case(Scene("square", "blue", "down"), "white"),
    Case(Scene("square", direction="right"), "white"),
    Case(Scene("triangle", "purple"), "white"),
    Case(Scene("triangle", "blue", "right"), "white"),
)
