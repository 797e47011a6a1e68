"""Tells the editor what NAG did at each step, and what the user should know of a run."""
import dataclasses
from collections.abc import Callable

from ..patches.sampling.statistics import Step
from .comfyui import send

STATISTICS, NOTICES = "nag.statistics", "nag.notices"  # events


def report_of(node_id: str | None) -> Callable[[Step], None] | None:
    """What sends the steps of a node's NAG to whoever queued the prompt; None where there is no prompt."""
    return None if node_id is None else lambda step: send(STATISTICS, node_id, dataclasses.asdict(step))


def advice_of(node_id: str | None) -> Callable[[list[str]], None]:
    """What sends what is to be said of a node's NAG in one run."""
    return lambda sentences: None if node_id is None else send(NOTICES, node_id, {"notices": sentences})
