"""ComfyUI-NAG's code for Chroma, HiDream and HunyuanVideo beside ours, where the arithmetic should be the same.

That is for texts of one length and, where it modulates the image, one pooled output. COMFYUI_NAG names a checkout, and
ComfyUI must be one that it knows (0.3.62 to 0.3.67).
"""
import dataclasses
import importlib
import importlib.util
import os
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from door_families import BY_NAME
from door_families import pooled as table
from door_families.builder import model
from oracle.equation import Nag
from runs import Run, assert_close, difference
from subject import model_node

THEIRS = os.environ.get("COMFYUI_NAG")
pytestmark = [
    pytest.mark.usefixtures("inference_mode"),
    pytest.mark.skipif(THEIRS is None, reason="COMFYUI_NAG names no checkout of ComfyUI-NAG"),
]
# Its single blocks of HiDream's take T5's tokens alone for text, and guide Llama's as if they were image.
IN_TWO_STREAMS = {**table.HIDREAM, "num_single_layers": 0, "num_layers": 3, "llama_layers": [0, 2, 3]}
OF_HIDREAM = dataclasses.replace(BY_NAME["hidream"], build=model("HiDream", "HiDream", **IN_TWO_STREAMS))
SWITCHES = {
    "chroma": (BY_NAME["chroma"], "chroma.model.NAGChromaSwitch"),
    "hunyuan_video": (BY_NAME["hunyuan_video"], "hunyuan_video.model.NAGHunyuanVideoSwitch"),
    "hidream": (OF_HIDREAM, "hidream.model.NAGHiDreamImageTransformer2DModelSwitch"),
}


def loaded(path):
    """A class of theirs, without their nodes."""
    if "comfyui_nag" not in sys.modules:
        spec = importlib.util.spec_from_loader("comfyui_nag", None, is_package=True)
        package = importlib.util.module_from_spec(spec)
        package.__path__ = [str(Path(THEIRS))]
        sys.modules["comfyui_nag"] = package
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(f"comfyui_nag.{module}"), name)


@contextmanager
def switched(switch, patcher, nag):
    """With their code in the model."""
    switch = loaded(switch)(patcher.model.diffusion_model, nag.negative, nag.scale, nag.tau, nag.alpha, 0.0)
    switch.set_nag()
    try:
        yield patcher
    finally:
        switch.set_origin()


def of_both(nodes, family, switch, own_pooled):
    run, patcher = Run(family, negative_tokens=6), family.patcher()
    ((tokens, values),) = run.negative
    if not own_pooled:
        values["pooled_output"] = run.positive[0][1]["pooled_output"]
    nag = Nag([[tokens, values]])
    ours = run.sample(model_node(nodes, patcher, nag), negative=nag.negative)
    with switched(switch, patcher, nag):
        theirs = run.sample(patcher)
    assert difference(run.sample(patcher), theirs) > 1e-3
    return ours, theirs


@pytest.mark.parametrize(("family", "switch"), SWITCHES.values(), ids=SWITCHES)
def test_the_same(nodes, family, switch):
    ours, theirs = of_both(nodes, family, switch, own_pooled=family.name == "chroma")
    assert_close(ours, theirs)
