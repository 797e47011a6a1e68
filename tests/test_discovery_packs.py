"""RES4LYF's classes for ComfyUI's models, which bring blocks of their own: RES4LYF names a checkout of it."""
import importlib
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from families import BY_NAME
from oracle.equation import Nag
from runs import Run, assert_close, difference
from subject import model_node

THEIRS = os.environ.get("RES4LYF")
pytestmark = [
    pytest.mark.usefixtures("inference_mode"),
    pytest.mark.skipif(THEIRS is None, reason="RES4LYF names no checkout of RES4LYF"),
]


def loaded(path):
    """A module of theirs, without their nodes."""
    if "RES4LYF" not in sys.modules:
        package = sys.modules["RES4LYF"] = ModuleType("RES4LYF")
        package.__path__ = [str(Path(THEIRS))]
        sys.modules["RES4LYF.res4lyf"] = SimpleNamespace(RESplain=lambda *said, **how: None)  # their log
    return importlib.import_module(f"RES4LYF.{path}")


def with_classes(patcher, **classes):
    """A clone whose modules of these paths' lists are of other classes, as their patcher nodes make one."""
    patched = patcher.clone()
    for path, cls in classes.items():
        *way, last = path.split("__")
        for i in range(len(getattr(patcher.model.diffusion_model, way[0])) if way else 0):
            at = f"diffusion_model.{way[0]}.{i}" + f".{last}" * (last != "block")
            patched.add_object_patch(f"{at}.__class__", cls)
            patched.add_object_patch(f"{at}.idx", i)
            if last == "self_attn":
                patched.add_object_patch(f"{at}.winderz_type", "false")
        if not way:
            patched.add_object_patch("diffusion_model.__class__", cls)
    return patched


def rewan(patcher):
    """As with their node's own settings."""
    wan = loaded("wan.model")
    patched = with_classes(
        patcher, blocks__self_attn=wan.ReWanSelfAttention, blocks__cross_attn=wan.ReWanT2VCrossAttention,
        blocks__block=wan.ReWanAttentionBlock, model=wan.ReWanModel,
    )  # fmt: skip
    for name, value in {"style_dtype": torch.float32, "proj_weights": None, "y0_adain_embed": None,
                        "threshold_inv": False}.items():
        patched.add_object_patch(f"diffusion_model.{name}", value)
    return patched


def reflux(patcher):
    layers, model = loaded("flux.layers"), loaded("flux.model")
    return with_classes(
        patcher, double_blocks__block=layers.DoubleStreamBlock, single_blocks__block=layers.SingleStreamBlock,
        model=model.ReFlux,
    )


def test_rewan_is_found(nodes):
    """Its attention goes by no override, so the prompts meet in front of the projection."""
    run, patcher = Run(BY_NAME["wan21_t2v"]), BY_NAME["wan21_t2v"].patcher()
    theirs = rewan(patcher)
    nag = Nag(run.negative, tau=2.5)
    plain = run.sample(theirs)
    assert_close(plain, run.sample(patcher))
    expected = run.sample(model_node(nodes, patcher, nag))
    assert difference(plain, expected) > 1e-3
    assert_close(run.sample(model_node(nodes, theirs, nag)), expected)


def test_reflux_is_refused(nodes):
    run, patcher = Run(BY_NAME["flux_schnell"]), BY_NAME["flux_schnell"].patcher()
    with pytest.raises(ValueError, match=r"ReFlux .*does not find out by itself"):
        run.sample(model_node(nodes, reflux(patcher), Nag(run.negative)))
