"""What all worlds share: the size of their pictures, words, cases, and how a scene's statements compare with facts."""
import dataclasses
import re

import torch

SIZE = 32  # pixels, each way


class UnknownWord(ValueError):
    """A prompt holds a word that the playground's model has never read."""


@dataclasses.dataclass(frozen=True)
class Case:
    """What a prompt says, a Scene that leaves something open, and, as a negative, what habit would put there."""

    scene: object
    negative: str


def words_of(text, known, aliases):
    """The words of a prompt, in order; case and punctuation do not count. aliases: other spellings, to known words.

    Raises UnknownWord, with the list of known words, because a tiny model has no idea of any other word and would
    ignore it in silence.
    """
    words = [aliases.get(word, word) for word in re.findall(r"[^\W_]+", text.lower())]
    unknown = [word for word in words if word not in known]
    if unknown:
        raise UnknownWord(f"The playground's model does not know {', '.join(map(repr, unknown))}. "
                          f"It knows these words: {', '.join(known)}.")
    return words


def pick(weights, rng):
    """One of the keys of a dict, by its weight. rng: random.Random."""
    return rng.choices(list(weights), list(weights.values()))[0]


def habitual(usual, choices, share, rng):
    """The usual one of some choices in this share of all calls, else any of the others."""
    return usual if rng.random() < share else rng.choice([choice for choice in choices if choice != usual])


def says(shown, group, value):
    """Whether the facts name of a group just what a prompt states, or it states nothing (None)."""
    return value is None or shown.intersection(group) == {value}


def off_palette(pictures, palette, near):
    """The share of pixels that is farther than `near`, in RGB from 0 to 1, from every colour of the palette.

    pictures: (B, 3, 32, 32) or (B, 3, F, 32, 32) from -1 to 1. Gives (B,), float32.
    """
    pixels = (pictures.float().clamp(-1, 1).flatten(2).movedim(1, -1) + 1) / 2
    near_one = torch.cdist(pixels, pixels.new_tensor(list(palette))).amin(-1) <= near  # NaN is not
    return 1 - near_one.float().mean(-1)
