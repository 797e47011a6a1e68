"""Coloured shapes: what prompts say of them, and what pictures show.

A picture is 32x32 pixels: one or two plain shapes on a plain background, perhaps in a wooden frame. A prompt may leave
anything open, and then habit decides: seven circles in ten are red, six backgrounds in ten are white, every second
picture is framed. Those habits are what a negative prompt has to fight, as it fights glasses on portraits.
"""
import dataclasses
import itertools
import re

import torch

from . import language
from .language import SIZE, Case, pick, says

name = "shapes"
FRAMES = 1
FRAME_WIDTH = 2  # pixels

SHAPES = ("circle", "square", "triangle")
COLOURS = {
    "red": (0.87, 0.15, 0.15),
    "green": (0.15, 0.62, 0.25),
    "blue": (0.15, 0.32, 0.87),
    "yellow": (0.97, 0.81, 0.10),
    "purple": (0.56, 0.20, 0.70),
}
BACKGROUNDS = {"white": (0.97, 0.97, 0.97), "black": (0.07, 0.07, 0.07), "gray": (0.55, 0.55, 0.55)}
FRAME = (0.60, 0.38, 0.16)
PALETTE = {**COLOURS, **BACKGROUNDS, "frame": FRAME}
NEAR = 0.3  # in RGB from 0 to 1: still that colour

HABITUAL_COLOUR = {"circle": "red", "square": "blue", "triangle": "yellow"}
COLOUR_HABIT = 0.7  # the other four colours share the rest
BACKGROUND_HABIT = {"white": 0.6, "black": 0.2, "gray": 0.2}
FRAME_HABIT = 0.5

WORDS = ("a", "and", "on", "with", "frame", *SHAPES, *COLOURS, *BACKGROUNDS)
ALIASES = {"an": "a", "grey": "gray", "circles": "circle", "squares": "square", "triangles": "triangle",
           "frames": "frame", "framed": "frame"}
MAX_WORDS = 12  # of a prompt that random_request() gives: "a red circle and a red circle on white with a frame"


def words_of(text):
    """The words of a prompt, in order. Raises UnknownWord."""
    return language.words_of(text, WORDS, ALIASES)


# ---------------------------------------------------------------- scenes and prompts
@dataclasses.dataclass(frozen=True)
class Thing:
    """A shape. None stands for what a prompt leaves open."""

    shape: str | None = None
    colour: str | None = None


@dataclasses.dataclass(frozen=True)
class Scene:
    """What a prompt says, or, with nothing left None, what a picture shows.

    `frame` is True or, in a prompt that does not speak of one, None. `more` says that things which the prompt does
    not name may show too, as in the prompt "red".
    """

    things: tuple[Thing, ...] = ()
    background: str | None = None
    frame: bool | None = None
    more: bool = False


def complete(scene, rng):
    """Fill in by habit what a prompt leaves open. `rng` is a random.Random. Gives a Scene without None."""
    things = list(scene.things)
    if scene.more:
        while not things or (len(things) < 2 and rng.random() < 0.4):
            things.append(Thing())
    return Scene(
        things=tuple(_complete_thing(thing, rng) for thing in things),
        background=scene.background or pick(BACKGROUND_HABIT, rng),
        frame=rng.random() < FRAME_HABIT if scene.frame is None else scene.frame,
    )


def _complete_thing(thing, rng):
    shape = thing.shape or rng.choice(SHAPES)
    if thing.colour:
        return Thing(shape, thing.colour)
    habitual = HABITUAL_COLOUR[shape]
    if rng.random() < COLOUR_HABIT:
        return Thing(shape, habitual)
    return Thing(shape, rng.choice([colour for colour in COLOURS if colour != habitual]))


def without_habit(rng):
    """A random complete Scene in which everything is equally likely."""
    things = tuple(Thing(rng.choice(SHAPES), rng.choice(list(COLOURS))) for _ in range(rng.choice((1, 2))))
    return Scene(things, rng.choice(list(BACKGROUNDS)), rng.random() < 0.5)


def random_request(rng):
    """A random (prompt, Scene of what it says), of the kinds that people type.

    Three in four are sentences ("a red circle and a square on white"), the rest is mostly a few bare words, as in
    negatives ("red", "frame"), and one in twelve is empty, for CFG and for workflows without a negative.
    """
    kind = rng.random()
    if kind < 1 / 12:
        return "", Scene(more=True)
    if kind < 1 / 4:
        return _bare_words(rng)
    scene = Scene(
        things=tuple(
            Thing(rng.choice(SHAPES), rng.choice(list(COLOURS)) if rng.random() < 0.5 else None)
            for _ in range(1 if rng.random() < 0.6 else 2)
        ),
        background=rng.choice(list(BACKGROUNDS)) if rng.random() < 0.5 else None,
        frame=True if rng.random() < 0.15 else None,
    )
    prompt = describe(scene)
    if rng.random() < 0.25:
        prompt = re.sub(r"\ba ", "", prompt)
    return prompt, scene


def _bare_words(rng):
    subject = rng.choice(["colour", "colour", "shape", "thing", "background", "frame", "two"])
    colour, shape = rng.choice(list(COLOURS)), rng.choice(SHAPES)
    background = rng.choice(list(BACKGROUNDS))
    if subject == "two":  # "red white", "frame blue": two facts in any order
        facts = rng.sample([colour, background, "frame"], 2)
        return " ".join(facts), Scene(
            things=(Thing(colour=colour),) if colour in facts else (),
            background=background if background in facts else None,
            frame=True if "frame" in facts else None, more=True)
    return {
        "colour": (colour, Scene((Thing(colour=colour),), more=True)),
        "shape": (shape, Scene((Thing(shape),), more=True)),
        "thing": (f"{colour} {shape}", Scene((Thing(shape, colour),), more=True)),
        "background": (background, Scene(background=background, more=True)),
        "frame": (rng.choice(["frame", "a frame"]), Scene(frame=True, more=True)),
    }[subject]


def describe(scene):
    """The sentence that says what `scene` states: "a red circle and a square on white with a frame"."""
    prompt = " and ".join(" ".join(filter(None, ("a", thing.colour, thing.shape))) for thing in scene.things)
    if scene.background:
        prompt += f" on {scene.background}"
    if scene.frame:
        prompt += " with a frame"
    return prompt


# ---------------------------------------------------------------- drawing
def draw(scenes, rng):
    """Draw complete scenes, each shape at a random place and size.

    scenes: B Scenes without None, of one or two things. rng: random.Random.
    Gives (B, 3, 32, 32), red, green and blue from -1 to 1, with smooth edges.
    """
    grid = torch.arange(SIZE) + 0.5
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    picture = torch.tensor([BACKGROUNDS[scene.background] for scene in scenes]).reshape(-1, 3, 1, 1)
    picture = picture.expand(-1, 3, SIZE, SIZE).clone()
    for place in range(2):
        here = [i for i, scene in enumerate(scenes) if len(scene.things) > place]
        if not here:
            continue
        things = [scenes[i].things[place] for i in here]
        cx, cy, radius = (
            torch.tensor(values).reshape(-1, 1, 1)
            for values in zip(*(_position(place, len(scenes[i].things), rng) for i in here))
        )
        distance = torch.stack([outline(shape, x - cx, y - cy, radius) for shape in SHAPES])
        which = torch.tensor([SHAPES.index(thing.shape) for thing in things])
        cover = (0.5 - distance[which, torch.arange(len(here))]).clamp(0, 1).unsqueeze(1)
        colour = torch.tensor([COLOURS[thing.colour] for thing in things]).reshape(-1, 3, 1, 1)
        picture[here] = picture[here].lerp(colour, cover)
    framed = torch.tensor([scene.frame for scene in scenes]).reshape(-1, 1, 1, 1)
    picture = torch.where(framed & frame_ring(), torch.tensor(FRAME).reshape(1, 3, 1, 1), picture)
    return picture * 2 - 1


def outline(shape, dx, dy, radius):
    """Distance in pixels of the points (dx, dy) from a shape's edge, negative inside. `radius` is its half width."""
    if shape == "circle":
        return (dx.square() + dy.square()).sqrt() - radius
    if shape == "square":
        return torch.maximum(dx.abs(), dy.abs()) - 0.88 * radius
    side = (1.75 * dx.abs() - dy - 0.95 * radius) / (1 + 1.75**2) ** 0.5
    return torch.maximum(dy - 0.8 * radius, side)


def frame_ring():
    """(32, 32) bool: where a frame lies."""
    ring = torch.ones(SIZE, SIZE, dtype=torch.bool)
    ring[FRAME_WIDTH:-FRAME_WIDTH, FRAME_WIDTH:-FRAME_WIDTH] = False
    return ring


def _position(place, things, rng):
    """Centre x, centre y and radius in pixels of the first or second of one or two things.

    They hardly vary: a model this small would spend itself on places and sizes, which no prompt speaks of.
    """
    if things == 1:
        return SIZE / 2 + rng.uniform(-1, 1), SIZE / 2 + rng.uniform(-1, 1), rng.uniform(8.5, 9.5)
    return (9.0, 23.0)[place] + rng.uniform(-0.5, 0.5), SIZE / 2 + rng.uniform(-0.5, 0.5), rng.uniform(5.8, 6.2)


def off_palette(pictures):
    """(B, 3, 32, 32) from -1 to 1. Gives (B,): the share of the pixels that is far from every colour of the palette."""
    return language.off_palette(pictures, PALETTE.values(), NEAR)


# ---------------------------------------------------------------- what a picture can show
COLOURED = tuple(" ".join(pair) for pair in itertools.product(COLOURS, SHAPES))
KINDS = {"shape": SHAPES, "colour": tuple(COLOURS), "thing": COLOURED, "number": ("two things",),
         "background": tuple(BACKGROUNDS), "frame": ("frame",)}
FORMS = ("shape", "thing")  # the kinds that a bent picture does not show any more
FACTS = tuple(itertools.chain(*KINDS.values()))


def facts(scene):
    """What a complete scene shows: a frozenset of FACTS."""
    shown = {scene.background, *(["frame"] if scene.frame else []), *(["two things"] if scene.things[1:] else [])}
    for thing in scene.things:
        shown |= {thing.shape, thing.colour, f"{thing.colour} {thing.shape}"}
    return frozenset(shown)


def shows(shown, scene):
    """Whether facts say all that a prompt says (the wanted): things, their colours, the background, the frame.

    shown: a set of FACTS. scene: what the prompt says. With `more` unset no further thing may show.
    """
    left = [Thing(*reversed(fact.split())) for fact in COLOURED if fact in shown]
    if len(left) == 1 and "two things" in shown:
        left *= 2
    return (
        take(left, scene.things)
        and (scene.more or not left)
        and says(shown, BACKGROUNDS, scene.background)
        and (not scene.frame or "frame" in shown)
    )


def hints(shown, negative):
    """Whether facts name what a negative does, one of FACTS (the unwanted)."""
    return negative in shown


def take(left, asked):
    """Takes from a list of Things one for each that is asked for, and says whether all were there."""
    # the most specific first, so that "a red circle and a circle" does not lose the red one to the open one
    for thing in sorted(asked, key=lambda t: (t.shape is None) + (t.colour is None)):
        fitting = [t for t in left if thing.shape in (None, t.shape) and thing.colour in (None, t.colour)]
        if not fitting:
            return False
        left.remove(fitting[0])
    return True


# ---------------------------------------------------------------- cases
def _things(*things, on=None, frame=None):
    """A Scene of shapes, each a name as in "circle" or "red circle"."""
    return Scene(tuple(Thing(*reversed(thing.split())) for thing in things), on, frame)


CASES = (
    Case(_things("circle", on="white"), "red"),
    Case(_things("square", on="black"), "blue"),
    Case(_things("triangle", on="gray"), "yellow"),
    Case(_things("circle", "green square", on="white"), "red"),
    Case(_things("red circle"), "white"),
    Case(_things("purple triangle"), "white"),
    Case(_things("green square", on="white"), "frame"),
    Case(_things("blue circle", on="black"), "frame"),
    # The eight above are those of playground.measure and of the help pages.
    Case(_things("circle", on="black"), "red"),
    Case(_things("circle", on="gray", frame=True), "red"),
    Case(_things("circle", "yellow triangle"), "red"),
    Case(_things("circle", "purple circle", on="gray"), "red"),
    Case(_things("square", on="white"), "blue"),
    Case(_things("square", on="gray"), "blue"),
    Case(_things("green circle", "square"), "blue"),
    Case(_things("triangle", on="white"), "yellow"),
    Case(_things("triangle", on="black", frame=True), "yellow"),
    Case(_things("red square", "triangle", on="black"), "yellow"),
    Case(_things("yellow square"), "white"),
    Case(_things("blue square"), "white"),
    Case(_things("green triangle", frame=True), "white"),
    Case(_things("purple circle", frame=True), "white"),
    Case(_things("circle"), "white"),
    Case(_things("red triangle", "blue circle"), "white"),
    Case(_things("square", "green triangle"), "white"),
    Case(_things("yellow circle", on="gray"), "frame"),
    Case(_things("purple square", on="black"), "frame"),
    Case(_things("red triangle"), "frame"),
    Case(_things("triangle", on="white"), "frame"),
    Case(_things("square", on="gray"), "frame"),
    Case(_things("yellow triangle", "blue square", on="white"), "frame"),
    Case(_things("circle", "red square"), "frame"),
)
