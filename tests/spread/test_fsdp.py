"""NAG in a model whose weights lie on several GPUs, which here are processes on the CPU."""
from ranks import check_cases


def test_fsdp(tmp_path):
    """Each process gets the picture of one that has all weights, with NAG and without."""
    check_cases("sharding", (2,), tmp_path)
