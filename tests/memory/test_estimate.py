"""ComfyUI leaves room for what NAG takes, and not a byte more than without NAG where it is off."""
from itertools import accumulate

import comfy.model_management
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

import families
from families import BY_NAME, FAMILY_AND_STREAM, Family
from runs import Run
from subject import out

pytestmark = pytest.mark.usefixtures("inference_mode")
every_stream = pytest.mark.parametrize(("family", "stream"), FAMILY_AND_STREAM, ids=str)


@pytest.fixture
def asked(monkeypatch):
    """What the last sampling run asked ComfyUI to leave free: bytes to run at ease, and at least."""
    asked, load = {}, comfy.model_management.load_models_gpu

    def note(models, memory_required=0, *args, minimum_memory_required=None, **more):
        asked.update(at_ease=memory_required, at_least=minimum_memory_required)
        return load(models, memory_required, *args, minimum_memory_required=minimum_memory_required, **more)

    monkeypatch.setattr(comfy.model_management, "load_models_gpu", note)
    return asked


def by_model(nodes, run, patcher, positive, options, **more):
    return run.sample(out(nodes.NAGModel, patcher, options=options, **more), positive)


def by_conditioning(nodes, run, patcher, positive, options, **more):
    return run.sample(patcher, out(nodes.NAGConditioning, positive, run.negative, options=options, **more))


BY = pytest.mark.parametrize("by", [by_model, by_conditioning])


@every_stream
@BY
@pytest.mark.parametrize("off", [{"nag_scale": 1.0}, {"nag_alpha": 0.0}], ids=str)
def test_off(nodes, asked, family, stream, by, off):
    run, patcher = Run(family, batch=2, steps=1), family.patcher()
    run.sample(patcher)
    without = dict(asked)
    by(nodes, run, patcher, run.positive, out(nodes.NAGOptions, 0.0, 1.0, stream), **off)
    assert asked == without


@every_stream
@BY
def test_more_for_more_text(nodes, asked, family, stream, by):
    estimates = []
    for tokens in (4, 40, 400):
        run = Run(family, batch=2, steps=1, negative_tokens=tokens)
        run.sample(family.patcher())
        without = dict(asked)
        by(nodes, run, family.patcher(), run.positive, out(nodes.NAGOptions, 0.0, 1.0, stream))
        estimates.append([asked[kind] - without[kind] for kind in without])
        assert min(estimates[-1]) > 0
    assert estimates == sorted(estimates) and estimates[0] < estimates[-1]


def test_two_conditionings_count_as_the_larger(nodes, asked):
    family = BY_NAME["flux_dev"]
    run, patcher = Run(family, steps=1), family.patcher()
    estimates = []
    short, long = (out(nodes.NAGConditioning, run.positive, family.conditioning(3, tokens)) for tokens in (5, 50))
    for positive in (short, long, short + long, long + short):
        run.sample(patcher, positive)
        estimates.append(asked["at_least"])
    assert estimates[0] < estimates[1] == estimates[2] == estimates[3]


def peak_memory(run):
    """Bytes that were allocated at most during a call, beyond what there was before it."""
    run()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    events = (event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]")
    return max(accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))


def wide(name, build, recommended, latent, **more):
    """A model in which the tensors of image size outweigh the others, as they do in the real ones."""
    return Family(name, build, None, recommended, latent, **more)


PICTURE = (16, 64, 64)
TO_512 = {"target": "torch.nn.Linear", "params": {"in_features": families.TEXT, "out_features": 512}}
UNET = families._unet(families.BASE, families.SD15, families.EPS, num_heads=4, adm_in_channels=None, model_channels=128)
SD35 = families._sd3(
    qk_norm="rms", depth=8, pos_embed_max_size=32, num_patches=1024, context_embedder_config=TO_512
)
FLUX = families._flux(
    hidden_size=512, num_heads=4, axes_dim=[16, 56, 56], mlp_ratio=4.0, depth=1, depth_single_blocks=2
)
WAN = families._wan(dim=512, ffn_dim=1536, num_heads=4)
WIDE = [
    wide("unet", UNET, families.SD15_SAYS, (4, 48, 48)),
    wide("sd35", SD35, families.SD35_SAYS, PICTURE),
    wide("flux", FLUX, families.FLUX_SAYS, PICTURE, image_streams=families.BOTH_STREAMS, inputs=families._guidance),
    wide("wan", WAN, families.WAN_SAYS, (16, 3, 36, 36)),
]


@pytest.mark.parametrize(
    ("family", "stream"), [(family, stream) for family in WIDE for stream in family.image_streams], ids=str
)
def test_covers_what_nag_takes(nodes, patches, asked, family, stream):
    """ComfyUI's estimate is calibrated on real models. So this one's peak without NAG stands for it: NAG must not raise
    the peak by a larger share than the estimate, but for the part that does not grow with the model."""
    run = Run(family, steps=1, positive_tokens=256, negative_tokens=256)
    patcher = family.patcher(torch.bfloat16)
    guided = out(nodes.NAGModel, patcher, options=out(nodes.NAGOptions, 0.0, 1.0, stream))
    base = peak_memory(lambda: run.sample(patcher))
    estimate = asked["at_least"]
    nag = peak_memory(lambda: run.sample(guided))
    fixed = patches("sampling.memory").memory_at_once(torch.device("cpu"))
    share = (asked["at_least"] - estimate - fixed) / estimate
    assert 0 < nag - base <= share * base + fixed
