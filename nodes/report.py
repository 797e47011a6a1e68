"""Tells the editor what NAG did at each step."""
import dataclasses
from collections.abc import Callable

from ..patches.statistics import Step
from .comfyui import running_server

EVENT = "nag.statistics"


def report_of(node_id: str | None) -> Callable[[Step], None] | None:
    """What sends the steps of a node's NAG to whoever queued the prompt; None where there is no prompt."""
    return None if node_id is None else lambda step: _send(node_id, step)


def _send(node_id, step):
    from comfy_execution.utils import get_executing_context

    server, context = running_server(), get_executing_context()
    if server is not None and server.client_id is not None:  # else nobody listens for this prompt
        message = {"node": node_id, "prompt_id": context and context.prompt_id, **dataclasses.asdict(step)}
        server.send_sync(EVENT, message, server.client_id)
