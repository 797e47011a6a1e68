"""NAG in other processes: a conditioning that Ray sends there, and the node for Raylight, whose workers are Ray's.

The workers stand in for Raylight's, which need a GPU each: see ray_workers.py.
"""
import os

import pytest
import torch
from host.server import PACK

from ray_workers import DATA_PARALLEL, Worker, sampled

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # stays on the loopback then, on any system
ray = pytest.importorskip("ray", reason="Ray is not installed: tests/requirements.txt")
SEED, STRENGTH = 7, {"nag_scale": 5.0, "nag_tau": 2.5, "nag_alpha": 0.5}
LATENT = torch.zeros(1, 4, 16, 16)


@pytest.fixture(scope="module")
def playground(nodes):
    """(model, the CONDITIONING of "a blue square", that of "white")."""
    model, clip, _ = nodes.NAGPlaygroundLoader.execute().result
    with torch.inference_mode():
        return model, *(clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in ("a blue square", "white"))


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    """One that has loaded the pack from another folder, and one that has not loaded it, as Raylight's have not."""
    elsewhere = tmp_path_factory.mktemp("custom_nodes") / "nag.elsewhere"
    elsewhere.symlink_to(PACK)
    paths = os.pathsep.join([str(PACK), str(PACK / "tests")])
    variables = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)  # a local Ray's workers get them
    try:
        start_ray()
        actor = ray.remote(num_cpus=0, max_restarts=1, max_task_retries=1)(Worker)
        yield [actor.remote(elsewhere), actor.remote()]
    finally:
        ray.shutdown()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def start_ray():
    """It gives up when that takes more than 30 seconds, as it may on a machine that is loaded."""
    given = {"num_cpus": 2, "include_dashboard": False, "log_to_driver": False, "object_store_memory": 80 * 2**20}
    try:
        ray.init(**given)
    except Exception:
        ray.shutdown()
        ray.init(**given)


def painted(workers, *given, **more):
    return ray.get([worker.sample.remote(SEED, *given, LATENT, **more) for worker in workers])


def node(nodes, workers, **inputs):
    return nodes.NAGRaylight.execute({"workers": workers}, **{**STRENGTH, **inputs}).result[0]


def test_a_model_survives_cloudpickle(nodes, playground):
    """With its NAG, and with classes that ComfyUI makes in functions, for which pickle has no name."""
    from ray import cloudpickle

    there_and_back = lambda thing: cloudpickle.loads(cloudpickle.dumps(thing))
    model, positive, negative = playground
    guided = nodes.NAGModel.execute(model, negative, **STRENGTH).result[0]
    requests = [
        wrapper.request
        for wrappers in (guided.wrappers, there_and_back(guided.wrappers))
        for of_kind in wrappers.values() for of_key in of_kind.values() for wrapper in of_key
    ]  # fmt: skip
    assert len(requests) == 4 and len({(type(each), each.mark, each.settings) for each in requests}) == 1
    try:
        there_and_back(model)
    except TypeError as error:
        pytest.skip(f"this ComfyUI's models can't be pickled, with NAG or without: {error}")
    ours, theirs = (sampled(each, SEED, positive, negative, LATENT) for each in (guided, there_and_back(guided)))
    assert torch.equal(ours, theirs)


def test_raylights_workers_paint_what_one_process_paints(nodes, playground, workers):
    model, positive, negative = playground
    plain = sampled(model, SEED, positive, negative, LATENT)
    guided = sampled(nodes.NAGModel.execute(model, negative, **STRENGTH).result[0], SEED, positive, negative, LATENT)
    assert not torch.equal(plain, guided)
    assert ray.get(workers[1].modules.remote()) == []
    assert node(nodes, workers, nag_negative=negative) == {"workers": workers}
    assert all(torch.equal(guided, each) for each in painted(workers, positive, negative))
    assert [len(ray.get(worker.modules.remote())) for worker in workers] == [1, 1]
    node(nodes, workers)  # the sampler's negative then; the last node on a model counts
    assert all(torch.equal(guided, each) for each in painted(workers, positive, negative))
    node(nodes, workers, nag_negative=negative, strength=0.0)
    assert all(torch.equal(plain, each) for each in painted(workers, positive, negative))


def test_an_error_of_a_worker_is_the_nodes_own(nodes, playground, workers):
    _, positive, _ = playground
    with pytest.raises(ValueError, match="^The NAG negative") as said:
        node(nodes, workers, nag_negative=[[torch.zeros(1, 3, 5), {}]])
    assert "Traceback" not in str(said.value)  # which Ray's own error has in it
    with pytest.raises(ValueError, match="^ray_actors must come from"):
        nodes.NAGRaylight.execute([])


def test_modes_that_leave_no_place_are_refused_before_anything_runs(nodes, playground, workers):
    _, positive, negative = playground
    (_, worker), before = workers, painted(workers, positive, negative)
    ray.get(worker.set_parallel_dict.remote({**DATA_PARALLEL, "is_xdit": True, "ulysses_degree": 2}))
    try:
        with pytest.raises(ValueError, match="parts one picture among GPUs"):
            node(nodes, workers, nag_negative=negative)
    finally:
        ray.get(worker.set_parallel_dict.remote(DATA_PARALLEL))
    assert all(map(torch.equal, before, painted(workers, positive, negative)))


def test_a_conditioning_paints_elsewhere_what_it_paints_here(nodes, playground, workers):
    """Also where a worker is killed in mid-run, and the task is run again by the one that takes its place."""
    model, positive, negative = playground
    brings_nag = nodes.NAGConditioning.execute(positive, negative, **STRENGTH).result[0]
    ours = sampled(model, SEED, brings_nag, negative, LATENT)
    assert not torch.equal(ours, sampled(model, SEED, positive, negative, LATENT))
    node(nodes, workers, nag_negative=negative, strength=0.0)  # the second worker has the pack only from the node
    assert all(torch.equal(ours, each) for each in painted(workers, brings_nag, negative))


def test_a_killed_worker_is_replaced(nodes, playground, workers, tmp_path):
    model, positive, negative = playground
    brings_nag = nodes.NAGConditioning.execute(positive, negative, **STRENGTH).result[0]
    (again,) = painted(workers[:1], brings_nag, negative, dies=tmp_path / "died")
    assert (tmp_path / "died").exists()
    assert torch.equal(again, sampled(model, SEED, brings_nag, negative, LATENT))
