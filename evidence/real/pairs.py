"""What is painted: prompts, each with a negative that names a usual part of its picture."""
import csv
from pathlib import Path
from typing import NamedTuple

PICTURES, VIDEOS = (Path(__file__).with_name(f"{name}.csv") for name in ("pictures", "videos"))


class BadPairs(ValueError):
    """A list of prompts that can't be read; says which line, and why."""


class Pair(NamedTuple):
    """number: its place in the list, from 1. kind: of what the negative names, such as "colour"; may be empty."""

    number: int
    prompt: str
    negative: str
    kind: str = ""


def read(path: Path) -> list[Pair]:
    """The pairs of a CSV file with the columns prompt, negative and, if you like, kind. Raises BadPairs."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadPairs(f"{path} can't be read as CSV: {error}") from None
    if not rows or not {"prompt", "negative"} <= rows[0].keys():
        raise BadPairs(f"{path} needs a first line that names the columns prompt and negative, and a line a pair.")
    pairs = []
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise BadPairs(f"{path}, pair {number}: not as many columns as the first line names. Text with a comma "
                           'stands in "quotes".')
        texts = {name: text.strip() for name, text in row.items()}
        if not texts["prompt"] or not texts["negative"]:
            raise BadPairs(f"{path}, pair {number}: the prompt or the negative is empty.")
        pairs.append(Pair(number, texts["prompt"], texts["negative"], texts.get("kind", "")))
    return pairs
