"""PyTorch hooks that live for one model call."""
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch.utils.hooks import RemovableHandle

APART = "a {} was called outside of its {}, where NAG can't tell whose text it gets"


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


def only_inside(blocks: Iterable[torch.nn.Module]) -> Iterator[RemovableHandle]:
    """Hooks that raise a RuntimeError where a part of a block is called, and the block is not.

    NAG's hooks on parts count on what those on the block have done.
    """
    for block in blocks:
        yield from _only_inside(block)


def _only_inside(block):
    entered = []

    def leave(module, args, out):
        entered.clear()

    def check(module, args):
        if not entered and not torch.compiler.is_compiling():
            raise RuntimeError(APART.format(type(module).__name__, type(block).__name__))

    yield block.register_forward_pre_hook(lambda module, args: entered.append(True))
    yield block.register_forward_hook(leave)
    for part in block.modules():
        if part is not block:
            yield part.register_forward_pre_hook(check)
