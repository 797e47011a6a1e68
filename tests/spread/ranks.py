"""Several processes, as several GPUs have them, which talk to each other by torch.distributed, with gloo on the CPU.

They are forked from one of their own, which a test starts: so it has no threads, and imports what they need once.
"""
import importlib
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

PASSED = "passed: "
LONGEST = 120  # seconds that a process waits for another


def check_cases(module: str, numbers: Sequence[int], folder: Path) -> None:
    """Run the cases of a module beside this one, each in all processes at once.

    Its `cases(ranks)` gives them by name: functions of no arguments, which raise in a process where something is wrong.

    Args:
        numbers: of processes; the cases are run for each.
        folder: an empty one.
    """
    if not hasattr(os, "fork"):
        pytest.skip("processes can't be forked here")
    command = [sys.executable, __file__, module, str(folder), *map(str, numbers)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    passed = [line.removeprefix(PASSED) for line in done.stdout.splitlines() if line.startswith(PASSED)]
    assert done.returncode == 0, f"passed: {passed}\n{done.stderr[-8000:]}"
    assert len(passed) == len(set(passed)) >= len(numbers)


def _rank(rank, ranks, module, store):
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    file, patience = f"file://{store}", timedelta(seconds=LONGEST)
    dist.init_process_group("gloo", init_method=file, timeout=patience, world_size=ranks, rank=rank)
    for name, case in module.cases(ranks).items():
        case()
        dist.barrier()
        if rank == 0:
            print(f"{PASSED}{name}, of {ranks}", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    from torch.multiprocessing import start_processes

    _module, _folder, *_numbers = sys.argv[1:]
    _cases = importlib.import_module(_module)
    for _ranks in map(int, _numbers):
        start_processes(_rank, (_ranks, _cases, f"{_folder}/{_ranks}"), _ranks, start_method="fork")
