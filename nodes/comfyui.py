"""ComfyUI as it runs around our nodes: its server, and its own nodes."""
import sys

import nodes  # ComfyUI's module of this name


def running_server():
    """ComfyUI's PromptServer; None where ComfyUI is used as a library, and importing its server may fail."""
    return getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)


def running_prompt() -> tuple[dict, str | None]:
    """The prompt at work, as ComfyUI's API takes it, and the id of its node that runs; ({}, None) where none is."""
    from comfy_execution.utils import get_executing_context

    server, context = running_server(), get_executing_context()
    if server is not None and context is not None:
        for _, prompt_id, prompt, *_ in server.prompt_queue.currently_running.values():
            if prompt_id == context.prompt_id:
                return prompt, context.node_id
    return {}, None


def send(event: str, node_id: str, message: dict) -> None:
    """Tell whoever queued the prompt at work something about one of its nodes."""
    from comfy_execution.utils import get_executing_context

    server, context = running_server(), get_executing_context()
    if server is not None and server.client_id is not None:  # else nobody listens for this prompt
        whose = {"node": node_id, "prompt_id": context and context.prompt_id}
        server.send_sync(event, {**whose, **message}, server.client_id)


def category_of(node_id: str, otherwise: str) -> str:
    """The category of one of ComfyUI's own nodes, which differs between its versions."""
    return getattr(nodes.NODE_CLASS_MAPPINGS.get(node_id), "CATEGORY", otherwise)


def run(node: type, **values) -> tuple:
    """The outputs of one of ComfyUI's own nodes; which of them are of its older API and which of its newer differs."""
    result = getattr(node(), node.FUNCTION)(**values)
    return tuple(getattr(result, "result", result))
