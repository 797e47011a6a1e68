"""The equations beside NAG's, through ComfyUI's sampler, in families of each mechanism, against the oracle's."""
import pytest
import torch
from torch._dynamo.utils import counters

from compiling import compiled
from mechanisms import BY_NAME
from oracle.equation import Nag
from oracle.places import Places
from oracle.sampling import guided_by
from runs import Run, assert_close, difference
from stock import stock
from subject import conditioning_node, model_node, out

pytestmark = pytest.mark.usefixtures("inference_mode")

FAMILIES = [
    "sdxl", "sd15", "sd35_medium", "flux_dev", "wan21_i2v", "z_image", "qwen_image", "hunyuan_video", "cosmos_predict2",
    "ltx2",
]  # fmt: skip
PROJECTED = ["pixart_sigma", "ernie_image"]
MASKED = ["qwen_image", "lens", "ltxv"]
APART = ["z_image", "hunyuan_video", "lens", "cosmos_predict2", "sdxl"]


def exact(run, patcher, nag, positive=None):
    positive = run.positive if positive is None else positive
    if run.family.forward is None:
        return run.sample(run.exact(patcher), guided_by(positive, nag))
    return run.oracle(patcher, guided_by(positive, nag))


def nag_of(run, equation, **more):
    return Nag(run.negative, equation=equation, scale=2.5, **more)


@pytest.mark.parametrize("name", [*FAMILIES, *PROJECTED])
@pytest.mark.parametrize("equation", ["orthogonal", "nasa"])
def test_of_the_features(nodes, name, equation):
    run, patcher = Run(BY_NAME[name], cfg=2.0, batch=2, steps=2), BY_NAME[name].patcher()
    nag = nag_of(run, equation)
    expected = exact(run, patcher, nag)
    assert difference(exact(run, patcher, Nag(run.negative, scale=2.5)), expected) > 1e-4
    assert_close(run.sample(model_node(nodes, patcher, nag)), expected)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("offset", [0.0, 1.5])
def test_vsf(nodes, name, offset):
    run, patcher = Run(BY_NAME[name], cfg=2.0, batch=2, steps=2), BY_NAME[name].patcher()
    nag = nag_of(run, "vsf", offset=offset)
    result, expected = run.sample(model_node(nodes, patcher, nag)), exact(run, patcher, nag)
    assert difference(run.sample(patcher), expected) > 1e-4
    assert_close(result, expected)
    assert_close(run.sample(patcher, conditioning_node(nodes, run.positive, nag)), expected)


@pytest.mark.parametrize("name", MASKED)
@pytest.mark.parametrize("offset", [0.0, 1.5])
@pytest.mark.parametrize("apart", [False, True], ids=["by log-sum-exps", "apart"])
def test_vsf_with_hidden_tokens(nodes, name, offset, apart):
    family = BY_NAME[name]
    run, patcher = Run(family, batch=2, steps=2), family.patcher()
    positive, negative = (with_hidden(family, i, n) for i, n in enumerate((2, 3)))
    nag = Nag(negative, equation="vsf", scale=2.5, offset=offset)
    expected = exact(run, patcher, nag, positive)
    model = beside_another(patcher) if apart else patcher
    assert_close(run.sample(model, conditioning_node(nodes, positive, nag)), expected)
    if name == "ltxv":  # others' models may take no notice
        seen = Nag(with_hidden(family, 1, 0), equation="vsf", scale=2.5, offset=offset)
        assert difference(exact(run, patcher, seen, positive), expected) > 1e-4


def with_hidden(family, seed, n):
    """A text of eight tokens, the first n hidden."""
    if family.name != "ltxv":
        return family.conditioning(seed, 8, hidden=n)
    ((tokens, values),) = family.conditioning(seed, 8)
    mask = torch.ones(1, tokens.shape[1], dtype=torch.int64)
    mask[:, :n] = 0
    return [[tokens, {**values, "attention_mask": mask}]]


def beside_another(patcher):
    """With an override of another node's, which tells no log-sum-exps."""
    model = patcher.clone()
    override = lambda func, *args, **options: func(*args, **options)
    model.model_options["transformer_options"]["optimized_attention_override"] = override
    return model


@pytest.mark.parametrize("name", APART)
@pytest.mark.parametrize("offset", [0.0, 1.5])
def test_vsf_beside_another_override(nodes, name, offset):
    run, patcher = Run(BY_NAME[name], cfg=2.0, steps=2), BY_NAME[name].patcher()
    nag = nag_of(run, "vsf", offset=offset)
    assert_close(run.sample(model_node(nodes, beside_another(patcher), nag)), exact(run, patcher, nag))


PATCHES = {"sdxl": None, "flux_dev": (2, 2), "wan21_t2v": (1, 2, 2), "z_image": (2, 2)}


@pytest.mark.parametrize("name", PATCHES)
@pytest.mark.parametrize("equation", ["nasa", "vsf"])
@pytest.mark.parametrize("apart", [False, True], ids=["by log-sum-exps", "apart"])
def test_a_mask(nodes, name, equation, apart):
    """In a corner of which it is zero, so that NAG is off there."""
    run, patcher = Run(BY_NAME[name], batch=2, steps=2), BY_NAME[name].patcher()
    sizes = run.family.latent[1:]
    mask = torch.rand(1, *sizes[-2:], generator=torch.Generator().manual_seed(5))
    mask[..., : sizes[-2] // 2, : sizes[-1] // 2] = 0
    places = Places((mask.unsqueeze(1).expand(-1, *sizes) if len(sizes) > 2 else mask,), PATCHES[name], lengths=(4,))
    negative = stock(
        "ConditioningSetMask", conditioning=run.negative, mask=mask, strength=1.0, set_cond_area="default"
    )[0]
    model = beside_another(patcher) if apart else patcher
    result = run.sample(model_node(nodes, model, nag_of(run, equation), nag_negative=negative))
    assert_close(result, exact(run, patcher, nag_of(run, equation, places=places)))


@pytest.mark.parametrize("name", ["sdxl", "flux_dev", "wan21_t2v"])
@pytest.mark.parametrize("apart", [False, True], ids=["by log-sum-exps", "apart"])
def test_vsf_with_two_weights(nodes, name, apart):
    family = BY_NAME[name]
    run, patcher = Run(family, batch=2, steps=2), family.patcher()
    both, whole = (family.conditioning(11, 5), family.conditioning(12, 3)), torch.ones(1, *family.latent[1:])
    places = Places((whole, 0.4 * whole), PATCHES[name], (1.0, 0.4), lengths=(5, 3))
    nag = Nag(both[0] + both[1], equation="vsf", scale=2.5, offset=0.5, places=places)
    less = stock("ConditioningSetAreaStrength", conditioning=both[1], strength=0.4)[0]
    model = beside_another(patcher) if apart else patcher
    result = run.sample(model_node(nodes, model, nag, nag_negative=both[0] + less))
    assert_close(result, exact(run, patcher, nag))


@pytest.mark.usefixtures("nothing_compiled")
@pytest.mark.parametrize(("name", "equations"), [
    ("z_image", ("nag", "orthogonal", "vsf", "nasa")), ("sdxl", ("vsf",)), ("cosmos_predict2", ("vsf",)),
])  # fmt: skip
def test_a_graph_for_each_and_none_for_its_numbers(nodes, name, equations):
    run, patcher = Run(BY_NAME[name], steps=2), BY_NAME[name].patcher()

    def check(scale, offset):
        for equation, off in [*((each, 0.0) for each in equations), ("vsf", offset)]:
            model = model_node(nodes, patcher, Nag(run.negative, equation=equation, scale=scale, offset=off))
            assert_close(run.sample(compiled(model)), run.sample(model))
        return counters["stats"]["unique_graphs"]

    seen = check(2.5, 0.7)
    assert check(3.5, 1.3) == seen > len(equations)


@pytest.mark.parametrize("name", ["z_image", "cosmos_predict2", "sdxl"])
@pytest.mark.parametrize("equation", ["orthogonal", "vsf", "nasa"])
def test_statistics(patches, name, equation):
    """The same by each way, and nothing is clipped where there is no cap."""
    run, patcher = Run(BY_NAME[name], steps=2), BY_NAME[name].patcher()
    options = patches("settings").Options(statistics=True, equation=equation, vsf_offset=0.5)
    settings, found = patches("settings").Settings(2.5, 1.1, 0.6, options=options), []
    for model in (patcher, beside_another(patcher)):
        reports = []
        request = patches("sampling.request").Request(settings, run.negative, reports.append)
        run.sample(patches("sampling.entry").guide_model(model, request))
        found.append([(step.ratio, step.clipped, step.moved) for step in reports])
    assert len(found[0]) == 2 and all(ratio > 0 and moved > 0 for ratio, _, moved in found[0])
    assert equation == "orthogonal" or all(clipped == 0 for _, clipped, _ in found[0])
    assert found[1] == [pytest.approx(of_step, rel=1e-3) for of_step in found[0]]


@pytest.mark.parametrize(("equation", "strength", "scale"), [("vsf", 0.5, 1.75), ("nasa", 2.0, 4.0)])
def test_the_dial_turns_scale_where_there_is_no_alpha(nodes, equation, strength, scale):
    run = Run(BY_NAME["z_image"], steps=2)
    options = out(nodes.NAGOptions, equation=equation)
    model = lambda **inputs: out(nodes.NAGModel, run.family.patcher(), nag_tau=2.0, options=options, **inputs)
    sample = lambda **inputs: run.sample(model(**inputs))
    turned = sample(nag_scale=2.5, nag_alpha=0.3, strength=strength)
    assert torch.equal(turned, sample(nag_scale=scale, nag_alpha=0.0))


@pytest.mark.parametrize("name", ["z_image", "sdxl", "pixart_sigma"])
@pytest.mark.parametrize("equation", ["orthogonal", "vsf", "nasa"])
@pytest.mark.parametrize("off", [{"nag_scale": 1.0}, {"nag_scale": 3.0, "strength": 0.0}], ids=str)
def test_off(nodes, name, equation, off):
    run, patcher = Run(BY_NAME[name], cfg=2.0), BY_NAME[name].patcher()
    options = out(nodes.NAGOptions, equation=equation)
    assert torch.equal(run.sample(out(nodes.NAGModel, patcher, **off, options=options)), run.sample(patcher))


@pytest.mark.parametrize("name", [*PROJECTED, "stable_cascade"])
def test_vsf_where_no_override_reaches(nodes, name):
    run, patcher = Run(BY_NAME[name]), BY_NAME[name].patcher()
    nag = nag_of(run, "vsf")
    with pytest.raises(ValueError, match="vsf acts within attention, .*Choose another equation in NAG Options: nag"):
        model_node(nodes, patcher, nag)
    with pytest.raises(ValueError, match="vsf acts within attention"):
        run.sample(patcher, conditioning_node(nodes, run.positive, nag))


def test_vsf_and_image_streams(nodes):
    """Where there is a choice of them."""
    run, patcher = Run(BY_NAME["flux_dev"]), BY_NAME["flux_dev"].patcher()
    nag = nag_of(run, "vsf", image_stream="separate")
    with pytest.raises(ValueError, match="image_stream separate. Choose shared"):
        model_node(nodes, patcher, nag)
    with pytest.raises(ValueError, match="image_stream separate. Choose shared"):
        run.sample(patcher, conditioning_node(nodes, run.positive, nag))
    model_node(nodes, BY_NAME["sd35_large"].patcher(), nag)


def test_vsf_beside_attention_of_another_node(nodes):
    """Which knows of no mask: without an offset it works."""
    run, patcher = Run(BY_NAME["sdxl"], steps=2), BY_NAME["sdxl"].patcher()
    with_another = patcher.clone()
    for block in [("input", i) for i in range(12)] + [("middle", 0)] + [("output", i) for i in range(12)]:
        with_another.set_model_attn2_replace(attention_of_another, *block)
    nag = nag_of(run, "vsf")
    assert_close(run.sample(model_node(nodes, with_another, nag)), exact(run, patcher, nag))
    with pytest.raises(ValueError, match="Set vsf_offset to 0"):
        model_node(nodes, with_another, nag_of(run, "vsf", offset=1.0))


def attention_of_another(q, k, v, options):
    from comfy.ldm.modules.attention import optimized_attention

    return optimized_attention(q, k, v, options["n_heads"])
