"""The one place that finds an argument of a module's forward() by its name, however it was passed."""
import functools
import inspect
from collections.abc import Callable

import torch
from torch.utils.hooks import RemovableHandle

from .compiled import plain

OPTIONS = "transformer_options"


class Arguments:
    """The arguments of one call of a module, by name; those that are changed go on as they came.

    Args:
        module: which has been called.
        args, kwargs: as a forward pre-hook gets them.
        names: of the arguments in their order.
    """

    def __init__(self, module: torch.nn.Module, args: tuple, kwargs: dict, names: tuple[str, ...]):
        self.module = module
        self._names, self._n_positional = names, len(args)
        self.values = {**dict(zip(names, args)), **kwargs}

    def __getitem__(self, name: str):
        """An argument's value; None where it was not passed."""
        return self.values.get(name)

    def changed(self, **values) -> tuple[tuple, dict]:
        """(args, kwargs) with other values for some."""
        values = {**self.values, **values}
        args = tuple(values.pop(name) for name in self._names[: self._n_positional])
        return args, values


def in_front(
    module: torch.nn.Module,
    hook: Callable[[Arguments], tuple[tuple, dict] | None],
    names: tuple[str, ...] | None = None,
) -> RemovableHandle:
    """Register a forward pre-hook that gets the Arguments, and gives (args, kwargs) if others are to be passed on.

    Args:
        module: maybe with something of torch.compile's around it.
        names: of its arguments in their order, where forward() does not tell.
    """
    names = names or names_of(type(plain(module)).forward)  # here, since torch.compile can't look at a signature
    enter = lambda module, args, kwargs: hook(Arguments(module, args, kwargs, names))
    return module.register_forward_pre_hook(enter, with_kwargs=True)


def takes(cls: type, name: str) -> bool:
    """Whether the forward() of a module's class has an argument of this name, or takes any."""
    parameters = inspect.signature(cls.forward).parameters
    return name in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())


@functools.cache
def names_of(forward: Callable) -> tuple[str, ...]:
    """The names of a forward()'s parameters, without self."""
    return tuple(inspect.signature(forward).parameters)[1:]
