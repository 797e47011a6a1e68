"""The world `shapes` read back by its pixels' colours and outlines, without a network: what `measure` tabulates."""
import dataclasses

import numpy
import scipy.ndimage
import torch

from .shapes import BACKGROUNDS, COLOURS, NEAR, PALETTE, SIZE, Thing, frame_ring, outline

SMALLEST_PATCH = 30  # pixels; the smallest shape drawn covers 60


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


def read(pictures):
    """(B, 3, 32, 32) from -1 to 1. Gives for each the set of those of the world's FACTS that it shows."""
    return [_facts(see(picture)) for picture in pictures]


def _facts(seen):
    shown = {seen.background, *(["frame"] if seen.frame > 0.7 else []), *(["two things"] if seen.things[1:] else [])}
    for thing in seen.things:
        shown |= {thing.shape, thing.colour, f"{thing.colour} {thing.shape}"}
    return frozenset(fact for fact in shown if fact and "None" not in fact)
