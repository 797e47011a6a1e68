"""After a fault the next prompt gives bit for bit what a server gives that has had none."""
import contextlib
import time

import pytest
from host.client import ExecutionError
from painter import PATIENCE, STEPS, WAYS, Painter, sampling

from mechanisms import BY_NAME, is_here

MODULES = {  # of each family: the first that runs, one in the middle of a block, the last
    "flux_dev": ("img_in", "single_blocks.1.linear2", "final_layer"),
    "sd35_medium": ("x_embedder", "joint_blocks.1.context_block.attn.qkv", "final_layer"),
    "sdxl": ("label_emb", "middle_block.1.transformer_blocks.0.attn2.to_v", "out.2"),
    "wan21_t2v": ("patch_embedding", "blocks.1.cross_attn.v", "head"),
    "z_image": ("x_embedder", "layers.1.attention.qkv", "final_layer"),
    "qwen_image": ("img_in", "transformer_blocks.1.attn.to_v", "proj_out"),
    "chroma": ("img_in", "single_blocks.1.linear2", "final_layer"),
    "cosmos_predict2": ("x_embedder", "blocks.1.cross_attn.v_proj", "final_layer"),
}
MODULES = {name: places for name, places in MODULES.items() if is_here(BY_NAME[name])}
FAMILY_AND_WAY = [
    *(("flux_dev", way) for way in WAYS),
    *((family, way) for family in list(MODULES)[1:] for way in ("NAGModel", "NAGConditioning")),
]
in_every_way = pytest.mark.parametrize(("family", "way"), FAMILY_AND_WAY)
in_a_block = {"place": MODULES["flux_dev"][1], "n": 1}


def assert_goes_on(painter, fresh, family, way):
    """Prompts without NAG and with it, on the model that has had the fault."""
    for each in (None, way, None):
        assert painter.paint(sampling(family, each)) == fresh(sampling(family, each)), f"by {each or 'no NAG'}"


@pytest.mark.parametrize("when", range(STEPS), ids=["at once", "in a block", "at the end"])
@in_every_way
def test_out_of_memory(painter, fresh, family, way, when):
    """ComfyUI then unloads all models."""
    fault = {"place": MODULES[family][when], "n": when, "does": "run out of memory"}
    with pytest.raises(ExecutionError, match="OutOfMemoryError: .* on purpose"):
        painter.paint(sampling(family, way, fault))
    assert_goes_on(painter, fresh, family, way)


CALLED_ONCE_A_RUN = ("outer_sample", "sampler_sample", "on_pre_run", "on_cleanup")
CALLED_EACH_STEP = (
    "attention override", "model function wrapper", "post cfg function", "apply_model", "diffusion_model",
    "calc_cond_batch", "predict_noise",
)  # fmt: skip
HOOKS = [
    *(("flux_dev", place) for place in ("a module", *CALLED_ONCE_A_RUN, *CALLED_EACH_STEP)),
    *(("sdxl", place) for place in ("attn2 patch", "attn2 replacement", "apply_model")),
    *((family, place) for family in list(MODULES)[1:] for place in ("a module", "attention override")),
]


@pytest.mark.parametrize(
    ("way", "fault_first"), [("NAGModel", True), ("NAGModel", False), ("NAGConditioning", True)],
    ids=["before NAGModel", "behind NAGModel", "NAGConditioning"],
)  # fmt: skip
@pytest.mark.parametrize(("family", "place"), HOOKS)
def test_a_fault_in_another_nodes_hook(painter, fresh, family, place, way, fault_first):
    fault = {"place": place, "n": 0 if place in CALLED_ONCE_A_RUN else 1, "does": "fail"}
    if place == "a module":
        fault["place"] = MODULES[family][1]
    with pytest.raises(ExecutionError, match="Deliberate: on purpose"):
        painter.paint(sampling(family, way, fault, fault_first))
    assert_goes_on(painter, fresh, family, way)


@contextlib.contextmanager
def waiting(server, graph):
    """Queue a prompt that waits at a place, which it has reached when this block begins; gives its id.

    When the block ends the prompt is cancelled, as a person cancels it.
    """
    gate, painter = server.base / "output" / "at_the_gate", Painter(server.url)
    gate.unlink(missing_ok=True)
    prompt_id = painter.submit(graph)
    until = time.monotonic() + PATIENCE
    while not gate.exists():
        assert time.monotonic() < until, "the prompt does not come to its gate"
        time.sleep(0.01)
    yield prompt_id
    painter.post("/interrupt", {})


def assert_was_cancelled(painter, prompt_id):
    with pytest.raises(ExecutionError) as caught:
        painter.ended(prompt_id)
    assert "exception_type" not in caught.value.details  # of an error; a cancelled prompt has none


@pytest.mark.parametrize(
    ("place", "does"),
    [("in a block", "wait and stop"), ("in a block", "wait"), ("post cfg function", "wait")],
    ids=["in a block", "after the call", "between steps"],
)
@pytest.mark.parametrize(("family", "way"), FAMILY_AND_WAY[: len(WAYS)] + FAMILY_AND_WAY[len(WAYS) :: 2])
def test_cancelled(faulty, painter, fresh, family, way, place, does):
    """ComfyUI looks for it between the steps; some nodes, and newer versions, within one."""
    fault = {"place": MODULES[family][1] if place == "in a block" else place, "n": 1, "does": does}
    with waiting(faulty, sampling(family, way, fault)) as prompt_id:
        pass
    assert_was_cancelled(painter, prompt_id)
    assert_goes_on(painter, fresh, family, way)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("does", ["wait and stop", "fail"])
def test_while_the_model_is_loaded(faulty, painter, fresh, way, does):
    with pytest.raises(ExecutionError):  # then it has to be loaded again
        painter.paint(sampling("flux_dev", way, {**in_a_block, "does": "run out of memory"}))
    graph = sampling("flux_dev", way, {"place": "on_load_after", "n": 0, "does": does})
    if does == "fail":
        with pytest.raises(ExecutionError, match="Deliberate: on purpose"):
            painter.paint(graph)
    else:
        with waiting(faulty, graph) as prompt_id:
            pass
        assert_was_cancelled(painter, prompt_id)
    assert_goes_on(painter, fresh, "flux_dev", way)


def test_deleted_from_the_queue(faulty, painter, fresh):
    graphs = {way: sampling("flux_dev", way) for way in (*WAYS, None)}
    with waiting(faulty, sampling("flux_dev", "NAGModel", {**in_a_block, "does": "wait"})) as cancelled:
        queued = {way: painter.submit(graph) for way, graph in graphs.items()}
        deleted = [queued.pop("NAGModel"), queued.pop("NAGSampler")]
        painter.post("/queue", {"delete": deleted})
    assert_was_cancelled(painter, cancelled)
    assert {way: painter.digest(prompt_id) for way, prompt_id in queued.items()} == {
        way: fresh(graphs[way]) for way in queued
    }
    assert [painter.history(prompt_id) for prompt_id in deleted] == [None, None]
    assert_goes_on(painter, fresh, "flux_dev", "NAGModel")


def test_killed(faulty, fresh):
    """The queue is lost with the server, and queued anew by whoever wants it."""
    graphs = [sampling(family, way) for family, way in FAMILY_AND_WAY]
    fault = {**in_a_block, "does": "wait"}
    with contextlib.suppress(OSError), waiting(faulty, sampling("flux_dev", "separate", fault)):
        for graph in graphs:
            Painter(faulty.url).submit(graph)
        faulty.kill()
    faulty.start()
    painter = Painter(faulty.url)
    queued = [painter.submit(graph) for graph in graphs]
    assert [painter.digest(prompt_id) for prompt_id in queued] == [fresh(graph) for graph in graphs]
