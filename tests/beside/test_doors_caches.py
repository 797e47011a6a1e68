"""ComfyUI's EasyCache and LazyCache on families whose negative waits at the doors."""
import dataclasses

import pytest
import torch
from comfy.patcher_extension import WrappersMP

from caches import SKIPPING_ALL, STEPS, WINDOWS, OfDenoised, every_window
from door_families import BY_NAME
from door_families.builder import references
from doors_others import EACH, exactly
from oracle.equation import Nag
from oracle.sampling import KEY, guided_by
from other_nodes import by_conditioning, by_node, model_first, model_last
from runs import Run, assert_close, difference
from stock import stock
from subject import model_node

pytestmark = pytest.mark.usefixtures("inference_mode")


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


def by_lazycache(computed):
    def change(patcher):
        cached = patcher.clone()
        cached.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "cache", OfDenoised(computed))
        return cached

    return change


EXACT = {"EasyCache": OfModel, "LazyCache": by_lazycache}
ORDERS = (model_first, model_last, by_conditioning)
IN_EVERY_ORDER = {("lumina2", cache) for cache in EXACT} | {
    ("z_image", "EasyCache"), ("qwen_image", "EasyCache"), ("chroma", "EasyCache"), ("cosmos_predict2", "LazyCache")
}  # fmt: skip
CASES = [
    (family, order, cache)
    for family in EACH
    for cache in EXACT
    for order in (ORDERS if (family.name, cache) in IN_EVERY_ORDER else ORDERS[1:2])
]


@pytest.mark.parametrize(("family", "order", "cache"), CASES, ids=lambda value: getattr(value, "__name__", str(value)))
@every_window
def test_caches(nodes, family, order, cache, window):
    percents, computed = WINDOWS[window]
    run, patcher = Run(family, steps=STEPS), family.patcher()
    nag = Nag(family.conditioning(11, 5), **percents)
    expected = run.sample(exactly(family, patcher, EXACT[cache](computed)), guided_by(run.positive, nag))
    assert difference(expected, run.sample(exactly(family, patcher), guided_by(run.positive, nag))) > 0.001
    model, positive = order(nodes, patcher, run.positive, nag, by_node(cache, **SKIPPING_ALL))
    assert_close(run.sample(model, positive), expected)


KLEIN = dataclasses.replace(
    BY_NAME["flux2_klein"], inputs=references((128, 2, 3), method="index_timestep_zero")
)


@pytest.mark.parametrize(
    ("family", "share"), [(KLEIN, 5), (BY_NAME["qwen_image_edit_2511"], 2), (BY_NAME["krea2_edit"], 2)], ids=str
)
def test_cached_references(nodes, family, share):
    """In later steps ComfyUI's cache puts the references' keys of the first step behind all others."""
    run, patcher = Run(family), family.patcher()
    nag = Nag(run.negative)
    cached = lambda: stock("FluxKVCache", model=patcher)[0]
    plain, guided = run.sample(patcher), run.sample(model_node(nodes, patcher, nag))
    by_cache = difference(run.sample(cached()), plain)
    assert 0 < by_cache < difference(guided, plain) / share
    assert difference(run.sample(model_node(nodes, cached(), nag)), guided) < 2 * by_cache
