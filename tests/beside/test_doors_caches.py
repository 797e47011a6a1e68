"""ComfyUI's EasyCache and LazyCache on families whose negative waits at the doors."""
import pytest
import torch
from comfy.patcher_extension import WrappersMP

from door_families import BY_NAME
from doors_others import EACH, exactly
from oracle.equation import Nag
from oracle.sampling import KEY, guided_by
from other_nodes import by_conditioning, by_node, model_first, model_last
from runs import Run, assert_close, difference
from stock import stock
from subject import model_node

pytestmark = pytest.mark.usefixtures("inference_mode")
STEPS = 6
# When NAG acts, and the steps that run: two, from which the cache learns, at the start and where NAG turns on or off.
WINDOWS = {"throughout": ({}, {0, 1}), "stops early": ({"end_percent": 0.45}, {0, 1, 3, 4})}
SKIPPING_ALL = {"reuse_threshold": 1e9, "start_percent": 0.0, "end_percent": 1.0, "verbose": False}


class OfModel:
    """The oracle under EasyCache: in other steps than these, the last change of the model's input is taken.

    As with EasyCache, x itself is changed then, from which the picture without noise is computed.
    """

    def __init__(self, computed):
        self.computed, self.step, self.text, self.change = computed, -1, None, None

    def around_call(self, executor, x, t, c_concat=None, c_crossattn=None, *rest, **values):
        self.step, self.text = self.step + 1, c_crossattn
        if self.step not in self.computed:
            values.pop(KEY, None)
        return executor(x, t, c_concat, c_crossattn, *rest, **values)

    def around_model(self, executor, x, t, context, *rest, **values):
        parts = x if isinstance(x, list) else [x]
        if self.step not in self.computed:
            for part, change in zip(parts, self.change):
                part.add_(change)
            return x
        before = [part.clone() for part in parts]
        out = executor(x, t, context, *rest, **values)
        if context.shape == self.text.shape and torch.equal(context, self.text):  # not the negative's run
            self.change = [after - part for after, part in zip(out if isinstance(out, list) else [out], before)]
        return out

    def __call__(self, patcher):
        cached = patcher.clone()
        cached.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "cache", self.around_call)
        cached.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "cache", self.around_model)
        return cached


class OfDenoised:
    """In other steps than these, the last change of x by the denoising is taken."""

    def __init__(self, computed):
        self.computed, self.step, self.change = computed, 0, None

    def around_prediction(self, executor, x, *args):
        if self.step in self.computed:
            self.change = executor(x, *args) - x
        self.step += 1
        return x + self.change

    def __call__(self, patcher):
        cached = patcher.clone()
        cached.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "cache", self.around_prediction)
        return cached


EXACT = {"EasyCache": OfModel, "LazyCache": OfDenoised}
CASES = [(family, model_last, cache, window) for family in EACH for cache in EXACT for window in WINDOWS]
CASES += [(EACH[0], order, cache, "stops early") for order in (model_first, by_conditioning) for cache in EXACT]


@pytest.mark.parametrize(
    ("family", "order", "cache", "window"), CASES, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_caches(nodes, family, order, cache, window):
    percents, computed = WINDOWS[window]
    run, patcher = Run(family, steps=STEPS), family.patcher()
    nag = Nag(family.conditioning(11, 5), **percents)
    expected = run.sample(exactly(family, patcher, EXACT[cache](computed)), guided_by(run.positive, nag))
    assert difference(expected, run.sample(exactly(family, patcher), guided_by(run.positive, nag))) > 0.001
    model, positive = order(nodes, patcher, run.positive, nag, by_node(cache, **SKIPPING_ALL))
    assert_close(run.sample(model, positive), expected)


@pytest.mark.parametrize("name", ["qwen_image_edit_2511", "krea2_edit"])
def test_cached_references(nodes, name):
    """In later steps ComfyUI's cache puts the references' keys of the first step behind all others."""
    family = BY_NAME[name]
    run, patcher = Run(family), family.patcher()
    nag = Nag(run.negative)
    cached = lambda: stock("FluxKVCache", model=patcher)[0]
    plain, guided = run.sample(patcher), run.sample(model_node(nodes, patcher, nag))
    by_cache = difference(run.sample(cached()), plain)
    assert 0 < by_cache < difference(guided, plain) / 2
    assert difference(run.sample(model_node(nodes, cached(), nag)), guided) < 2 * by_cache
