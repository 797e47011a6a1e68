"""One family for each way in which text and image meet, where the negative waits at the doors; the oracle beside nodes."""
import pytest

from door_families import BY_NAME
from oracle.lockstep import lockstep_model

ONE_STREAM = ["lumina2", "z_image", "krea2"]
ONE_BEHIND_TWO = ["chroma", "flux2_klein"]
TWO_STREAMS = ["qwen_image"]
CROSS = ["ltxv", "ltx2", "cosmos_predict2"]
JOINT = [*ONE_STREAM, *ONE_BEHIND_TWO, *TWO_STREAMS]
EACH = [BY_NAME[name] for name in (*JOINT, *CROSS)]
every_mechanism = pytest.mark.parametrize("family", EACH, ids=str)


def exactly(family, patcher, change=lambda patcher: patcher):
    """A clone in whose place the oracle answers, with what `change`, another node, does to the model."""
    return lockstep_model(change(patcher), family.tokens)
