"""What a model does in one call: what it hands to its blocks, what its modules return, how its attention is called."""
import inspect
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

from ...attention.override import named
from ..arguments import Arguments, names_of
from ..compiled import plain
from ..hooks import hooked

NUMBERED = "argument_"  # how those are called that have no name
MANY = 12  # arguments, which no forward() has as `*args`


@dataclass(eq=False)
class Frame:
    """One call of a module: its arguments by name, and what it returned."""

    module: torch.nn.Module
    path: str
    given: dict
    out: object = None

    @property
    def given_tensor(self) -> torch.Tensor | None:
        """The first of its arguments that is one."""
        return next((value for value in self.given.values() if torch.is_tensor(value)), None)


@dataclass(frozen=True)
class Attention:
    """One call of attention.

    Args:
        queries, keys: how many tokens.
        values: (rows, tokens, features).
        out: the same of what it returned.
        frames: the modules at work, from without.
    """

    queries: int
    keys: int
    values: torch.Tensor
    out: torch.Tensor
    frames: tuple[Frame, ...]


@dataclass
class Block:
    """The first call of a block: its frame, those in it, its attention, and how many modules had returned before."""

    frame: Frame
    frames: list[Frame] = field(default_factory=list)
    attentions: list[Attention] = field(default_factory=list)
    n_before: int = 0


@dataclass
class Seen:
    """
    Attributes:
        blocks: the first calls of the first two blocks of each list, in the order in which the lists were come to.
        returned: the frames of the modules that have returned, in this order, but those in these blocks.
        linear: the frames of modules with `in_features`, in the order in which they were called.
    """

    blocks: dict[str, list[Block]] = field(default_factory=dict)
    returned: list[Frame] = field(default_factory=list)
    linear: list[Frame] = field(default_factory=list)


def names_in(module: torch.nn.Module) -> tuple[str, ...]:
    """Those of a module's arguments in their order; where its forward() takes any, they are numbered."""
    forward = type(plain(module)).forward
    kinds = [each.kind for each in inspect.signature(forward).parameters.values()]
    rest = kinds.index(inspect.Parameter.VAR_POSITIONAL) - 1 if inspect.Parameter.VAR_POSITIONAL in kinds else None
    if rest is None:
        return names_of(forward)
    return names_of(forward)[:rest] + tuple(f"{NUMBERED}{i}" for i in range(rest, MANY))


def watch(net: torch.nn.Module, lists: dict[str, list], run: Callable[[Callable], object]) -> Seen:
    """Everything that happens to a diffusion model in `run(override)`, in this thread."""
    watcher = _Watcher(net, lists)
    with hooked(watcher.hooks()):
        run(watcher.attention)
    return watcher.seen


class _Watcher:
    def __init__(self, net, lists):
        self.paths = {module: path for path, module in net.named_modules()}
        self.firsts = {block: name for name, blocks in lists.items() for block in blocks[:2]}
        self.seen, self.stack, self.inside = Seen(), [], []
        self.thread = threading.get_ident()

    def hooks(self) -> Iterator:
        for module in self.paths:
            yield module.register_forward_pre_hook(self.enter, with_kwargs=True)
            yield module.register_forward_hook(self.leave)

    def enter(self, module, args, kwargs):
        if threading.get_ident() != self.thread:
            return
        frame = Frame(module, self.paths[module], Arguments(module, args, kwargs, names_in(module)).values)
        self.stack.append(frame)
        name = self.firsts.get(module)
        if name is not None and len(self.seen.blocks.setdefault(name, [])) < 2:
            frame.given = {each: _kept(value) for each, value in frame.given.items()}  # blocks write into their input
            self.inside.append(Block(frame, n_before=len(self.seen.returned)))
            self.seen.blocks[name].append(self.inside[-1])
        else:
            for block in self.inside:
                block.frames.append(frame)
            if hasattr(module, "in_features"):
                self.seen.linear.append(frame)

    def leave(self, module, args, out):
        if threading.get_ident() != self.thread:
            return
        frame = self.stack.pop()
        frame.out = out
        if self.inside and self.inside[-1].frame is frame:
            self.inside.pop()
        if not self.inside:
            self.seen.returned.append(frame)

    def attention(self, func, q, k, v, heads, *args, **options):
        out = func(q, k, v, heads, *args, **options)
        tokens, result = axis_and_result(out, args, options)
        flat = v.transpose(1, 2) if tokens == 2 else v
        for block in self.inside:
            block.attentions.append(
                Attention(q.shape[tokens], k.shape[tokens], flat.flatten(2).clone(), result.flatten(2).clone(),
                          tuple(self.stack))
            )  # fmt: skip
        return out


def axis_and_result(out: torch.Tensor, args: tuple, options: dict) -> tuple[int, torch.Tensor]:
    """Of a call of attention: which axis of what it was given counts tokens, and `out` with its tokens in axis 1."""
    options = named(args, options)
    return 2 if options.get("skip_reshape") else 1, out.transpose(1, 2) if options.get("skip_output_reshape") else out


def _kept(value):
    if isinstance(value, tuple):
        return tuple(_kept(each) for each in value)
    return value.clone() if torch.is_tensor(value) else value
