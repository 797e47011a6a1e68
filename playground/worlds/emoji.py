"""Emoji: what prompts say of them, and what pictures show.

A picture is 32x32 pixels: a drawing by one of three artists on a plain background, perhaps with a small companion. A
prompt may leave anything but the subject open, and then habit decides: seven cats in ten are by Noto and on pink, six
animals in ten have a heart. The drawings are the artists' own, see drawings/LICENCES.md.
"""
import dataclasses
import functools
import itertools
import pathlib
import re

import numpy
import torch

from . import language
from .language import SIZE, Case, habitual, says

name = "emoji"
FRAMES = 1

SHEET = pathlib.Path(__file__).parent / "drawings" / "emoji.png"
CELL = 24  # pixels, each way, of a subject's drawing and of each cell of the sheet
SMALL = 11  # pixels of a companion, at the upper left of its cell
SUBJECT_AT, COMPANION_AT = (4, 4), (1, 20)  # top, left; both shift together by up to
JITTER = 1

STYLES = ("noto", "twemoji", "fluent")
BACKGROUNDS = {
    "white": (0.97, 0.97, 0.97),
    "black": (0.10, 0.10, 0.12),
    "blue": (0.55, 0.75, 0.96),
    "green": (0.60, 0.84, 0.60),
    "pink": (0.98, 0.74, 0.83),
}
COMPANIONS = {"heart": "2764-fe0f", "clover": "1f340", "star": "2b50"}


@dataclasses.dataclass(frozen=True)
class Habit:
    """What a subject mostly comes with. code: its number in Unicode, which is its file's name."""

    code: str
    style: str
    background: str
    companion: str


ANIMALS = {
    "cat": ("1f431", "noto", "pink"),
    "dog": ("1f436", "twemoji", "white"),
    "fox": ("1f98a", "fluent", "green"),
    "panda": ("1f43c", "noto", "green"),
    "pig": ("1f437", "twemoji", "pink"),
    "frog": ("1f438", "fluent", "blue"),
    "lion": ("1f981", "noto", "blue"),
    "penguin": ("1f427", "twemoji", "blue"),
    "owl": ("1f989", "fluent", "black"),
    "fish": ("1f420", "noto", "blue"),
    "crab": ("1f980", "twemoji", "blue"),
    "turtle": ("1f422", "fluent", "white"),
    "butterfly": ("1f98b", "noto", "white"),
    "octopus": ("1f419", "twemoji", "black"),
}
FOOD = {
    "apple": ("1f34e", "noto", "green"),
    "banana": ("1f34c", "twemoji", "green"),
    "cherry": ("1f352", "fluent", "pink"),
    "strawberry": ("1f353", "noto", "white"),
    "pineapple": ("1f34d", "twemoji", "black"),
    "watermelon": ("1f349", "fluent", "blue"),
    "carrot": ("1f955", "noto", "black"),
    "mushroom": ("1f344", "twemoji", "green"),
    "pizza": ("1f355", "fluent", "black"),
    "burger": ("1f354", "noto", "pink"),
    "donut": ("1f369", "twemoji", "pink"),
    "cake": ("1f370", "fluent", "pink"),
    "avocado": ("1f951", "noto", "white"),
}
THINGS = {
    "rocket": ("1f680", "noto", "black"),
    "car": ("1f697", "twemoji", "white"),
    "house": ("1f3e0", "fluent", "green"),
    "umbrella": ("2614", "noto", "white"),
    "guitar": ("1f3b8", "twemoji", "black"),
    "balloon": ("1f388", "fluent", "blue"),
    "gift": ("1f381", "noto", "pink"),
    "clock": ("23f0", "twemoji", "pink"),
    "key": ("1f511", "fluent", "white"),
    "cactus": ("1f335", "noto", "black"),
    "sunflower": ("1f33b", "twemoji", "blue"),
    "ball": ("26bd", "fluent", "green"),
    "train": ("1f682", "twemoji", "white"),
}
SUBJECTS = {
    subject: Habit(*habit, companion)
    for kind, companion in ((ANIMALS, "heart"), (FOOD, "clover"), (THINGS, "star"))
    for subject, habit in kind.items()
}
STYLE_HABIT, BACKGROUND_HABIT = 0.7, 0.7  # the others share the rest
COMPANION_HABIT = 0.6  # else none

WORDS = ("a", "by", "on", "with", *SUBJECTS, *STYLES, *BACKGROUNDS, *COMPANIONS)
ALIASES = {"an": "a", "hamburger": "burger", "doughnut": "donut", "cherries": "cherry", "tomcat": "cat",
           **{f"{word}s": word for word in SUBJECTS if word != "cherry"}, "hearts": "heart", "stars": "star"}
MAX_WORDS = 9  # of a prompt that random_request() gives: "a cat by noto on blue with a heart"


def words_of(text):
    """The words of a prompt, in order. Raises UnknownWord."""
    return language.words_of(text, WORDS, ALIASES)


# ---------------------------------------------------------------- scenes and prompts
@dataclasses.dataclass(frozen=True)
class Scene:
    """What a prompt says, None for what it leaves open, or, with nothing open, what a picture shows.

    A companion of "" says that there is none, which a prompt cannot.
    """

    subject: str | None = None
    style: str | None = None
    background: str | None = None
    companion: str | None = None


def complete(scene, rng):
    """Fill in by habit what a prompt leaves open. `rng` is a random.Random. Gives a Scene without None."""
    subject = scene.subject or rng.choice(list(SUBJECTS))
    habit = SUBJECTS[subject]
    companion = scene.companion
    if companion is None:
        companion = habit.companion if rng.random() < COMPANION_HABIT else ""
    return Scene(
        subject,
        scene.style or habitual(habit.style, STYLES, STYLE_HABIT, rng),
        scene.background or habitual(habit.background, BACKGROUNDS, BACKGROUND_HABIT, rng),
        companion,
    )


def without_habit(rng):
    """A random complete Scene in which everything is equally likely, and no companion as likely as each."""
    subject, style, background = (rng.choice(KINDS[kind]) for kind in ("subject", "style", "background"))
    return Scene(subject, style, background, rng.choice(("", *COMPANIONS)))


def random_request(rng):
    """A random (prompt, Scene of what it says): three in four are sentences ("a cat by noto on blue"), the rest is a
    few bare words, as in negatives ("noto", "blue heart"), and one in twelve is empty."""
    kind = rng.random()
    if kind < 1 / 12:
        return "", Scene()
    style, background = rng.choice(STYLES), rng.choice(list(BACKGROUNDS))
    companion, subject = rng.choice(list(COMPANIONS)), rng.choice(list(SUBJECTS))
    if kind < 1 / 4:
        facts = {"style": style, "background": background, "companion": companion, "subject": subject}
        said = rng.sample(list(facts), 1 if rng.random() < 0.7 else 2)
        return " ".join(facts[what] for what in said), Scene(**{what: facts[what] for what in said})
    scene = Scene(
        subject,
        style if rng.random() < 0.4 else None,
        background if rng.random() < 0.4 else None,
        companion if rng.random() < 0.2 else None,
    )
    prompt = describe(scene)
    if rng.random() < 0.25:
        prompt = re.sub(r"\ban? ", "", prompt)
    return prompt, scene


def describe(scene):
    """The sentence that says what `scene` states: "a cat by noto on blue with a heart"."""
    article = "an" if scene.subject and scene.subject[0] in "aou" else "a"
    parts = {article: scene.subject, "by": scene.style, "on": scene.background, "with a": scene.companion}
    return " ".join(f"{word} {said}" for word, said in parts.items() if said)


# ---------------------------------------------------------------- drawing
def draw(scenes, rng):
    """Draw complete scenes, each shifted by up to JITTER pixels. rng: random.Random.

    Gives (B, 3, 32, 32), red, green and blue from -1 to 1.
    """
    subjects, companions = _drawings()
    style = torch.tensor([STYLES.index(scene.style) for scene in scenes])
    subject = torch.tensor([list(SUBJECTS).index(scene.subject) for scene in scenes])
    companion = torch.tensor([["", *COMPANIONS].index(scene.companion) for scene in scenes])
    shift = torch.tensor([[rng.randint(-JITTER, JITTER) for _ in range(2)] for _ in scenes])
    # what leaves at one side comes in at the other, where all is transparent
    y, x = ((torch.arange(SIZE) - shift[:, axis, None]) % SIZE for axis in range(2))
    picture = torch.tensor([BACKGROUNDS[scene.background] for scene in scenes])[:, None, None]
    for layers, which in ((subjects, subject), (companions, companion)):
        layer = layers[style[:, None, None], which[:, None, None], y[:, :, None], x[:, None, :]]
        picture = torch.lerp(picture.expand(-1, SIZE, SIZE, -1), layer[..., :3], layer[..., 3:])
    return picture.movedim(-1, 1).contiguous() * 2 - 1


@functools.cache
def _drawings():
    """Two float32 tensors (styles, subjects, 32, 32, 4) and (styles, 1 + companions, 32, 32, 4), red, green, blue and
    alpha from 0 to 1: each drawing at its place. Companion 0 is none."""
    from PIL import Image

    with Image.open(SHEET) as image:
        sheet = torch.from_numpy(numpy.array(image)).float() / 255
    cells = sheet.unflatten(0, (-1, CELL)).unflatten(2, (-1, CELL)).transpose(1, 2)
    cells = cells.flatten(0, 1)[: len(STYLES) * (len(SUBJECTS) + len(COMPANIONS))].unflatten(0, (len(STYLES), -1))
    subjects = _placed(cells[:, : len(SUBJECTS)], SUBJECT_AT)
    companions = _placed(cells[:, len(SUBJECTS) :, :SMALL, :SMALL], COMPANION_AT)
    return subjects, torch.cat([torch.zeros_like(companions[:, :1]), companions], 1)


def _placed(cells, at):
    """(..., H, W, 4) drawings at (top, left) of empty ones of full size."""
    (top, left), (height, width) = at, cells.shape[-3:-1]
    return torch.nn.functional.pad(cells, (0, 0, left, SIZE - left - width, top, SIZE - top - height))


def off_palette(pictures):
    """None: a drawing has any colour."""
    return None


# ---------------------------------------------------------------- what a picture can show
KINDS = {"subject": tuple(SUBJECTS), "style": STYLES, "background": tuple(BACKGROUNDS), "companion": tuple(COMPANIONS)}
FORMS = ("subject",)  # the kinds that a bent picture does not show any more
FACTS = tuple(itertools.chain(*KINDS.values()))


def facts(scene):
    """What a complete scene shows: a frozenset of FACTS."""
    return frozenset(filter(None, dataclasses.astuple(scene)))


def shows(shown, scene):
    """Whether facts say all that a prompt says (the wanted), and of what it speaks of nothing else.

    shown: a set of FACTS. scene: what the prompt says. Where it says nothing of a companion, any may show.
    """
    said = zip(KINDS.values(), dataclasses.astuple(scene))
    return all(says(shown, group, value) for group, value in said)


def hints(shown, negative):
    """Whether facts name what a negative does, one of FACTS (the unwanted)."""
    return negative in shown


# ---------------------------------------------------------------- cases
def _without(habit, subject, **said):
    """The case of a subject whose habit, of this name, is unwanted. said: what the prompt says beside the subject."""
    return Case(Scene(subject, **said), getattr(SUBJECTS[subject], habit))


CASES = (
    _without("style", "cat"),
    _without("style", "pig", background="white"),
    _without("style", "frog"),
    _without("style", "lion", background="green"),
    _without("style", "crab"),
    _without("style", "cherry", background="blue"),
    _without("style", "strawberry"),
    _without("style", "pineapple", companion="star"),
    _without("style", "cake", background="black"),
    _without("style", "rocket"),
    _without("style", "clock", background="green"),
    _without("style", "balloon"),
    _without("background", "dog"),
    _without("background", "fish", style="twemoji"),
    _without("background", "owl"),
    _without("background", "panda", style="fluent"),
    _without("background", "apple"),
    _without("background", "donut", style="noto"),
    _without("background", "avocado"),
    _without("background", "guitar", style="fluent"),
    _without("background", "sunflower"),
    _without("background", "gift", style="twemoji"),
    _without("companion", "fox"),
    _without("companion", "penguin", background="pink"),
    _without("companion", "turtle", style="noto"),
    _without("companion", "butterfly"),
    _without("companion", "banana", background="blue"),
    _without("companion", "watermelon", style="twemoji"),
    _without("companion", "mushroom"),
    _without("companion", "car", background="pink"),
    _without("companion", "house", style="noto"),
    _without("companion", "ball"),
)
