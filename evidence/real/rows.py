"""The rows of the tables: a workflow with these texts, this seed, this cfg, and with NAG or without."""
import copy
from dataclasses import dataclass

from host.gallery import prompts

BASE, NAG = "no guidance", "NAG"
ZERO_OUT = "ConditioningZeroOut"  # of a text it leaves nothing
Place = tuple[str, str]  # the id of a node, and the name of its input


class BadWorkflow(ValueError):
    """A workflow of which the tables can't be made; says why, and what to do."""


@dataclass(frozen=True)
class Row:
    """cfg: what each sampler's is set to, where it has one. nag: whether NAG stays on."""

    name: str
    cfg: float | None
    nag: bool


@dataclass(frozen=True)
class Workflow:
    """A prompt in API format, cut down to what NAG has a part in, and where the texts and cfg enter it."""

    prompt: dict
    nodes: dict  # the server's, as object_info gives them
    positive: tuple[Place, ...]
    negative: tuple[Place, ...]
    cfg: tuple[Place, ...]  # of samplers that have a text for their negative

    def rows(self, cfgs: list[float]) -> list[Row]:
        """Without guidance, CFG at these and at the workflow's own, NAG and, where its own is not 1, both."""
        own = {float(self._value(place)) for place in self.cfg}
        if not own:
            return [Row(BASE, None, False), Row(NAG, None, True)]
        further = own - {1.0}
        rows = [Row(BASE, 1.0, False), *(Row(f"CFG {cfg:g}", cfg, False) for cfg in sorted({*cfgs, *further} - {1.0}))]
        return [*rows, Row(NAG, 1.0, True), *(Row(f"CFG {cfg:g} and NAG", cfg, True) for cfg in sorted(further))]

    def painting(self, row: Row, positive: str, negative: str, seed: int) -> dict:
        """The prompt that paints a row's picture."""
        made = copy.deepcopy(prompts.seeded(self.prompt, seed))
        for places, value in ((self.positive, positive), (self.negative, negative), (self.cfg, row.cfg)):
            for key, name in places:
                made[key]["inputs"][name] = value
        return made if row.nag else prompts.without_nag(made, self.nodes)

    def _value(self, place):
        return self.prompt[place[0]]["inputs"][place[1]]


def understood(prompt: dict, nodes: dict, positive: list[str] = (), negative: list[str] = ()) -> Workflow:
    """Where a prompt's texts and cfg enter, by its links.

    positive, negative: as NODE.INPUT, where the texts go in place of what the links say. Raises BadWorkflow.
    """
    if unknown := sorted({node["class_type"] for node in prompt.values()} - nodes.keys()):
        raise BadWorkflow(f"The server has no nodes {', '.join(unknown)}.")
    part = prompts.guided(prompt, nodes)
    if part is None:
        raise BadWorkflow("No NAG node has a part in any of its pictures.")
    links = _Links(part, nodes)
    found = {"prompt": tuple(_named(part, positive) or links.texts(False)),
             "negative": tuple(_named(part, negative) or links.texts(True))}
    for what, places in found.items():
        where = ", ".join(".".join(place) for place in places)
        if not places:
            raise BadWorkflow(f"Its {what} is no text that can be set (an empty negative, by Conditioning Zero Out, "
                              f"is none): name the place with --{what} NODE.INPUT.")
        if what == "prompt" and not positive and len({key for key, _ in places}) > 1:
            raise BadWorkflow(f"It has several prompts, {where}: say which is to be set with --{what} NODE.INPUT.")
    if shared := set(found["prompt"]) & set(found["negative"]):
        raise BadWorkflow(f"{'.'.join(shared.pop())} is its prompt and its negative.")
    return Workflow(part, nodes, found["prompt"], found["negative"], tuple(links.cfg()))


def _named(prompt, named):
    """The places that NODE.INPUT name."""
    places = []
    for each in named:
        key, _, name = each.rpartition(".")
        value = prompt.get(key, {}).get("inputs", {}).get(name)
        if not isinstance(value, str):
            texts = [f"{key}.{name}" for key, node in prompt.items() for name, value in node["inputs"].items()
                     if isinstance(value, str) and name in prompts.TEXTS]
            raise BadWorkflow(f"{each} is no text of it. It has {', '.join(texts)}.")
        places.append((key, name))
    return places


class _Links:
    """What leads where in a prompt."""

    def __init__(self, prompt, nodes):
        self.prompt, self.nodes = prompt, nodes

    def texts(self, negative):
        """The places of the texts that samplers, guiders and NAG nodes get as positive, or as negative."""
        links = [link for key in self.prompt for name, link in self._conditionings(key)
                 if ("negative" in name) == negative and self._uses(key, name)]
        return list(dict.fromkeys(place for link in links for place in self._behind(link, set())))

    def cfg(self):
        """The places of each sampler's cfg, where its negative is a text."""
        for key, node in self.prompt.items():
            links = dict(self._conditionings(key))
            if "cfg" in node["inputs"] and "negative" in links and self._behind(links["negative"], set()):
                yield self._source(key, "cfg")

    def _declared(self, key):
        declared = self.nodes[self.prompt[key]["class_type"]].get("input", {})
        return {**declared.get("required", {}), **declared.get("optional", {})}

    def _conditionings(self, key):
        """(name, link) of a node's inputs that are conditionings."""
        inputs, declared = self.prompt[key]["inputs"], self._declared(key)
        return [(name, inputs[name]) for name, kind in declared.items()
                if kind[0] == "CONDITIONING" and isinstance(inputs.get(name), list)]

    def _uses(self, key, name):
        """Whether a node ends the way of a conditioning: a sampler, or a NAG node for its negative."""
        kind = self.prompt[key]["class_type"]
        ends = "CONDITIONING" not in self.nodes[kind].get("output", ())
        return ends or ("negative" in name and "nag_alpha" in self._declared(key))

    def _behind(self, link, seen):
        """The places of the texts that a conditioning is made of."""
        key, slot = link
        if (key, slot) in seen or self.prompt[key]["class_type"] == ZERO_OUT:
            return []
        seen.add((key, slot))
        inputs, declared = self.prompt[key]["inputs"], self._declared(key)
        texts = [self._source(key, name) for name, (kind, *more) in declared.items()
                 if kind == "STRING" and name in inputs and ("multiline" in dict(*more) or name in prompts.TEXTS)]
        ahead = self._conditionings(key)
        if len(ahead) > 1 and any("negative" in name for name, _ in ahead):  # it has one of each, or gives the positive
            outputs = self.nodes[self.prompt[key]["class_type"]].get("output_name", ())
            wants_negative = slot < len(outputs) and "negative" in outputs[slot].lower()
            ahead = [(name, each) for name, each in ahead if ("negative" in name) == wants_negative]
        return texts or [place for _, each in ahead for place in self._behind(each, seen)]

    def _source(self, key, name):
        """Where an input's value stands: there, or in the primitive node that brings it."""
        value = self.prompt[key]["inputs"][name]
        while isinstance(value, list):
            key, name = value[0], "value"
            value = self.prompt[key]["inputs"].get(name)
            if value is None:
                kind = self.prompt[key]["class_type"]
                raise BadWorkflow(f"A text or a cfg comes from {kind} #{key}, where it can't be set.")
        return key, name
