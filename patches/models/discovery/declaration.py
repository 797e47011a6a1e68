"""A found adapter as source, to be pasted into `families` and reviewed there."""
import dataclasses
import inspect
import json

from ..doors import Door
from ..projection import Projection


def declaration(adapter, name: str = "FOUND") -> str:
    """The source of a Transformer with the same doors."""
    doors = adapter.doors
    kinds = "".join(f"            {_call('Door', Door, door)},\n" for door in doors.kinds)
    modules = [each for each in ("text_module", "image_module") if getattr(doors, each)]
    facts = [f"{each}={_source(getattr(doors, each))}," for each in modules]
    facts += ["image_is_behind=True,"] if doors.image_is_behind else []
    facts += ["image_first=lambda model: True,"] if doors.image_first(None) else []
    width = _source(adapter.width) if isinstance(adapter.width, str) else f"lambda model: {adapter.width(None)}"
    lines = [
        f"{name} = Transformer(",
        f"    families={{{_source(next(iter(adapter.families)))}: NOBODYS}},",
        '    text_encoder="...",',
        "    doors=Doors(",
        f"        (\n{kinds}        ),",
        *(f"        {fact}" for fact in facts),
        "    ),",
        f"    width={width},",
    ]
    if adapter.text_inputs != ("attention_mask",):
        lines.append(f"    text_inputs={_source(adapter.text_inputs)},")
    if adapter.pooled_size is not None:
        lines.append(f"    pooled=...,  # the module that takes the pooled output, {adapter.pooled_size} wide")
    lines.append(f"    patch={adapter.patch},")
    made = adapter.made
    if made != type(made)():
        n = f"max(n, {made.least})" if made.least else "n"
        n = f"padded({made.multiple}, {n})" if made.multiple > 1 else n
        lines.append(f"    made=lambda model, n: {n}{f' + {made.more}' if made.more else ''},")
    return "\n".join([*lines, ")"])


def _source(value):
    if isinstance(value, Projection):
        return _call("Projection", Projection, value)
    if isinstance(value, tuple):
        return f"({', '.join(map(_source, value))}{',' * (len(value) == 1)})"
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _call(called, cls, value):
    """A call that makes this value of a dataclass, without what is the class's default."""
    told = {field.name: getattr(value, field.name) for field in dataclasses.fields(cls)}
    defaults = inspect.signature(cls).parameters
    given = [f"{name}={_source(each)}" for name, each in told.items() if each != defaults[name].default]
    return f"{called}({', '.join(given)})"
