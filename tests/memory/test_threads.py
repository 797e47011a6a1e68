"""ComfyUI's multi-GPU mode: clones of a model on several devices, each of which gets some of a step's conditionings,
in a thread of its own and outside of inference mode, with all that NAG prepared for the run shared between them."""
import threading

import comfy.model_patcher
import pytest
import torch

from mechanisms import MECHANISM_AND_STREAM
from runs import Run, assert_close
from stored import patcher_of, weights_of

pytestmark = pytest.mark.usefixtures("inference_mode")
every_stream = pytest.mark.parametrize(("family", "stream"), MECHANISM_AND_STREAM, ids=str)
TIMES = 10


def record(run, patcher, positive):
    """The model calls of a sampling run, as ComfyUI makes them: (arguments, result)."""
    calls = []

    def note(apply_model, call):
        given = copied({"x": call["input"], "t": call["timestep"], **call["c"]})
        calls.append((given, apply_model(call["input"], call["timestep"], **call["c"])))
        return calls[-1][1]

    patcher = patcher.clone()
    patcher.set_model_unet_function_wrapper(note)
    run.sample(patcher, positive)
    return calls


def copied(arguments):
    """With tensors that the model may write into."""
    return {name: value.clone() if torch.is_tensor(value) else value for name, value in arguments.items()}


def another(family):
    """The same model again, as each further device has one."""
    return patcher_of(family, weights_of(family), torch.float32).model


def in_threads(calls, models):
    """What each model makes of the calls, all at the same time and each in another order; `TIMES` times."""
    start, results = threading.Barrier(len(models)), {}

    @torch.no_grad()
    def work(n, model):
        start.wait()
        for _ in range(TIMES):
            for i, (given, _) in list(enumerate(calls))[:: 1 if n else -1]:
                results.setdefault((n, i), []).append(model.apply_model(**copied(given)))

    threads = [threading.Thread(target=work, args=(n, model)) for n, model in enumerate(models)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.fixture
def region(patches):
    """A positive with a NAG of its own, whose statistics go into a list."""

    def region(family, seed, scale, stream, steps):
        how = patches("settings").Options(image_stream=stream, statistics=steps is not None)
        settings = patches("settings").Settings(nag_scale=scale, options=how)
        report = None if steps is None else steps.append
        request = patches("sampling.request").Request(settings, family.conditioning(9 + seed, 2 + seed), report)
        return patches("sampling.entry").guide_conditioning(family.conditioning(seed, 6), request)

    return region


@every_stream
@pytest.mark.parametrize("steps", [None, []], ids=["", "statistics"])
def test_two_clones_at_the_same_time(region, family, stream, steps):
    """Two regions and the negative of CFG: calls that differ in their texts and in how they are guided."""
    run, patcher = Run(family, cfg=3.0, steps=1), family.patcher()
    calls = record(run, patcher, region(family, 1, 3.0, stream, steps) + region(family, 2, 5.0, stream, steps))
    results = in_threads(calls, [another(family), another(family)])
    assert len(results) == 2 * len(calls) > 2
    for (_, i), found in results.items():
        assert len(found) == TIMES
        assert all(torch.equal(result, calls[i][1]) for result in found)


@every_stream
@pytest.mark.parametrize("statistics", [False, True], ids=["", "statistics"])
def test_comfyuis_own_mode(region, family, stream, statistics):
    """One and the same processor under two names, which ComfyUI takes for two devices."""
    if not hasattr(comfy.model_patcher.ModelPatcher, "match_multigpu_clones"):
        pytest.skip("this ComfyUI has no multi-GPU mode")
    run, patcher = Run(family, cfg=3.0, steps=2), family.patcher().clone()
    steps = [[] for _ in range(2)] if statistics else [None, None]
    positives = [region(family, 1, 3.0, stream, kept) + region(family, 2, 5.0, stream, kept) for kept in steps]
    alone = run.sample(patcher, positives[0])
    second = comfy.model_patcher.ModelPatcher(
        another(family), load_device=torch.device("cpu:0"), offload_device=torch.device("cpu")
    )
    second.is_multigpu_base_clone = True
    patcher.set_additional_models("multigpu", [second])
    called = []
    hook = second.model.diffusion_model.register_forward_pre_hook(lambda *_: called.append(threading.current_thread()))
    shared = run.sample(patcher, positives[1])
    hook.remove()
    assert called and threading.main_thread() not in called
    assert_close(shared, alone)
    if statistics:
        assert_close(figures(steps[1]), figures(steps[0]))


def figures(steps):
    return torch.tensor([[step.ratio, step.clipped, step.moved] for step in steps])
