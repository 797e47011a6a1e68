"""PyTorch hooks that live for one model call."""
from collections.abc import Iterable
from contextlib import contextmanager

import torch
from torch.utils.hooks import RemovableHandle


@contextmanager
def hooked(handles: Iterable[RemovableHandle]):
    """Remove the hooks when the block ends, also those registered before a later registration failed. Yields them."""
    registered = []
    try:
        for handle in handles:
            registered.append(handle)
        yield registered
    finally:
        for handle in registered:
            handle.remove()


def modules_of_kind(model: torch.nn.Module, kind: type) -> list[torch.nn.Module]:
    """The modules of a class in a model, also where a cache or torch.compile has put something around them."""
    return [module for module in model.modules() if isinstance(module, kind)]
