"""What of NAG for Raylight needs no worker: whether the node is there, and where Raylight leaves NAG no place."""
import asyncio
import sys
import types

import pytest

from families import BY_NAME
from runs import Run
from subject import out

pytestmark = pytest.mark.usefixtures("inference_mode")
FAMILY = BY_NAME["flux_schnell"]
APART = {"is_xdit": False, "is_fsdp": False, "ulysses_degree": 2}  # without is_xdit a degree stands for nothing
OF_ONE = {"is_xdit": True, "ulysses_degree": 1, "ring_degree": 1, "cfg_degree": 1}
REFUSED = {  # by mode
    "ulysses": ({**OF_ONE, "ulysses_degree": 2}, "parts one picture among GPUs"),
    "ring": ({**OF_ONE, "ring_degree": 2}, "parts one picture among GPUs"),
    "cfg": ({**OF_ONE, "cfg_degree": 2}, "parts positive and negative"),
    "pipefusion": ({**APART, "pipefusion_enabled": True}, "under Raylight's PipeFusion"),
}
ALLOWED = {
    "apart": APART,
    "fsdp": {**APART, "is_fsdp": True},
    "groups of one": OF_ONE,
}


@pytest.fixture
def packs(part, tmp_path, monkeypatch):
    """A folder of packs, the only one that ComfyUI looks into."""
    monkeypatch.setattr(part("nodes.raylight").folder_paths, "get_folder_paths", lambda kind: [str(tmp_path)])
    return tmp_path


def code_of(module):
    """A function as one of Raylight's modules has it."""

    def code(*args, **kwargs):
        pytest.fail("it ran")

    code.__module__ = module
    return code


@pytest.mark.parametrize(
    ("folder", "there"), [(None, False), ("raylight", True), ("Raylight-main", True), ("raylight.disabled", False)]
)
def test_it_is_there_where_raylight_is(pack, packs, folder, there):
    if folder is not None:
        (packs / folder / "src" / "raylight").mkdir(parents=True)
    nodes = asyncio.run(asyncio.run(pack.comfy_entrypoint()).get_node_list())
    assert ("NAGRaylight" in [node.GET_SCHEMA().node_id for node in nodes]) is there


def test_to_look_for_it_imports_nothing(part, packs):
    before = set(sys.modules)
    part("nodes.raylight").is_here()
    assert set(sys.modules) == before


@pytest.mark.parametrize("mode", REFUSED)
def test_a_mode_without_a_place_is_refused(patches, mode):
    parallel, match = REFUSED[mode]
    with pytest.raises(ValueError, match=match) as said:
        patches("raylight").check_asked(parallel)
    assert "Ray Init Actor to 0" in str(said.value)


@pytest.mark.parametrize("mode", ALLOWED)
def test_others_are_not(patches, mode):
    patches("raylight").check_asked(ALLOWED[mode])


def test_what_raylight_puts_on_a_model_ends_a_run_before_it_samples(nodes):
    """In its workers, say with NAG Conditioning, of which no node of ours sees that it goes there."""
    run = Run(FAMILY, steps=1)
    guided = out(nodes.NAGModel, FAMILY.patcher(), run.negative)
    diffusion_model, code = guided.model.diffusion_model, code_of("raylight.diffusion_models.flux.context")
    run.sample(guided)
    diffusion_model.forward_orig = types.MethodType(code, diffusion_model)
    try:
        with pytest.raises(ValueError, match="parts one picture among GPUs"):
            run.sample(guided)
    finally:
        del diffusion_model.forward_orig
    for name, match in (("cfg_parallel_forward_wrapper", "parts positive and"), ("pipefusion_wrapper", "PipeFusion")):
        around, wrapper = guided.clone(), code_of("raylight.distributed_modules.cfg")
        wrapper.__qualname__ = name
        around.add_wrapper("diffusion_model", wrapper)
        with pytest.raises(ValueError, match=match):
            run.sample(around)
