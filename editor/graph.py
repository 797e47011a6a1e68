"""A graph as the editor holds it: what is connected to what, past the nodes that are bypassed."""
from dataclasses import dataclass
from functools import cached_property

import nodes  # ComfyUI's module of this name

MUTED, BYPASSED = 2, 4  # modes of LiteGraph
ANY = "*"


class Unreadable(Exception):
    """What was asked of a graph is only known when it runs."""


@dataclass(frozen=True, eq=False)
class Node:
    """
    Args:
        type: its id in ComfyUI.
        inputs: by name: a widget's value, or (node id, output slot) where another node is connected.
    """

    id: str
    type: str
    mode: int
    inputs: dict

    @property
    def cls(self) -> type | None:
        """The class that the server has for it; None if it has none."""
        return nodes.NODE_CLASS_MAPPINGS.get(self.type)

    @property
    def output_types(self) -> tuple[str, ...]:
        return tuple(str(kind) for kind in getattr(self.cls, "RETURN_TYPES", ()))

    @property
    def stock(self) -> bool:
        """Whether it is ComfyUI's own: another pack's may do anything."""
        module = getattr(self.cls, "RELATIVE_PYTHON_MODULE", None) or ""
        return self.cls is not None and not module.startswith("custom_nodes.")

    @property
    def ours(self) -> bool:
        """Whether it is of this pack."""
        return self.cls is not None and self.cls.__module__.startswith(f"{__package__.rpartition('.')[0]}.")

    @property
    def named(self) -> str:
        """As people call it: of ours without what its name says to those who search."""
        name = nodes.NODE_DISPLAY_NAME_MAPPINGS.get(self.type, self.type)
        return f"{name.partition(' (')[0] if self.ours else name} #{self.id}"

    @property
    def declared(self) -> list[str]:
        """The names of the inputs that it is declared to have, in their order."""
        groups = self.cls.INPUT_TYPES() if self.cls else {}
        return [name for group in ("required", "optional") for name in groups.get(group, {})]

    def takes(self, name: str) -> bool:
        """Whether it is declared to have this input."""
        return name in self.declared

    def gives(self, kind: str) -> bool:
        return kind in self.output_types or ANY in self.output_types

    def value(self, name: str, default=None):
        """A widget's value: a number, a text or a truth value. Raises Unreadable if it is none of these, if another
        node makes it, or if there is neither it nor a default."""
        value = self.inputs.get(name, default)
        if not isinstance(value, (int, float, str)):
            raise Unreadable(f"{name} of {self.type} #{self.id}")
        return value


class Graph:
    """The nodes of a graph by id.

    Args:
        body: {"nodes": {id: {"type": str, "mode": int, "inputs": {name: value or [id, slot]}}}}.

    Raises:
        ValueError: it is not of this form.
    """

    def __init__(self, body):
        described = body.get("nodes") if isinstance(body, dict) else None
        if not isinstance(described, dict):
            raise ValueError('A graph is an object with "nodes", an object of nodes by their ids.')
        self.nodes = {node_id: _node(node_id, description) for node_id, description in described.items()}

    def source(self, node: Node, name: str) -> tuple[Node, int] | None:
        """The node, and its output, that feeds an input; None if none does, or a muted one."""
        link = node.inputs.get(name)
        passed = set()
        while isinstance(link, tuple) and link not in passed:
            passed.add(link)
            origin, slot = self.nodes.get(link[0]), link[1]
            if origin is None or origin.mode == MUTED:
                return None
            if origin.mode != BYPASSED:
                return origin, slot
            link = self._around(origin, slot)
        return None

    def source_type(self, node: Node, name: str) -> str | None:
        """The type of what feeds an input; None if nothing does, or the server does not know."""
        found = self.source(node, name)
        return found and _output_type(*found)

    def sources(self, node: Node, kind: str) -> list[Node]:
        """The nodes that feed this type to a node's inputs, in the inputs' order."""
        return [self.source(node, name)[0] for name in node.inputs if self.source_type(node, name) in (kind, ANY)]

    def value(self, node: Node, name: str, default=None):
        """As Node.value, and what a primitive node that is connected there holds."""
        found = self.source(node, name)
        if found and found[0].type.startswith("Primitive"):
            return found[0].value("value")
        return node.value(name, default)

    def may_be_sent(self, kind: str) -> bool:
        """Whether a node of another pack takes this type and gives nothing. Such nodes connect it, when a prompt is
        queued, to inputs that nothing is connected to."""
        ends = [node for node in self._at_work() if node.cls and not (node.stock or node.ours or node.output_types)]
        return any(self.source_type(node, name) == kind for node in ends for name in node.inputs)

    @cached_property
    def consumers(self) -> dict[str, list[tuple[Node, str, int]]]:
        """For each node that feeds others: these, the input at which they get it, and the output that it comes from."""
        found = {}
        for node in self._at_work():
            for name in node.inputs:
                source = self.source(node, name)
                if source is not None:
                    found.setdefault(source[0].id, []).append((node, name, source[1]))
        return found

    @cached_property
    def prompt(self) -> dict[str, dict]:
        """The graph as ComfyUI's API takes it."""
        return {node.id: {"class_type": node.type, "inputs": self._given(node)} for node in self._at_work()}

    def _at_work(self):
        return [node for node in self.nodes.values() if node.mode not in (MUTED, BYPASSED)]

    def _given(self, node):
        """A node's inputs: values, or [id, slot] of what feeds them; without those that nothing feeds."""
        sources = {name: self.source(node, name) for name, value in node.inputs.items() if isinstance(value, tuple)}
        links = {name: [found[0].id, found[1]] for name, found in sources.items() if found}
        return {name: value for name, value in node.inputs.items() if name not in sources} | links

    def before(self, node: Node) -> set[str]:
        """The ids of all nodes that must run before one."""
        found, ahead = set(), [node]
        while ahead:
            each = ahead.pop()
            for origin, _ in filter(None, (self.source(each, name) for name in each.inputs)):
                if origin.id not in found:
                    found.add(origin.id)
                    ahead.append(origin)
        return found

    def _around(self, bypassed, slot):
        """Where a bypassed node's output comes from: an input of the same type, in the order of such outputs."""
        kind = _output_type(bypassed, slot)
        order = bypassed.output_types[:slot].count(kind)
        links = [link for link in bypassed.inputs.values() if isinstance(link, tuple) and self._link_type(link) == kind]
        return links[min(order, len(links) - 1)] if links else None

    def _link_type(self, link):
        origin = self.nodes.get(link[0])
        return origin and _output_type(origin, link[1])


def _output_type(node, slot):
    return node.output_types[slot] if 0 <= slot < len(node.output_types) else None


def _node(node_id, description):
    kind, mode, inputs = (
        (description.get("type"), description.get("mode", 0), description.get("inputs", {}))
        if isinstance(description, dict)
        else (None, None, None)
    )
    if not (isinstance(kind, str) and isinstance(mode, int) and isinstance(inputs, dict)):
        raise ValueError(f'Node {node_id} must have "type", a string, "mode", a whole number, and "inputs", an object.')
    return Node(node_id, kind, mode, {name: _link_or_value(value) for name, value in inputs.items()})


def _link_or_value(value):
    is_link = isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and type(value[1]) is int
    return tuple(value) if is_link else value
