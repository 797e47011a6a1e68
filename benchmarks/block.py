"""Where NAG's time goes besides operations. Prints two tables, and puts the first into RESULTS.md:

    python -m benchmarks.block [PARTS OF THE CASES' NAMES ...]

What one block more of each kind does to memory, at full size in bfloat16, from a run on the meta device: how many
operators that write something (on a GPU about a kernel each), the bytes that they write to tensors as large as the
image's features or larger, and how much of that only moves data. And how long the host is busy with a step of an SDXL
of full depth and hardly any width: at batch 1 a fast GPU waits for it.
"""
import dataclasses
import statistics
import sys
from contextlib import contextmanager
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from . import host

COPIES = {
    "cat", "stack", "copy_", "clone", "contiguous", "reshape", "to", "_to_copy", "index", "index_select", "repeat",
    "repeat_interleave", "type_as", "gather", "flatten", "flip",
}


class Writes(TorchDispatchMode):
    """Counts what writes to memory; views do not.

    Args:
        large: from how many elements on a tensor is counted in bytes.
    """

    def __init__(self, large):
        super().__init__()
        self.large = large
        self.operators, self.written, self.copies, self.copied, self.copied_by_nag = 0, 0, 0, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        # A view's storage is one of the arguments'.
        known = set() if func._schema.is_mutable else {_storage(t) for t in _tensors((args, kwargs))}
        written = {_storage(t): t for t in _tensors(out) if _storage(t) not in known}
        size = sum(t.numel() * t.element_size() for t in written.values() if t.numel() >= self.large)
        self.operators += bool(written)
        self.written += size
        if func.overloadpacket.__name__ in COPIES:
            self.copies += bool(size)
            self.copied += size
            self.copied_by_nag += size * _is_called_by("patches")
        return out

    @property
    def figures(self):
        return torch.tensor([self.operators, self.written, self.copies, self.copied, self.copied_by_nag])


def _tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _is_called_by(package):
    """Whether a dispatched operator is in that package's code."""
    frame = sys._getframe(2)
    while frame.f_globals["__name__"].startswith("torch"):
        frame = frame.f_back
    return frame.f_globals["__name__"].startswith(package)


def _storage(tensor):
    return tensor.untyped_storage()._cdata


class Fused:
    """Stands in for the Triton kernels, which do not run on the meta device: one launch, one result written."""

    @staticmethod
    def guide(*tensors_and_numbers):
        return True

    guide_joint = guide


@contextmanager
def _fused():
    """As with Triton on a GPU."""
    from patches.arithmetic import equation, merge

    with mock.patch.object(equation, "kernels_for", return_value=Fused):
        with mock.patch.object(merge, "kernels_for", return_value=Fused):
            yield


def writes_of_blocks(method, size):
    """Figures of one block more of each kind, and of what a call has besides: differences of whole calls, so that hooks
    and doors are in them."""
    from . import floors, models

    depths = models.ARCHITECTURES[size.family].blocks

    def whole(deeper=None):
        changes = {entry: 2 + (entry == deeper) for entry in depths.values()}
        some = dataclasses.replace(size, changes={**size.changes, **changes})
        guider = method.guider(floors.on_meta(some), some)
        with Writes(size.image * floors.width(size)) as writes, _fused():
            floors.one_call(guider, some)
        return writes.figures

    least = whole()
    blocks = {kind: whole(entry) - least for kind, entry in depths.items()}
    return {kind: figures.tolist() for kind, figures in blocks.items()}, (least - 2 * sum(blocks.values())).tolist()


def row(name, size, base, nag, call):
    """Of the figures of a block without NAG and with it, and of a call with NAG."""
    from . import floors

    sequence = (size.image + 2 * size.text) * floors.width(size) * torch.bfloat16.itemsize
    operators, copies = (f"{base[i]} to {nag[i]}" for i in (0, 2))
    written, copied = (f"{base[i] / 2**20:.0f} to {nag[i] / 2**20:.0f} MiB" for i in (1, 3))
    return [name, operators, written, copies, copied, *(f"{figures[4] / sequence:.2f}" for figures in (nag, call))]


def host_times(chosen, steps=20, rounds=7):
    """Milliseconds of one thread for a step of each method, by turns: medians, by key."""
    from . import models, timing

    tiny = models.Size("sdxl", (4, 8, 8), 2, {"model_channels": 32, "context_dim": 64})
    patcher = models.build(tiny, torch.float32, torch.device("cpu"))
    guiders = {method.key: method.guider(patcher, tiny) for method in chosen}
    times = {key: [] for key in guiders}
    for _ in range(rounds):
        for key, guider in guiders.items():
            times[key].append(statistics.median(timing.run(guider, tiny, steps)[0]) * 1000)
    return {key: statistics.median(found) for key, found in times.items()}


def main():
    host.start(on_gpu=False)
    from . import models, report
    from .methods import methods

    chosen = {method.key: method for method in methods()}
    rows = []
    for case in models.CASES:
        if models.ARCHITECTURES[case.full.family].blocks and any(part in case.name for part in sys.argv[1:] or [""]):
            rows += rows_of(case, chosen["base"], chosen["nag"])
    columns = ["from base to NAG", "operators", "written, large", "copies, large", "copied"]
    columns += ["sequences copied by NAG", "once a call"]
    lines = [*report.table(columns, rows), "", report.provenance("benchmarks.block")]
    report.show(report.RESULTS, "One block more, at full size in bfloat16, on the meta device", lines)
    times = host_times([chosen[key] for key in ("base", "cfg", "nag")])
    rows = [[chosen[key].name, f"{time:.1f} ms", f"{time / times['base'] - 1:+.1%}"] for key, time in times.items()]
    print("\n".join(report.table(["SDXL", "host, a step", "over base"], rows)))


def rows_of(case, base, nag):
    """A row for each kind of block; one that says why, where this ComfyUI has no such model."""
    from . import timing

    failed = timing.Figures()
    found = timing.attempt(failed, lambda: [writes_of_blocks(method, case.full) for method in (base, nag)])
    if found is None:
        return [[case.name, failed.reason, *[""] * 5]]
    (of_base, _), (of_nag, call) = found
    return [row(f"{case.name}: {kind}", case.full, of_base[kind], of_nag[kind], call) for kind in of_base]


if __name__ == "__main__":
    main()
