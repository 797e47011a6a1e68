"""What is asked of the server for each picture: a shipped prompt, cut down to the picture that NAG is in."""
import copy
from dataclasses import dataclass

SHOWING = ("SaveImage", "PreviewImage", "SaveAnimated", "SaveVideo", "SaveWEBM", "SaveAudio", "PreviewAudio")
SEEDS = ("seed", "noise_seed")
TEXTS = ("text", "prompt", "tags")  # inputs of the nodes that encode one
FOR_CFG = "Negative prompt for CFG"  # the title of a node that NAG has nothing to do with


@dataclass(frozen=True)
class Lacking:
    """What a workflow needs and the server has not.

    Args:
        what: a file, as "models/FOLDER/NAME" or "input/NAME", or nodes.
        url: where it is to be had, if the graph says so.
    """

    what: str
    url: str = ""


NO_NAG = Lacking("a NAG node to turn off")  # as where NAG Grid shows it on and off by itself


def guided(prompt: dict, nodes: dict) -> dict | None:
    """A prompt with no output but the first one that NAG has a part in; None if there is none.

    prompt: in API format; nodes: the server's, as object_info gives them.
    """
    for output in (key for key, node in prompt.items() if node["class_type"].startswith(SHOWING)):
        needed = _behind(prompt, output)
        part = {key: node for key, node in prompt.items() if key in needed}
        if any(_asks_for_nag(node, nodes) for node in part.values()):
            return part
    return None


def without_nag(prompt: dict, nodes: dict) -> dict:
    """The prompt with NAG off, which paints what the same graph without NAG nodes does, to the bit."""
    off = {key: {"nag_alpha": 0.0} for key, node in prompt.items() if _asks_for_nag(node, nodes)}
    return _changed(prompt, off)


def seeded(prompt: dict, seed: int) -> dict:
    """The prompt with this seed wherever it has one, also where a primitive node brings it."""
    given = [(key, name, node["inputs"].get(name)) for key, node in prompt.items() for name in SEEDS]
    places = [(value[0], "value") if isinstance(value, list) else (key, name) for key, name, value in given]
    numbers = [(key, name) for key, name in places if type(prompt[key]["inputs"].get(name)) is int]
    return _changed(prompt, {key: {each: seed for at, each in numbers if at == key} for key, _ in numbers})


def texts(prompt: dict) -> tuple[str, str]:
    """(the prompt, NAG's negative), by the titles that all shipped graphs give them; several are joined."""
    titled = [(node.get("_meta", {}).get("title", ""), node["inputs"]) for node in prompt.values()]
    said = [(title, text) for title, inputs in titled if (text := _text(inputs))]
    positive = [text for title, text in said if title.startswith("Prompt")]
    negative = [text for title, text in said if title.startswith("Negative prompt") and title != FOR_CFG]
    return " | ".join(positive), " | ".join(negative)


def lacking(prompt: dict, graph: dict, nodes: dict) -> list[Lacking]:
    """What the server lacks for a prompt. graph: the same in editor format, which says where files are to be had."""
    unknown = sorted({node["class_type"] for node in prompt.values()} - nodes.keys())
    if unknown:
        return [Lacking(f"nodes: {', '.join(unknown)}")]
    places = {model["name"]: Lacking(f"models/{model['directory']}/{model['name']}", model["url"])
              for model in _models(graph)}
    found = []
    for node in prompt.values():
        for name, value in node["inputs"].items():
            choices = _choices(nodes[node["class_type"]], name)
            if isinstance(value, str) and choices is not None and value not in choices:
                otherwise = f"input/{value}" if node["class_type"] == "LoadImage" else f"{name} {value}"
                found.append(places.get(value, Lacking(otherwise)))
    return list(dict.fromkeys(found))


def _models(graph):
    """The files that a graph's nodes name, also those of its subgraphs."""
    inner = graph.get("definitions", {}).get("subgraphs", ())
    return [model for part in (graph, *inner) for node in part["nodes"]
            for model in node.get("properties", {}).get("models", ())]


def _asks_for_nag(node, nodes):
    declared = nodes.get(node["class_type"], {}).get("input", {})
    return any("nag_alpha" in declared.get(group, {}) for group in ("required", "optional"))


def _behind(prompt, output):
    """The ids of a node and of all that it is made of."""
    found, ahead = set(), [output]
    while ahead:
        key = ahead.pop()
        if key not in found:
            found.add(key)
            ahead += [value[0] for value in prompt[key]["inputs"].values() if isinstance(value, list)]
    return found


def _changed(prompt, inputs):
    """A copy with these inputs, {node: {name: value}}."""
    made = copy.deepcopy(prompt)
    for key, values in inputs.items():
        made[key]["inputs"].update(values)
    return made


def _text(inputs):
    return next((inputs[name] for name in TEXTS if isinstance(inputs.get(name), str)), "")


def _choices(info, name):
    """What an input may be chosen from; None if it is not chosen from a list."""
    for group in ("required", "optional"):
        kind, *options = info["input"].get(group, {}).get(name) or [None]
        if isinstance(kind, list):
            return kind
        if kind == "COMBO" and options:
            return options[0].get("options")
    return None
