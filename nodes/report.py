"""Tells the editor what NAG did at each step, and what the user should know of a run."""
import dataclasses
from collections.abc import Callable

from ..patches.sampling.statistics import Step
from .comfyui import send

STATISTICS, NOTICES, ERROR = "nag.statistics", "nag.notices", "nag.error"  # events


def report_of(node_id: str | None) -> Callable[[Step], None] | None:
    """What sends the steps of a node's NAG to whoever queued the prompt; None where there is no prompt."""
    return None if node_id is None else lambda step: send(STATISTICS, node_id, dataclasses.asdict(step))


def advice_of(node_id: str | None) -> Callable[[list[str], bool], None]:
    """What sends what is to be said of a node's NAG in one run, and whether for that it does nothing of use."""

    def advise(sentences, idle):
        if node_id is not None:
            send(NOTICES, node_id, {"notices": sentences, "idle": idle})

    return advise


def failure_of(node_id: str | None) -> Callable[[str], None]:
    """What sends the message of an error of a node's NAG."""
    return lambda message: None if node_id is None else send(ERROR, node_id, {"message": message})
