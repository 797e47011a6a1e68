"""What a prompt says of a conditioning, and its tensors do not show: whose text it is, and whether that is empty."""
from collections.abc import Hashable
from dataclasses import dataclass, replace

import nodes  # ComfyUI's module of this name

from .comfyui import running_prompt

NEGATIVES = ("nag_negative", "negative")  # inputs, the first that is connected counts
FARTHEST = 10  # nodes that a text or a number may come through
ZERO_OUT, NAG = "ConditioningZeroOut", "NAGConditioning"  # nodes
RANGE = "ConditioningSetTimestepRange"  # the node that limits a conditioning to a part of the sampling
KEEPING = {
    "ConditioningSetArea", "ConditioningSetAreaPercentage", "ConditioningSetAreaPercentageVideo",
    "ConditioningSetAreaStrength", "ConditioningSetMask", "ControlNetApply", "ControlNetApplyAdvanced",
    "ControlNetApplySD3", "FluxGuidance", "LTXVConditioning", "ReferenceLatent", NAG, RANGE,
}  # fmt: skip  # ComfyUI's nodes that leave the text's embedding as it is
AREAS = ("ConditioningSetArea", "ConditioningSetAreaPercentage", "ConditioningSetAreaPercentageVideo")
WEIGHTS = (*AREAS, "ConditioningSetAreaStrength")
MASKS = ("ConditioningSetMask", "ConditioningSetProperties", "ConditioningSetPropertiesAndCombine",
         "PairConditioningSetProperties", "PairConditioningSetPropertiesAndCombine")  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One entry of a conditioning.

    Args:
        identity: equal where the embedding is the same.
        blank: its text is empty. False where that can't be read from the prompt.
        zeroed: it went through Conditioning Zero Out.
        guided_by: the id of the NAG Conditioning whose NAG it brings; None if there is none.
        strength, mask_strength: as ComfyUI's nodes set them, 0 to 10; None where that can't be read from the prompt.
        placed: it is for a part of the picture, by an area or a mask.
        masked: it has a mask.
        part: of the sampling, in percents as ComfyUI counts them; None where that can't be read from the prompt.
    """

    identity: Hashable
    blank: bool = False
    zeroed: bool = False
    guided_by: str | None = None
    strength: float | None = 1.0
    mask_strength: float | None = 1.0
    placed: bool = False
    masked: bool = False
    part: tuple[float, float] | None = (0.0, 1.0)

    @property
    def weight(self) -> float | None:
        """The factor on NAG's strength that it is as a negative, where it is at all."""
        return None if None in (self.strength, self.mask_strength) else self.strength * self.mask_strength

    @property
    def names_nothing(self) -> bool:
        return self.blank or self.zeroed


def has_blank_negative(node_id: str | None) -> bool:
    """Whether the negative that a NAG node works with comes from empty texts only, as far as the prompt shows it.

    node_id: of the NAG node. The negative may also be that of the sampler that runs now.
    """
    prompt, sampler_id = running_prompt()
    if node_id not in prompt:  # a node that another one has expanded to
        return False
    links = [link for each in (node_id, sampler_id) for link in negatives_of(prompt, each)]
    return bool(links) and all(entry.names_nothing for entry in entries(prompt, links[0]))


def negatives_of(prompt: dict, node_id: str | None) -> list[list]:
    """The links to a node's negative, or to that of its guider. prompt: as ComfyUI's API takes it."""
    given = lambda each: prompt.get(each, {}).get("inputs", {})
    guider = given(node_id).get("guider")
    for inputs in (given(node_id), given(guider[0]) if is_link(guider) else {}):
        links = [inputs[name] for name in NEGATIVES if is_link(inputs.get(name))]
        if links:
            return links
    return []


def entries(prompt: dict, link: list, silent: frozenset[str] = frozenset(), passed: frozenset[str] = frozenset()):
    """The entries that a link to a conditioning brings.

    silent: ids of the NAG Conditionings that bring no NAG, being off.
    """
    node_id, slot = link
    node = prompt.get(node_id)
    if node is None or node_id in passed:
        return [Entry((node_id, slot))]
    kind, inputs = node["class_type"], node["inputs"]
    declared, outputs = _schema(kind)
    names = [name for name, type_ in declared.items() if type_ == "CONDITIONING" and is_link(inputs.get(name))]
    if not names:
        return [_encoded(prompt, link)]
    names = ["positive"] if kind == NAG and "positive" in names else paired(names, outputs, slot)
    brought = [entries(prompt, inputs[name], silent, passed | {node_id}) for name in names]
    placed = _placing(prompt, kind, inputs)
    if "Combine" in kind:
        first, *others = brought
        return [*first, *(replace(entry, **placed) for of_one in others for entry in of_one)]
    blank, zeroed = (
        all(getattr(entry, state) for of_one in brought for entry in of_one) for state in ("blank", "zeroed")
    )
    if "STYLE_MODEL" in declared.values():  # a picture's embedding goes beside the text's
        blank = zeroed = False
    made = [
        replace(entry, **placed)
        if kind in KEEPING
        else replace(entry, identity=(node_id, slot, i), blank=blank, zeroed=zeroed, **placed)
        for i, entry in enumerate(brought[0])
    ]
    if kind == ZERO_OUT:
        return [replace(entry, zeroed=True) for entry in made]
    return [replace(entry, guided_by=node_id) for entry in made] if kind == NAG and node_id not in silent else made


def _placing(prompt, kind, inputs):
    """What a node says of where and when the entries are that come through it, and how strong: fields of Entry."""
    said = {}
    if kind in WEIGHTS:
        said["strength"] = _number_of(prompt, inputs.get("strength"))
    if kind in AREAS:
        sides = [_number_of(prompt, inputs[name]) for name in ("width", "height", "temporal") if name in inputs]
        said["placed"] = kind == AREAS[0] or any(side != 1 for side in sides)
    if kind in MASKS and is_link(inputs.get("mask")):
        said |= {"mask_strength": _number_of(prompt, inputs.get("strength")), "placed": True, "masked": True}
    if kind == RANGE or is_link(inputs.get("timesteps")):
        ends = tuple(_number_of(prompt, inputs.get(name)) for name in ("start", "end"))
        said["part"] = ends if all(end is not None and 0 <= end <= 1 for end in ends) else None
    return said


def _number_of(prompt, value, nodes_left=FARTHEST):
    """A number, also that of a node that holds one; None where another node makes it."""
    if is_link(value):
        inputs = prompt.get(value[0], {}).get("inputs", {})
        return _number_of(prompt, inputs.get("value"), nodes_left - 1) if nodes_left else None
    return value if isinstance(value, (int, float)) else None


def paired(inputs: list, outputs: tuple[str, ...], slot: int) -> list:
    """Those of a node's conditionings that go into one of its outputs: of nodes with a positive and a negative each,
    those of the same place."""
    n = outputs.count("CONDITIONING")
    return inputs[outputs[:slot].count("CONDITIONING") :: n] if n > 1 and len(inputs) % n == 0 else inputs


def _encoded(prompt, link):
    """The entry that an encoder makes of a text."""
    node_id, slot = link
    kind, inputs = prompt[node_id]["class_type"], prompt[node_id]["inputs"]
    declared, _ = _schema(kind)
    lines = [name for name, type_ in declared.items() if type_ == "text" and name in inputs]
    texts = {name: text_of(prompt, inputs[name]) for name in lines}
    if "CLIP" not in declared.values() or not texts or None in texts.values():
        return Entry((node_id, slot))
    blank = not any(text.strip() for text in texts.values())
    others = {name: tuple(value) if is_link(value) else value for name, value in inputs.items()}
    return Entry((kind, slot, *sorted((name, str(value)) for name, value in {**others, **texts}.items())), blank)


def text_of(prompt: dict, value, nodes_left: int = FARTHEST) -> str | None:
    """A text, also that of a node that holds one, or puts two together; None where another node makes it."""
    if not is_link(value):
        return value if isinstance(value, str) else None
    if not nodes_left:
        return None
    node = prompt.get(value[0], {})
    inputs = node.get("inputs", {})
    if node.get("class_type") != "StringConcatenate":
        return text_of(prompt, inputs.get("value"), nodes_left - 1)
    parts = [text_of(prompt, inputs.get(name), nodes_left - 1) for name in ("string_a", "delimiter", "string_b")]
    return None if None in parts else "".join(parts)


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
    return kind == "STRING" and isinstance(options, dict) and bool(options.get("multiline"))


def is_link(value) -> bool:
    return isinstance(value, list) and len(value) == 2
