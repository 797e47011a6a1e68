"""Guided attention over a sequence that lies on several GPUs, which here are processes on the CPU."""
from ranks import check_cases


def test_merge(tmp_path):
    """By Ulysses, in a ring, and by both: in two processes and in four the same as in one."""
    check_cases("merging", (2, 4), tmp_path)
