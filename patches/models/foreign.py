"""Whose code a model runs: ComfyUI's, PyTorch's, or another pack's that has put its own in the place of it."""
import functools
import re
from collections.abc import Callable, Iterator

import torch

from .compiled import plain

HOST = ("comfy", "torch")  # whose modules are the model's own
PACK = re.compile(r"custom_nodes[./\\]([^./\\]+)")  # in the name that ComfyUI gives to a pack's module


def named(cls: type) -> str:
    """A class as people know it, with where it comes from if that is another pack."""
    origin = _origin(cls)
    return cls.__qualname__ if origin is None else f"{cls.__qualname__} ({origin})"


def is_foreign(cls: type) -> bool:
    """Whether a class is another pack's."""
    return _origin(cls) is not None


def native(module: torch.nn.Module) -> type:
    """A module's class, or the nearest that it derives from which is ComfyUI's or PyTorch's."""
    return next(cls for cls in own_class(plain(module)).__mro__ if not is_foreign(cls))


def own_class(module: torch.nn.Module) -> type:
    """A module's class; where FSDP's fully_shard has made another of it, the one that it had."""
    classes = [cls for cls in type(module).__mro__ if issubclass(cls, torch.nn.Module)]
    return next((cls for cls in classes if not is_torchs(cls)), classes[0])


def is_comfys(module: torch.nn.Module) -> bool:
    """Whether a module is of a class of ComfyUI's, or of one that derives from it."""
    return native(module).__module__.partition(".")[0] == "comfy"


def replaced_forward(module: torch.nn.Module, home: type | None = None) -> str | None:
    """Where a module's forward() comes from, if another pack has put its own there; None if it is ComfyUI's.

    Args:
        home: a class of the pack whose model it is.
    """
    of_same_pack = home is not None and _package(module.forward) == _package(home)
    return None if of_same_pack else _origin(module.forward)


def is_torchs(code: type | Callable) -> bool:
    """Whether a class or a function is PyTorch's."""
    return _package(code) == "torch"


def has_own_way(model: torch.nn.Module) -> bool:
    """Whether it is another pack that calls a model's blocks: by a class of its own, or by a function set on it."""
    return is_foreign(own_class(model)) or any(True for _ in _functions(model))


def replaced(model: torch.nn.Module) -> list[str]:
    """What of a diffusion model is another pack's: its class, its blocks' classes, functions set on them.

    Single layers may well be another pack's, as GGUF's are.
    """
    found = {}  # in order, each once
    for name, module in model.named_modules():
        if not any(True for _ in module.children()):
            continue
        at = f" in {name}" if name else ""
        cls = own_class(module)
        if is_foreign(cls):
            found.setdefault(cls, f"{named(cls)}{at}")
        for attribute, function in _functions(module):
            found.setdefault(function, f"{attribute}(){at} ({_origin(function)})")
    return list(found.values())


def _functions(module) -> Iterator[tuple[str, Callable]]:
    """Another pack's functions that a module has in the place of its class's."""
    for attribute, value in vars(module).items():
        if callable(value) and hasattr(type(module), attribute) and not isinstance(value, torch.nn.Module):
            function = _plain(value)
            if _origin(function) is not None:
                yield attribute, function


def _plain(function):
    """The function itself, of a bound method or a partial one."""
    while isinstance(function, functools.partial) or hasattr(function, "__func__"):
        function = function.func if isinstance(function, functools.partial) else function.__func__
    return function


def _package(code: type | Callable) -> str:
    """The topmost package that a class or a function comes from; a pack is one."""
    return (getattr(_plain(code), "__module__", None) or "").partition(".")[0]


def _origin(code: type | Callable) -> str | None:
    """The pack, or else the module, that a class or a function comes from; None for ComfyUI's and PyTorch's."""
    module = getattr(_plain(code), "__module__", None) or ""
    if not module or module.partition(".")[0] in HOST:
        return None
    pack = PACK.search(module.replace("_x_", "."))
    return f"of the pack {pack[1]}" if pack else f"of the module {module}"
