"""Where NAG's time goes besides operations. Prints two tables:

    python -m benchmarks.block

What one further Flux block of each kind does to memory, at 1024x1024 with 512 text tokens in bfloat16, from a run on
the meta device: how many operators that write something (on a GPU about a kernel each), the bytes that they write to
tensors as large as the image's features or larger, and how much of that only moves data. And how long the host is busy
with a step of an SDXL of full depth and hardly any width: at batch 1 a fast GPU waits for it.
"""
import dataclasses
import statistics
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
        self.operators, self.written, self.copies, self.copied = 0, 0, 0, 0

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
        return out

    @property
    def figures(self):
        return torch.tensor([self.operators, self.written, self.copies, self.copied])


def _tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


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


def writes_of_blocks(method):
    """Figures of one more double and one more single block: differences of whole calls, so that hooks are in them."""
    from . import floors, models

    size = next(case.full for case in models.CASES if case.name.endswith(" 512 text tokens"))
    image = size.latent[1] * size.latent[2] // 4

    def whole(doubles, singles):
        some = dataclasses.replace(size, changes={"depth": doubles, "depth_single_blocks": singles})
        guider = method.guider(models.build(some, torch.bfloat16, floors.META), some)
        with Writes(image * size.config["hidden_size"]) as writes, _fused():
            floors.one_call(guider, some)
        return writes.figures

    least = whole(1, 1)
    return whole(2, 1) - least, whole(1, 2) - least


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
    from .methods import methods
    from .report import table

    chosen = {method.key: method for method in methods()}
    rows = []
    for method in (chosen[key] for key in ("base", "nag", "exact", "separate")):
        for kind, figures in zip(("double", "single"), writes_of_blocks(method)):
            operators, written, copies, copied = figures.tolist()
            rows.append([f"{kind} block, {method.name}", str(operators), f"{written / 2**20:.0f} MiB", str(copies),
                         f"{copied / 2**20:.0f} MiB"])
    print("\n".join(table(["Flux-dev", "operators", "written, large", "copies, large", "copied"], rows)))
    times = host_times([chosen[key] for key in ("base", "cfg", "nag")])
    rows = [[chosen[key].name, f"{time:.1f} ms", f"{time / times['base'] - 1:+.1%}"] for key, time in times.items()]
    print("\n" + "\n".join(table(["SDXL", "host, a step", "over base"], rows)))


if __name__ == "__main__":
    main()
