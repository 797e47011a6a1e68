"""What the prompt that runs says of a negative, and its conditioning does not show: whether its text is empty."""
import nodes  # ComfyUI's module of this name

from .comfyui import running_prompt

NEGATIVES = ("nag_negative", "negative")  # inputs, the first that is connected counts


def has_blank_negative(node_id: str | None) -> bool:
    """Whether the negative that a NAG node works with comes from empty texts only, as far as the prompt shows it.

    node_id: of the NAG node. The negative may also be that of the sampler that runs now.
    """
    prompt, sampler_id = running_prompt()
    if node_id not in prompt:  # a node that another one has expanded to
        return False
    links = [link for each in (node_id, sampler_id) for link in _negatives_of(prompt, each)]
    return bool(links) and _is_blank(prompt, links[0], set())


def _negatives_of(prompt, node_id):
    """The links to a node's negative, or to that of its guider."""
    inputs = prompt.get(node_id, {}).get("inputs", {})
    links = [inputs[name] for name in NEGATIVES if _is_link(inputs.get(name))]
    if not links and _is_link(inputs.get("guider")):
        return _negatives_of(prompt, inputs["guider"][0])
    return links


def _is_blank(prompt, link, passed):
    """Whether a conditioning is the encoding of an empty text, or made of such only."""
    node_id, slot = link
    node = prompt.get(node_id)
    if node is None or node_id in passed:
        return False
    declared, outputs = _schema(node["class_type"])
    inputs = node["inputs"]
    names = [name for name, kind in declared.items() if kind == "CONDITIONING" and _is_link(inputs.get(name))]
    if names:
        if len(names) == outputs.count("CONDITIONING"):  # as of nodes that take a positive and a negative
            names = names[outputs[:slot].count("CONDITIONING") :][:1]
        return bool(names) and all(_is_blank(prompt, inputs[name], passed | {node_id}) for name in names)
    texts = [_text(prompt, inputs[name]) for name, kind in declared.items() if kind == "text" and name in inputs]
    return "CLIP" in declared.values() and bool(texts) and all(text is not None and not text.strip() for text in texts)


def _text(prompt, value):
    """A text, or that of a primitive node; None where another node makes it."""
    if _is_link(value):
        value = prompt.get(value[0], {}).get("inputs", {}).get("value")
    return value if isinstance(value, str) else None


def _schema(class_type):
    """The types of a node's inputs by name, "text" for those with several lines, and those of its outputs."""
    node = nodes.NODE_CLASS_MAPPINGS.get(class_type)
    if node is None:
        return {}, ()
    groups = node.INPUT_TYPES()
    inputs = {name: given for group in ("required", "optional") for name, given in groups.get(group, {}).items()}
    kinds = {name: "text" if _takes_lines(*given) else given[0] for name, given in inputs.items()}
    return kinds, tuple(node.RETURN_TYPES)


def _takes_lines(kind, options=None, *_):
    return kind == "STRING" and bool(options and options.get("multiline"))


def _is_link(value):
    return isinstance(value, list) and len(value) == 2
