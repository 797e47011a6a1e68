"""What finds the nodes in the editor's search for those who do not know the word NAG."""
import dataclasses

from comfy_api.latest import io

# Each is searched by itself. The order counts for nothing.
ALIASES = [
    *("negative prompt", "negative guidance", "normalized attention guidance", "guidance", "cfg 1", "distilled"),
    *("few steps", "turbo", "lightning", "schnell"),
    *("네거티브 프롬프트", "부정 프롬프트", "负面提示词", "反向提示词", "ネガティブプロンプト"),
]
HAS_ALIASES = "search_aliases" in {field.name for field in dataclasses.fields(io.Schema)}


def named(name: str, words: str) -> dict:
    """Of a schema: the node's name, and what else it is found by.

    words: go into the name on a ComfyUI that searches names only, and there by what begins in the first 30 characters.
    """
    if HAS_ALIASES:
        return {"display_name": name, "search_aliases": list(ALIASES)}
    return {"display_name": f"{name} ({words})"}
