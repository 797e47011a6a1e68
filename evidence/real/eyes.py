"""Pictures side by side for human eyes, a page on which they vote, and what the votes say."""
import json
import random
import string
from pathlib import Path

from host.gallery import media

from .pairs import Pair
from .tables import Judged

PAGE, KEY = "eyes.html", "key.json"
TEMPLATE = Path(__file__).with_name(PAGE)
FRAME = 125  # ms of a video's


class BadVotes(ValueError):
    """Votes that can't be counted; says why."""


def write(painted: dict[tuple[Pair, int], dict[str, list[Path]]], folder: Path, title: str, blind: bool) -> Path:
    """The page, its pictures in eyes/, and the key that says which is which. Gives the page's path.

    painted: files by row, by pair and seed. blind: no names of rows, in an order by lot, which is kept from run to run.
    """
    images = folder / "eyes"
    images.mkdir(parents=True, exist_ok=True)
    kept, order, sets = _kept(folder, blind), {}, []
    for (pair, seed), rows in painted.items():
        for number in range(min(map(len, rows.values()))):
            name = f"{pair.number}-{seed}-{number}"
            order[name] = _order(list(rows), kept.get(name), blind)
            shown = []
            for letter, row in zip(string.ascii_uppercase, order[name]):
                place = images / f"{name}-{letter}.webp"
                _copy(rows[row][number], place, anew=kept.get(name) != order[name])
                shown.append({"name": place.stem, "file": f"eyes/{place.name}", "label": letter if blind else row})
            sets.append({"prompt": pair.prompt, "negative": pair.negative, "pictures": shown})
    key = {"title": title, "blind": blind, "pairs": list({pair.number: pair for pair, _ in painted}.values()),
           "rows": list(next(iter(painted.values()))), "order": order}
    (folder / KEY).write_text(json.dumps(key), encoding="utf-8")
    data = json.dumps({"title": title, "sets": sets}).replace("<", "\\u003c")
    page = folder / PAGE
    page.write_text(TEMPLATE.read_text(encoding="utf-8").replace('"DATA"', data), encoding="utf-8")
    return page


def tally(folder: Path, votes: list[Path]) -> tuple[str, list[Judged]]:
    """The title of what was painted, and what the voters say of each picture. Raises BadVotes."""
    try:
        key = json.loads((folder / KEY).read_text(encoding="utf-8"))
    except OSError:
        raise BadVotes(f"{folder} has no {KEY}: paint first, without a judge but eyes.") from None
    pairs = {pair.number: pair for pair in (Pair(*each) for each in key["pairs"])}
    judged = []
    for path in votes:
        for name, said in _votes(path).items():
            *place, letter = name.split("-")
            order = key["order"].get("-".join(place), [])
            at = string.ascii_uppercase.find(letter)
            if not 0 <= at < len(order):
                raise BadVotes(f"{path} has a vote on {name}, which is not in {folder / KEY}: it is of other pictures.")
            if {"unwanted", "wanted"} <= said.keys():  # or half a vote
                number, seed, picture = map(int, place)
                judged.append(Judged(pairs[number], seed, picture, order[at],
                                     {what: float(said[what]) for what in ("unwanted", "wanted")}))
    if not judged:
        raise BadVotes("There is no vote in it with both questions answered.")
    return key["title"], sorted(judged, key=lambda each: (key["rows"].index(each.row), each.like))


def _votes(path):
    try:
        votes = json.loads(path.read_text(encoding="utf-8"))["votes"]
        assert all(isinstance(said, dict) for said in votes.values())
        return votes
    except (OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError):
        raise BadVotes(f"{path} is no file that the page's button for votes has saved.") from None


def _kept(folder, blind):
    """The order of the rows for each set of pictures, as it was when the page was last written in this way."""
    try:
        key = json.loads((folder / KEY).read_text(encoding="utf-8"))
        return key["order"] if key["blind"] == blind else {}
    except (OSError, ValueError, KeyError):
        return {}


def _order(rows, before, blind):
    if before is not None and sorted(before) == sorted(rows):
        return before
    return random.SystemRandom().sample(rows, len(rows)) if blind else rows


def _copy(source, place, anew):
    """A picture without what ComfyUI writes into it, which would give away how it was made."""
    if not anew and place.is_file() and place.stat().st_mtime_ns >= source.stat().st_mtime_ns:
        return
    first, *others = media.frames_of(source)
    first.save(place, "WEBP", quality=90, save_all=bool(others), append_images=others, duration=FRAME, loop=0)
