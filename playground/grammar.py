"""The world of the playground: what its prompts say, what its pictures show, and how to read a picture back.

A picture is 32x32 pixels: one or two plain shapes on a plain background, perhaps in a wooden frame. A prompt may leave
anything open, and then habit decides: seven circles in ten are red, six backgrounds in ten are white, every second
picture is framed. Those habits are what a negative prompt has to fight, as it fights glasses on portraits.
"""
import dataclasses
import re

import numpy
import scipy.ndimage
import torch

SIZE = 32
MAX_WORDS, FRAMES = 12, 1
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

HABITUAL_COLOUR = {"circle": "red", "square": "blue", "triangle": "yellow"}
COLOUR_HABIT = 0.7  # the other four colours share the rest
BACKGROUND_HABIT = {"white": 0.6, "black": 0.2, "gray": 0.2}
FRAME_HABIT = 0.5

WORDS = ("a", "and", "on", "with", "frame", *SHAPES, *COLOURS, *BACKGROUNDS)
ALIASES = {"an": "a", "grey": "gray", "circles": "circle", "squares": "square", "triangles": "triangle",
           "frames": "frame", "framed": "frame"}


class UnknownWord(ValueError):
    """A prompt holds a word that the playground's model has never read."""


def words_of(text):
    """The words of a prompt, in order; case and punctuation do not count.

    Raises UnknownWord, with the list of known words, because a tiny model has no idea of any other word and would
    ignore it in silence.
    """
    words = [ALIASES.get(word, word) for word in re.findall(r"[^\W_]+", text.lower())]
    unknown = [word for word in words if word not in WORDS]
    if unknown:
        raise UnknownWord(f"The playground's model does not know {', '.join(map(repr, unknown))}. "
                          f"It knows these words: {', '.join(WORDS)}.")
    return words


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
        background=scene.background or _pick(BACKGROUND_HABIT, rng),
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


def _pick(weights, rng):
    return rng.choices(list(weights), list(weights.values()))[0]


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


# ---------------------------------------------------------------- reading a picture back
@dataclasses.dataclass(frozen=True)
class Seen:
    """What the detector finds in a picture.

    things: (shape or None, colour or None) of each coloured patch. background: its name or None. frame: the share of
    the picture's edge that has the frame's colour. shares: the share of the picture's pixels in each colour,
    backgrounds included. odd: the share of pixels that is far from every colour of the palette.
    """

    things: tuple[Thing, ...]
    background: str | None
    frame: float
    shares: dict[str, float]
    odd: float


PALETTE = {**COLOURS, **BACKGROUNDS, "frame": FRAME}
NEAR = 0.3  # in RGB from 0 to 1: still that colour
SMALLEST_PATCH = 30  # pixels; the smallest shape drawn covers 60


def see(picture):
    """Read one picture, (3, 32, 32) from -1 to 1. Gives a Seen."""
    pixels = (picture.float().clamp(-1, 1).movedim(0, -1) + 1) / 2
    distance = torch.cdist(pixels.reshape(-1, 3), torch.tensor(list(PALETTE.values())))
    nearest, index = distance.min(1)
    names = numpy.array(list(PALETTE))[index.numpy()]
    names[(nearest > NEAR).numpy()] = ""
    names = names.reshape(SIZE, SIZE)
    ring = frame_ring().numpy()
    inside = names[~ring]
    shares = {name: float((inside == name).mean()) for name in (*COLOURS, *BACKGROUNDS)}
    background = max(BACKGROUNDS, key=shares.get)
    return Seen(
        things=tuple(_patches(names, ring)),
        background=background if shares[background] > 0.25 else None,
        frame=float((names[ring] == "frame").mean()),
        shares=shares,
        odd=float((names == "").mean()),
    )


def _patches(names, ring):
    """The coloured patches inside the frame, each as a Thing."""
    coloured = numpy.isin(names, list(COLOURS)) & ~ring
    labels, count = scipy.ndimage.label(coloured)
    for label in range(1, count + 1):
        patch = labels == label
        if patch.sum() < SMALLEST_PATCH:
            continue
        values, counts = numpy.unique(names[patch], return_counts=True)
        colour = values[counts.argmax()] if counts.max() > 0.7 * counts.sum() else None
        yield Thing(_shape_of(patch), None if colour is None else str(colour))


def _shape_of(patch):
    """The shape that covers a patch best, or None when none covers it well. `patch` is (32, 32) bool."""
    rows, columns = numpy.nonzero(patch.any(1))[0], numpy.nonzero(patch.any(0))[0]
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    radius = (right - left) / 2
    if not 0.6 < (bottom - top) / (right - left) < 1.6:
        return None
    grid = torch.arange(SIZE) + 0.5
    dy, dx = torch.meshgrid(grid - (top + bottom) / 2, grid - (left + right) / 2, indexing="ij")
    fits = {
        "circle": outline("circle", dx, dy, radius),
        "square": outline("square", dx, dy, radius / 0.88),
        "triangle": outline("triangle", dx, dy - 0.075 * radius, radius),  # its box reaches from -0.95 to 0.8 radii
    }
    overlap = {shape: _overlap(patch, (distance < 0).numpy()) for shape, distance in fits.items()}
    best = max(overlap, key=overlap.get)
    return best if overlap[best] > 0.65 else None


def _overlap(a, b):
    return (a & b).sum() / (a | b).sum()


def shows(seen, asked):
    """Whether a picture shows all that a prompt says (the wanted): things, their colours, the background, the frame.

    seen: Seen. asked: Scene. With `more` unset no further thing may show.
    """
    left = list(seen.things)
    # the most specific first, so that "a red circle and a circle" does not lose the red one to the open one
    for thing in sorted(asked.things, key=lambda t: (t.shape is None) + (t.colour is None)):
        fitting = [t for t in left if thing.shape in (None, t.shape) and thing.colour in (None, t.colour)]
        if not fitting:
            return False
        left.remove(fitting[0])
    return (
        (asked.more or not left)
        and asked.background in (None, seen.background)
        and (not asked.frame or seen.frame > 0.7)
    )


def hints(seen, word):
    """Whether a picture shows any noticeable amount of what a single word names (the unwanted).

    Far stricter than `shows`: three pixels in a hundred of a colour, half a frame or a tenth of a background are
    enough to count against a negative prompt. word: a colour, a background, a shape or "frame".
    """
    if word == "frame":
        return seen.frame > 0.5
    if word in COLOURS:
        return seen.shares[word] > 0.03
    if word in BACKGROUNDS:
        return seen.shares[word] > 0.10
    return any(thing.shape == word for thing in seen.things)
