"""In which of a model's blocks NAG acts, as a text says it.

"all", or terms with commas between: numbers count all blocks where text meets image, in the order in which they run
("0-11, 18"); the name of one of the model's lists, which is what stands in front of `_blocks`, is for all of that list
("double") or, with numbers, for those within it ("input 4-8").
"""
import itertools
import re
from collections.abc import Sequence

Label = tuple[str, int]  # of a block: the name of its list, and its number in it

ALL = "all"
_TERM = re.compile(r"([a-z][a-z_.]*)?\s*(?:(\d+)\s*(?:[-–]\s*(\d+))?)?")
UNREADABLE = (
    '{!r} in blocks can\'t be read. Write "all", or numbers and names of the model\'s lists with commas between, such '
    'as "0-11, 18" or "double, single 4-8".'
)
NOT_THERE = "{!r} in blocks is not in this model. It has {}, counted through 0 to {}."


def list_name(path: str) -> str:
    """What people call a model's list of blocks, of its path."""
    return re.sub(r"(_stream)?_blocks$", "", path.rpartition(".")[2])


def check(text: str) -> None:
    """Raise a ValueError if this says of no model which blocks are meant."""
    _terms(text)


def chosen(text: str, labels: Sequence[Label]) -> frozenset[Label]:
    """Those that a text means.

    Args:
        labels: all that a model has, in order.

    Raises:
        ValueError: the text can't be read, or means what is not there; it says what is.
    """
    found = set()
    for term, name, first, last in _terms(text):
        if name in (None, ALL):
            numbered = dict(enumerate(labels))
        else:
            numbered = {label[1]: label for label in labels if label[0] == name}
        of_term = {label for number, label in numbered.items() if first is None or first <= number <= last}
        if not of_term or first is not None and last > max(numbered):
            raise ValueError(NOT_THERE.format(term, _said(labels), len(labels) - 1))
        found |= of_term
    return frozenset(found)


def _terms(text):
    """[(term, name of a list or None, first number or None, last number or None)]."""
    if not isinstance(text, str):
        raise ValueError(UNREADABLE.format(text))
    terms = [term.strip() for term in text.split(",") if term.strip()]
    return [(term, *_read(term)) for term in terms or ([ALL] if not text.strip() else [text])]


def _read(term):
    match = _TERM.fullmatch(term.lower())
    if match is None:
        raise ValueError(UNREADABLE.format(term))
    name, first, last = match.groups()
    first = first and int(first)
    last = first if last is None else int(last)
    if name == ALL and first is not None or None not in (first, last) and first > last:
        raise ValueError(UNREADABLE.format(term))
    return name and list_name(name), first, last


def _said(labels):
    """As "double 0 to 18 and single 0 to 37"."""
    lists = itertools.groupby(labels, lambda label: label[0])
    *others, last = [f"{name} {_ranges([number for _, number in of_list])}" for name, of_list in lists]
    return f"{', '.join(others)} and {last}" if others else last


def _ranges(numbers):
    """As "0 to 3, 7"."""
    runs = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in runs)
