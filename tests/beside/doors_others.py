"""Families whose negative waits at the doors, one of each mechanism, patched by other nodes, and the oracle of them."""
import copy
import threading

import pytest

from door_families import BY_NAME
from oracle.lockstep import lockstep_model

ONE_STREAM = ["lumina2", "z_image", "krea2"]
ONE_BEHIND_TWO = ["chroma", "flux2_klein"]
TWO_STREAMS = ["qwen_image", "lens"]
CROSS = ["ltxv", "ltx2", "cosmos_predict2"]
BY_A_VECTOR = ["hunyuan_video"]  # of each prompt's own
JOINT = [*ONE_STREAM, *ONE_BEHIND_TWO, *TWO_STREAMS, *BY_A_VECTOR]
EACH = [BY_NAME[name] for name in (*JOINT, *CROSS)]
every_mechanism = pytest.mark.parametrize("family", EACH, ids=str)


def exactly(family, patcher, change=lambda patcher: patcher):
    """A clone in whose place the oracle answers, with what `change`, another node, does to the model."""
    return lockstep_model(change(patcher), family.tokens)


def each_thread_its_own(patcher):
    """A clone in which Z-Image's ControlNet keeps apart what it remembers of each of the oracle's two calls."""
    own, made = patcher.clone(), {}
    patches = own.model_options["transformer_options"]["patches"]
    for name, given in patches.items():
        patches[name] = [
            made.setdefault(id(patch), OfThread(patch)) if hasattr(patch, "temp_data") else patch for patch in given
        ]
    return own


class OfThread:
    """A patch, of which each thread has a copy."""

    def __init__(self, patch):
        self.patch, self.here = patch, threading.local()

    def __call__(self, *args, **given):
        if not hasattr(self.here, "patch"):
            self.here.patch = copy.copy(self.patch)
        return self.here.patch(*args, **given)

    def to(self, device_or_dtype):
        self.patch.to(device_or_dtype)
        return self

    def models(self):
        return self.patch.models()
