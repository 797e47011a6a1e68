"""Caches that skip steps: ComfyUI's EasyCache and LazyCache, and what TeaCache and WaveSpeed's first-block cache do."""
from unittest.mock import patch

import comfy.ldm.flux.layers
import pytest
import torch
from comfy.patcher_extension import WrappersMP

from caches import SKIPPING_ALL, STEPS, WINDOWS, OfDenoised, every_window
from dit_others import DITS, own_patcher
from families import BY_NAME
from oracle import dit
from oracle.equation import Nag
from oracle.sampling import exact_model, guided_by
from other_nodes import by_node, every_order
from runs import Run, assert_close, difference

pytestmark = pytest.mark.usefixtures("inference_mode")
FLUX = [(BY_NAME["flux_dev"], "shared"), (BY_NAME["flux_dev"], "separate")]


class OfModel:
    """The oracle's forward under EasyCache: in other steps than these, the last change of the input is taken.

    As with EasyCache, x itself is changed then, from which the picture without noise is computed: in float32 the two
    are one tensor.
    """

    def __init__(self, forward, computed):
        self.forward, self.computed = forward, computed
        self.step, self.change = 0, None

    def __call__(self, net, x, t, cond, negative, nag):
        self.step += 1
        if self.step - 1 not in self.computed:
            return x.add_(self.change)
        out = self.forward(net, x, t, cond, negative, nag)
        self.change = out - x
        return out


def by_easycache(family, patcher, computed):
    return exact_model(OfModel(family.forward, computed), patcher)


def by_lazycache(family, patcher, computed):
    cached = family.exact(patcher)
    cached.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "cache", OfDenoised(computed))
    return cached


EXACT = {"EasyCache": by_easycache, "LazyCache": by_lazycache}
CASES = [  # SD3 does not let wrappers around its forward(); LazyCache is around whatever model it is
    *((*dit, "EasyCache") for dit in DITS if dit[0].name != "sd35_large"),
    (BY_NAME["flux_dev"], "shared", "LazyCache"),
]


@pytest.mark.parametrize(("family", "stream", "cache"), CASES, ids=str)
@every_order
@every_window
def test_comfyuis_caches(nodes, family, stream, cache, order, window):
    percents, computed = WINDOWS[window]
    run, patcher = Run(family, steps=STEPS), own_patcher(family)
    nag = Nag(family.conditioning(11, 5), image_stream=stream, **percents)
    expected = run.sample(EXACT[cache](family, patcher, computed), guided_by(run.positive, nag))
    assert difference(expected, run.oracle(patcher, guided_by(run.positive, nag))) > 0.001
    model, positive = order(nodes, patcher, run.positive, nag, by_node(cache, **SKIPPING_ALL))
    assert_close(run.sample(model, positive), expected)


class Skipping:
    """Runs a Flux as third-party caches do: from inside a model function wrapper, with parts of it replaced.

    Args:
        computed: the steps that run whole.
    """

    def __init__(self, computed):
        self.computed, self.step, self.residual = computed, -1, None

    def __call__(self, patcher):
        patched = patcher.clone()
        net = patched.get_model_object("diffusion_model")

        def wrapper(apply_model, args):
            self.step += 1
            with self.replaced(net):
                return apply_model(args["input"], args["timestep"], **args["c"])

        patched.set_model_unet_function_wrapper(wrapper)
        return patched


class TeaCache(Skipping):
    """Its own `forward_orig`, from which blocks get no transformer_options; a skipped step adds the last residual."""

    def replaced(self, net):
        def forward_orig(img, img_ids, txt, txt_ids, timesteps, y, guidance=None, *args, **kwargs):
            img, txt = net.img_in(img), net.txt_in(txt)
            embed = lambda t: comfy.ldm.flux.layers.timestep_embedding(t, 256).to(img.dtype)
            vec = net.time_in(embed(timesteps)) + net.guidance_in(embed(guidance)) + net.vector_in(y)
            pe = net.pe_embedder(torch.cat((txt_ids, img_ids), 1))
            if self.step in self.computed:
                before = img.clone()
                for block in net.double_blocks:
                    img, txt = block(img=img, txt=txt, vec=vec, pe=pe, attn_mask=None)
                img = torch.cat((txt, img), 1)
                for block in net.single_blocks:
                    img = block(img, vec=vec, pe=pe, attn_mask=None)
                img = img[:, txt.shape[1] :]
                self.residual = img - before
            else:
                img = img + self.residual
            return net.final_layer(img, vec)

        return patch.object(net, "forward_orig", forward_orig)


class FirstBlockCache(Skipping):
    """All blocks in the place of the double ones; a skipped step runs the first, and adds the others' residual."""

    def replaced(self, net):
        cache = self

        class Cached(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.blocks, self.single_blocks = net.double_blocks, net.single_blocks

            def forward(self, img, txt, **kwargs):
                img, txt = self.blocks[0](img, txt, **kwargs)
                if cache.step in cache.computed:
                    before = img.clone()
                    for block in self.blocks[1:]:
                        img, txt = block(img, txt, **kwargs)
                    img = torch.cat((txt, img), 1)
                    for block in self.single_blocks:
                        img = block(img, **kwargs)
                    txt, img = img.split((txt.shape[1], img.shape[1] - txt.shape[1]), 1)
                    cache.residual = img.reshape(before.shape) - before
                else:
                    img = img + cache.residual
                return img, txt

        return patch.multiple(
            net, double_blocks=torch.nn.ModuleList([Cached()]), single_blocks=torch.nn.ModuleList()
        )


class OfImage(dit.Others):
    """The same in the oracle: in other steps than `computed`, only the first `n_run` blocks run.

    What the others do to the image is taken from the last step in which they ran.
    """

    def __init__(self, forward, computed, n_run):
        self.forward, self.computed, self.n_run = forward, computed, n_run
        self.step, self.residual = -1, None

    def __call__(self, net, x, t, cond, negative, nag):
        self.step, self.block = self.step + 1, 0
        self.n_blocks = len(net.double_blocks) + len(net.single_blocks)
        return self.forward(net, x, t, {**cond, "others": self}, negative, nag)

    def around(self, place, texts, images, run):
        skipped = self.step not in self.computed
        if self.block == self.n_run:
            if skipped:
                images[0].x = images[0].x + self.residual
            else:
                self.before = images[0].x
        if not skipped or self.block < self.n_run:
            run()
        self.block += 1
        if not skipped and self.block == self.n_blocks:
            self.residual = images[0].x - self.before


@pytest.mark.parametrize(("family", "stream"), FLUX, ids=str)
@every_order
@pytest.mark.parametrize(("kind", "n_run"), [(TeaCache, 0), (FirstBlockCache, 1)])
def test_third_party_caches(nodes, family, stream, order, kind, n_run):
    computed = {0, 1, 3}
    run, patcher = Run(family, steps=STEPS), own_patcher(family)
    nag = Nag(family.conditioning(11, 5), image_stream=stream)
    cached = OfImage(family.forward, computed, n_run)
    expected = run.oracle(patcher, guided_by(run.positive, nag), forward=cached)
    assert difference(expected, run.oracle(patcher, guided_by(run.positive, nag))) > 0.001
    model, positive = order(nodes, patcher, run.positive, nag, kind(computed))
    assert_close(run.sample(model, positive), expected)
