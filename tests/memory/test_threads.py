"""ComfyUI's multi-GPU mode: clones of a model on several devices, each of which gets some of a step's conditionings,
in a thread of its own and outside of inference mode, with all that NAG prepared for the run shared between them."""
import contextlib
import dataclasses
import threading

import comfy.model_patcher
import pytest
import torch

from families import TEXT, VIDEO, _first_frame_and_clip_vision
from mechanisms import BY_NAME, MECHANISM_AND_STREAM
from runs import Run, assert_close, difference
from stored import patcher_of, weights_of
from subject import out
from test_wan_kin import family_of

pytestmark = pytest.mark.usefixtures("inference_mode")
every_stream = pytest.mark.parametrize(("family", "stream"), MECHANISM_AND_STREAM, ids=str)
TIMES = 10
SECOND = torch.device("cpu:0")
# Families of these mechanisms that keep more between a run's calls, or whose text has more parts.
FURTHER = [BY_NAME[name] for name in ("hidream", "sana", "hunyuan_dit", "ace_step15", "ltx23", "lens")]
# What NAG Options say, or what comes with the negative, besides.
CONTROLS = {
    "vsf": {"equation": "vsf", "vsf_offset": 1.0},
    "orthogonal": {"equation": "orthogonal"},
    "list": {"schedule": "list", "strengths": (1.0, 0.4)},
    "block": {"blocks": "1"},
    "mask": {},
}
WITH_CONTROLS = [
    (BY_NAME[name], control)
    for name, controls in {
        "flux_dev": CONTROLS,
        "wan21_i2v": ("vsf", "block", "mask"),
        "pixart_sigma": ("orthogonal", "mask"),
    }.items()
    for control in controls
]


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

    def region(family, seed, scale, stream="shared", steps=None, control="none"):
        options = CONTROLS.get(control, {})
        how = patches("settings").Options(image_stream=stream, statistics=steps is not None, **options)
        settings = patches("settings").Settings(nag_scale=scale, options=how)
        report = None if steps is None else steps.append
        where = {"mask": half(), "mask_strength": 1.0} if control == "mask" else {}
        negative = family.conditioning(9 + seed, 2 + seed, **where)
        request = patches("sampling.request").Request(settings, negative, report)
        return patches("sampling.entry").guide_conditioning(family.conditioning(seed, 6), request)

    return region


def half():
    """A mask: NAG acts on the left."""
    mask = torch.zeros(1, 8, 8)
    mask[..., :4] = 1
    return mask


@every_stream
@pytest.mark.parametrize("steps", [None, []], ids=["", "statistics"])
def test_two_clones_at_the_same_time(region, family, stream, steps):
    """Two regions and the negative of CFG: calls that differ in their texts and in how they are guided."""
    check_clones(family, region(family, 1, 3.0, stream, steps) + region(family, 2, 5.0, stream, steps))


@pytest.mark.parametrize("family", FURTHER, ids=str)
def test_two_clones_of_further_families(region, family):
    check_clones(family, region(family, 1, 3.0) + region(family, 2, 5.0))


@pytest.mark.parametrize(("family", "control"), WITH_CONTROLS, ids=str)
def test_two_clones_with_controls(region, family, control):
    check_clones(family, region(family, 1, 3.0, control=control) + region(family, 2, 5.0))


def check_clones(family, positive):
    """What two models make of a run's calls at the same time is what one makes of them one by one."""
    calls = record(Run(family, cfg=3.0, steps=1), family.patcher(), positive)
    results = in_threads(calls, [another(family), another(family)])
    assert len(results) == 2 * len(calls) > 2
    for (_, i), found in results.items():
        assert len(found) == TIMES
        assert all(torch.equal(result, calls[i][1]) for result in found)


@every_stream
@pytest.mark.parametrize("statistics", [False, True], ids=["", "statistics"])
def test_comfyuis_own_mode(region, family, stream, statistics):
    steps = [[] for _ in range(2)] if statistics else [None, None]
    positives = [region(family, 1, 3.0, stream, kept) + region(family, 2, 5.0, stream, kept) for kept in steps]
    check_mode(family, *positives)
    if statistics:
        assert_close(figures(steps[1]), figures(steps[0]))


def test_comfyuis_own_mode_with_a_text_for_the_pose(region):
    """WanAnimate2 attends to a further text, from the video that drives the picture."""
    pose = {"pose_video_latent": (VIDEO[0], VIDEO[1] - 1, *VIDEO[2:]), "cross_attn_pose": (5, TEXT)}
    given = lambda: {name: torch.randn(1, *shape) for name, shape in pose.items()} | _first_frame_and_clip_vision()
    family = dataclasses.replace(family_of("WAN_Animate2", image_to_video=True, in_dim=36), inputs=given)
    check_mode(family, *[region(family, 1, 3.0) + region(family, 2, 5.0) for _ in range(2)])


@pytest.mark.parametrize("family", FURTHER, ids=str)
def test_comfyuis_own_mode_with_further_families(region, family):
    check_mode(family, *[region(family, 1, 3.0) + region(family, 2, 5.0) for _ in range(2)])


@pytest.mark.parametrize(("family", "control"), WITH_CONTROLS, ids=str)
def test_comfyuis_own_mode_with_controls(region, family, control):
    both = [region(family, 1, 3.0, control=control) + region(family, 2, 5.0, control=control) for _ in range(2)]
    check_mode(family, *both)
    run = Run(family, cfg=3.0, steps=2)
    without = run.sample(family.patcher(), region(family, 1, 3.0) + region(family, 2, 5.0))
    assert difference(run.sample(family.patcher(), both[0]), without) > 1e-4


@pytest.mark.parametrize("first", [False, True], ids=["clone, then NAG", "NAG, then clone"])
def test_comfyuis_own_mode_with_nag_on_the_model(nodes, first):
    """ComfyUI's node for it makes the second model of the first one, with all that nodes have put on that."""
    family = BY_NAME["flux_dev"]
    skip_without_mode()
    run, patcher, positive = Run(family, cfg=3.0, steps=2), family.patcher().clone(), family.conditioning(1, 6)
    positive += family.conditioning(2, 6)
    patcher.cached_patcher_init = (lambda: on_second(family), ())
    guide = lambda model: out(nodes.NAGModel, model, nag_negative=family.conditioning(9, 3))
    alone = run.sample(guide(patcher), positive)
    assert difference(alone, run.sample(patcher, positive)) > 1e-3
    patcher = guide(patcher) if first else patcher
    second = patcher.deepclone_multigpu(SECOND)
    patcher.set_additional_models("multigpu", [as_clone(second)])
    assert_close(sampled_by_both(run, patcher if first else guide(patcher), second, positive), alone)


def check_mode(family, on_one, on_two):
    """A run in one process and device, and one on two devices."""
    skip_without_mode()
    run, patcher = Run(family, cfg=3.0, steps=2), family.patcher().clone()
    alone = run.sample(patcher, on_one)
    second = as_clone(on_second(family))
    patcher.set_additional_models("multigpu", [second])
    assert_close(sampled_by_both(run, patcher, second, on_two), alone)


def skip_without_mode():
    if not hasattr(comfy.model_patcher.ModelPatcher, "match_multigpu_clones"):
        pytest.skip("this ComfyUI has no multi-GPU mode")


def on_second(family):
    """One and the same processor under two names, which ComfyUI takes for two devices."""
    return comfy.model_patcher.ModelPatcher(another(family), load_device=SECOND, offload_device=torch.device("cpu"))


def as_clone(second):
    second.is_multigpu_base_clone = True
    return second


def sampled_by_both(run, patcher, second, positive):
    called = []
    layers = [each for each in second.model.diffusion_model.modules() if isinstance(each, torch.nn.Linear)]
    note = lambda *_: called.append(threading.current_thread())
    with contextlib.ExitStack() as hooks:
        for layer in layers:
            hooks.callback(layer.register_forward_pre_hook(note).remove)
        shared = run.sample(patcher, positive)
    assert called and threading.main_thread() not in called
    return shared


def figures(steps):
    return torch.tensor([[step.ratio, step.clipped, step.moved] for step in steps])
