"""Weights and activations in few bits: what comes out differs from the exact result by their rounding alone."""
import pytest
import torch

from mechanisms import BY_NAME, MECHANISM_AND_STREAM
from oracle.equation import Nag
from oracle.sampling import guided_by
from runs import Run, assert_close
from stored import in_float32, mixed_precision, packed, patcher_of, rounded, scaled_fp8, weights_of
from subject import out

pytestmark = pytest.mark.usefixtures("inference_mode")
every_stream = pytest.mark.parametrize(("family", "stream"), MECHANISM_AND_STREAM, ids=str)
TOLERANCE = {torch.float32: 1e-5, torch.float16: 0.005, torch.bfloat16: 0.05}
CASTS = [
    (torch.float8_e4m3fn, torch.float32),
    (torch.float8_e4m3fn, torch.bfloat16),
    (torch.float8_e5m2, torch.float32),
    (torch.float8_e5m2, torch.float16),
    (torch.float16, torch.float32),
    (torch.bfloat16, torch.float16),
]


def named(value):
    return str(value).split(".")[1] if isinstance(value, torch.dtype) else value.__name__


def is_near_the_oracle(nodes, family, stream, models, tolerance, **strength):
    """Guided sampling by the one model, and the oracle with the other."""
    run, (patcher, plain) = Run(family, cfg=2.0, steps=2), models
    nag = Nag(run.negative, image_stream=stream, **strength)
    options = out(nodes.NAGOptions, nag.start_percent, nag.end_percent, nag.image_stream)
    numbers = {"nag_scale": nag.scale, "nag_tau": nag.tau, "nag_alpha": nag.alpha}
    result = run.sample(out(nodes.NAGModel, patcher, **numbers, options=options))
    assert result.isfinite().all()
    assert_close(result, run.oracle(plain, guided_by(run.positive, nag)), tolerance)


@every_stream
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=named)
def test_half_precision(nodes, family, stream, dtype):
    is_near_the_oracle(nodes, family, stream, rounded(family, dtype), TOLERANCE[dtype])


@every_stream
@pytest.mark.parametrize(("weights", "compute"), CASTS, ids=named)
def test_weights_cast_for_each_layer(nodes, family, stream, weights, compute):
    is_near_the_oracle(nodes, family, stream, rounded(family, weights, compute), TOLERANCE[compute])


@every_stream
@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16], ids=named)
@pytest.mark.parametrize("form", [packed, scaled_fp8, mixed_precision], ids=named)
def test_quantised_weights(nodes, family, stream, form, compute):
    is_near_the_oracle(nodes, family, stream, form(family, compute), TOLERANCE[compute])


FAR = {"scale": 11.0, "tau": 5.0, "alpha": 1.0}
LARGEST = torch.finfo(torch.float16).max
ATTENTION_VALUES = (
    "attn2.to_v", ".self_attention.to_v", ".cross_attn.v", ".cross_attn.v_proj", ".attn.to_v", ".attn.add_v_proj",
    ".block.attn1.to_v", ".block.attn1.to_v_t",
)  # fmt: skip
QUERIES_KEYS_VALUES = ("_block.attn.qkv", "_attn.qkv", ".linear1", ".attention.qkv", ".attn.qkv_x", ".attn.qkv_y")
KEYS_VALUES = (".cross_attn.kv_linear",)
JOINED = QUERIES_KEYS_VALUES + KEYS_VALUES
OUTPUT_PROJECTIONS = (
    "attn2.to_out.0", ".cross_attn.o", "_block.attn.proj", "_attn.proj", ".linear2", ".cross_attn.output_proj",
    ".attn.to_out.0", ".attn.to_add_out", ".attention.out", ".cross_attn.proj",
    ".self_attention.to_out.0", ".block.attn1.to_out", ".block.attn1.to_out_t", ".attn.proj_x", ".attn.proj_y",
)  # fmt: skip


def louder(state, factor):
    """The same model with the features of each attention to text so much larger, and its output projection smaller."""
    state = {name: value.clone() for name, value in state.items()}
    for name, value in state.items():
        layer, kind = name.rpartition(".")[::2]
        if layer.endswith(ATTENTION_VALUES):
            value *= factor
        elif layer.endswith(JOINED):
            value[_values_of(layer, state[f"{layer}.weight"])] *= factor
        elif layer.endswith(OUTPUT_PROJECTIONS) and kind == "weight":
            value[:, _values_to(layer, value)] /= 16  # not by the factor, which float16 could not express
    return state


def _values_of(layer, weight):
    """Where a layer that makes keys and values, or queries too, and maybe more, has the values."""
    parts = 2 if layer.endswith(KEYS_VALUES) else 3
    width = weight.shape[1] if layer.endswith(".linear1") else weight.shape[0] // parts
    return slice((parts - 1) * width, parts * width)


def _values_to(layer, weight):
    """Where a layer that projects what attention gives, and maybe more, takes that."""
    return slice(weight.shape[0] if layer.endswith(".linear2") else weight.shape[1])


def largest_activation(family, patcher):
    """Of the values of attention and of what goes into its output projections, in a run without NAG."""
    found, hooks = [], []
    for name, module in patcher.model.diffusion_model.named_modules():
        if name.endswith(OUTPUT_PROJECTIONS) and hasattr(module, "weight"):
            part = _values_to(name, module.weight)
            note = lambda module, args, part=part: found.append(args[0][..., part].abs().max())
            hooks.append(module.register_forward_pre_hook(note))
        elif name.endswith(ATTENTION_VALUES + JOINED):
            part = slice(None) if name.endswith(ATTENTION_VALUES) else _values_of(name, module.weight)
            note = lambda module, args, out, part=part: found.append(out[..., part].abs().max())
            hooks.append(module.register_forward_hook(note))
    result = Run(family, cfg=2.0, steps=2).sample(patcher)
    for hook in hooks:
        hook.remove()
    assert result.isfinite().all()
    return max(found).item()


# ComfyUI never runs Stable Cascade in float16, which overflows between its blocks.
@pytest.mark.parametrize(
    ("family", "stream"), [each for each in MECHANISM_AND_STREAM if each[0].name != "stable_cascade"], ids=str
)
def test_features_at_the_edge_of_float16(nodes, monkeypatch, family, stream):
    """Their L1 norms are far beyond it. Where NAG takes a feature out of its range, it stays at its end."""
    trial = 2.0**12
    found = largest_activation(family, patcher_of(family, louder(weights_of(family), trial), torch.float32))
    state = {name: value.half() for name, value in louder(weights_of(family), trial * 50000 / found).items()}
    patcher = patcher_of(family, state, torch.float16)
    assert 45000 < largest_activation(family, patcher) < 55000  # room for what NAG changes in the layers before

    exact, beyond = family.oracle.guide, []

    def clamped(*args):
        z = exact(*args)
        beyond.append((z.abs() > LARGEST).any())
        return z.clamp(-LARGEST, LARGEST)

    monkeypatch.setattr(family.oracle, "guide", clamped)
    is_near_the_oracle(nodes, family, stream, (patcher, in_float32(family, state)), TOLERANCE[torch.float16], **FAR)
    assert any(beyond)


@pytest.mark.parametrize("stream", ["shared", "separate"])
def test_residuals_beyond_float16(nodes, stream):
    """Flux's blocks catch what overflows. The negative's tokens are caught alike: guided away from the prompt itself,
    the picture stays as it is."""
    family = BY_NAME["flux_dev"]
    state = {name: value.half() for name, value in weights_of(family).items()}
    for name in state:
        if ".linear2." in name:
            state[name] *= 2.0**15
    patcher, run = patcher_of(family, state, torch.float16), Run(family)
    largest = []
    hook = patcher.model.diffusion_model.single_blocks[0].register_forward_hook(
        lambda module, args, tokens: largest.append(tokens.abs().amax((0, 2)))
    )
    plain = run.sample(patcher)
    options = out(nodes.NAGOptions, 0.0, 1.0, stream)
    guided = run.sample(out(nodes.NAGModel, patcher, run.positive, options=options))
    hook.remove()
    n = run.positive_tokens
    assert plain.isfinite().all()
    assert all((tokens[:n] == LARGEST).any() for tokens in largest), "no text token overflows"
    assert_close(guided, plain, TOLERANCE[torch.float16])
