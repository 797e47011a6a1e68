"""Tells the editor what NAG did at each step, and what the user should know of a run.

Each of these is called by its node's NAG, maybe in another process by then. It looks for the server only when it is
called, and tells nobody anything where it was not made: a node of that id is another graph's there.
"""
import dataclasses
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from ..patches.sampling.statistics import Step
from ..patches.travelling import Travelling
from .comfyui import send
from .prompt import has_blank_negative

STATISTICS, NOTICES, ERROR = "nag.statistics", "nag.notices", "nag.error"  # events
HERE = uuid.uuid4().hex  # this process


@dataclass(frozen=True)
class OfNode(Travelling):
    """What a node's NAG asks of its editor. node_id: None where there is no prompt; made_in: the process."""

    node_id: str | None
    made_in: str = HERE

    @property
    def at_home(self) -> bool:
        return self.node_id is not None and self.made_in == HERE


class Report(OfNode):
    """Sends the steps of a node's NAG to whoever queued the prompt."""

    def __call__(self, step: Step) -> None:
        if self.at_home:
            send(STATISTICS, self.node_id, dataclasses.asdict(step))


class Advice(OfNode):
    """Sends what is to be said of a node's NAG in one run, and whether for that it does nothing of use."""

    def __call__(self, sentences: list[str], idle: bool) -> None:
        if self.at_home:
            send(NOTICES, self.node_id, {"notices": sentences, "idle": idle})


class Failure(OfNode):
    """Sends the message of an error of a node's NAG."""

    def __call__(self, message: str) -> None:
        if self.at_home:
            send(ERROR, self.node_id, {"message": message})


class BlankNegative(OfNode):
    """Says whether the text of a node's negative is empty, as far as the prompt at work shows it."""

    def __call__(self) -> bool:
        return self.at_home and has_blank_negative(self.node_id)


def report_of(node_id: str | None) -> Callable[[Step], None] | None:
    """None where there is no prompt: nothing is gathered then."""
    return None if node_id is None else Report(node_id)
