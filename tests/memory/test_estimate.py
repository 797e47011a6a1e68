"""ComfyUI leaves room for what NAG takes, and not a byte more than without NAG where it is off."""
import dataclasses
import math
from contextlib import contextmanager
from itertools import accumulate

import comfy.model_management
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

import families
from door_families import BY_NAME as BY_DOOR
from door_families import cross, joint, projected
from door_families.builder import model
from families import BY_NAME, FAMILY_AND_STREAM, Family
from oracle import lockstep
from runs import Run
from subject import out

pytestmark = pytest.mark.usefixtures("inference_mode")
every_stream = pytest.mark.parametrize(("family", "stream"), FAMILY_AND_STREAM, ids=str)

# What pads its text, what does not, and latents of each kind: patches of 1 and 2, pixels, packed.
WITH_DOORS = (
    "z_image", "lumina2", "flux2_klein", "chroma", "chroma_radiance", "qwen_image", "krea2", "ltxv", "ltx2_raw",
    "cosmos_predict2", "anima", "kandinsky5_video", "auraflow", "cogvideox_i2v", "pixeldit", "cosmos1",
    "stable_audio1", "pixart_sigma", "hunyuan_dit", "ace_step1", "ace_step15", "stable_audio3",
    "hunyuan_video", "hunyuan_image_distilled", "hidream",
)  # fmt: skip


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


@contextmanager
def seeing(patcher, tokens, seen):
    """A clone of a model whose attention notes how many queries and keys there are: by another node's attention, or by
    a hook on the modules where that is not reached."""

    def see_module(module, args, kwargs):
        image, text = (t.shape[1] for t in (*args, *kwargs.values()) if torch.is_tensor(t) and t.ndim == 3)
        seen.add((image, text))

    def see(func, q, k, *args, **options):
        axis = 2 if options.get("skip_reshape") else 1
        seen.add((q.shape[axis], k.shape[axis]))
        return func(q, k, *args, **options)

    patched = patcher.clone()
    patched.model_options["transformer_options"]["optimized_attention_override"] = see
    modules = lockstep.at(tokens.projection and tokens.projection.rpartition(".")[0], patcher.model.diffusion_model)
    hooks = [module.register_forward_pre_hook(see_module, with_kwargs=True) for module in modules]
    yield patched
    for hook in hooks:
        hook.remove()


def text_of(family, seen, n_image):
    """How many tokens the text has that the image has attended to."""
    if family.tokens.cross:
        return max(keys for queries, keys in seen if queries == n_image != keys)
    return max(keys - n_image for queries, keys in seen if queries == keys)


@pytest.mark.parametrize("name", WITH_DOORS)
@pytest.mark.parametrize("n", [4, 40, 1100])
@BY
def test_counts_the_tokens_that_the_model_makes(nodes, patches, asked, name, n, by):
    family, seen = BY_DOOR[name], set()
    run = Run(family, steps=1, positive_tokens=2, negative_tokens=n)
    patcher = family.patcher()
    with seeing(patcher, family.tokens, seen) as watched:
        run.sample(watched, run.negative)
    run.sample(patcher)
    without = asked["at_least"]
    by(nodes, run, patcher, run.positive, out(nodes.NAGOptions, 0.0, 1.0, "shared"))
    memory = patches("sampling.memory")
    more = asked["at_least"] - without - memory.memory_at_once(torch.device("cpu"))
    if not family.tokens.cross:
        more -= memory.OF_JOINT_ATTENTION * without
    n_image, numbers = family.tokens.of_image(family.latent), family.latent[1:]
    if family.sound:  # packed
        n_image, numbers = n_image[0], family.latent
    pixels = math.ceil(math.prod(numbers) / n_image) * text_of(family, seen, n_image)
    column = 1 if family.sound else math.prod(numbers[:-1])
    required = patcher.model.memory_required
    assert required([1, 1, pixels]) - 1 <= more <= required([1, 1, pixels + column]) + 1


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
HEADS = {"num_heads": 4, "hidden_size": 512}
OF_DOORS = {  # one of each mechanism
    "z_image": (
        *("Lumina2", "ZImage", joint.NEXT_DIT, ("pad_tokens_multiple",)),
        {**joint.Z_IMAGE, "dim": 512, "axes_dims": [32, 48, 48], "axes_lens": [512] * 3, "n_layers": 2},
    ),
    "chroma": (
        *("Chroma", "Chroma", "chroma.model.ChromaParams", ()),
        {**joint.CHROMA, **HEADS, "out_dim": 512, "axes_dim": [16, 56, 56], "mlp_ratio": 4.0, "depth": 1},
    ),
    "flux2_klein": (
        *("Flux2", "Flux2", joint.FLUX, ()),
        {**joint.FLUX_2, **HEADS, "axes_dim": [32, 32, 32, 32], "mlp_ratio": 3.0, "depth": 1},
    ),
    "qwen_image": (
        *("QwenImage", "QwenImage", joint.QWEN_IMAGE, ()),
        {**joint.QWEN, "attention_head_dim": 128, "axes_dims_rope": (16, 56, 56), "num_layers": 2},
    ),
    "cosmos_predict2": (
        *("CosmosPredict2", "CosmosT2IPredict2", None, ()),
        {**cross.COSMOS, "max_img_h": 240, "max_img_w": 240, "model_channels": 512, "num_heads": 4},
    ),
    "ernie_image": (
        *("ErnieImage", "ErnieImage", "ernie.model.ErnieImageModel", ()),
        {**projected.ERNIE, "hidden_size": 512, "ffn_hidden_size": 1536, "rope_axes_dim": (32, 48, 48)},
    ),
    "pixart_sigma": (
        *("PixArt", "PixArtSigma", None, ()),
        {**projected.PIXART, "changed": projected.as_loaded, "hidden_size": 512},
    ),
}
LATENTS = {
    "flux2_klein": (128, 32, 32), "qwen_image": (16, 1, 64, 64), "cosmos_predict2": (16, 1, 64, 64),
    "pixart_sigma": (4, 64, 64), "ernie_image": (128, 32, 32),
}  # fmt: skip
WIDE_DOORS = [
    dataclasses.replace(
        BY_DOOR[name], build=model(base, config, takes, needs, **settings), latent=LATENTS.get(name, PICTURE)
    )
    for name, (base, config, takes, needs, settings) in OF_DOORS.items()
]


@pytest.mark.parametrize(
    ("family", "stream"),
    [(family, stream) for family in (*WIDE, *WIDE_DOORS) for stream in family.image_streams],
    ids=str,
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
