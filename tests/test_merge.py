"""The merge by log-sum-exp, and guided joint attention made of it, by PyTorch and by Triton, against the oracle's."""
import pytest
import torch

from oracle.equation import Nag, flipped
from oracle.equation import attention as exact_attention
from oracle.equation import guide as exact_guide

DTYPES = [torch.float16, torch.bfloat16, torch.float32]
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).split(".")[1])
ROWS, HEADS, POSITIVE, NEGATIVE, IMAGE = 2, 3, 5, 4, 7
pytestmark = pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # of Triton's interpreter
TOKENS = POSITIVE + NEGATIVE + IMAGE
NUMBERS = (5.0, 2.5, 0.25)


@pytest.fixture(name="module")
def merge_fixture(patches):
    return patches("arithmetic.merge")


@pytest.fixture(params=["torch", "chunks", "triton", "traced"])
def guide_joint(request, module, patches, monkeypatch):
    """`guide_joint`, by one way and no other."""
    forbid = lambda name: monkeypatch.setattr(module, name, lambda *args: pytest.fail(f"{name} was called"))
    if request.param != "traced":
        forbid("_plain")
    if request.param in ("triton", "traced"):
        forbid("_in_chunks")
    if request.param == "triton":
        request.getfixturevalue("interpreter")
    if request.param == "traced":
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    if request.param == "chunks":
        three_tokens = 3 * ROWS * HEADS * 24  # the last chunk has fewer
        monkeypatch.setitem(patches("arithmetic.equation").CHUNK, "cpu", three_tokens)
    return module.guide_joint


@pytest.fixture(params=[False, True], ids=["text first", "image first"])
def make_segments(request, patches):
    make = patches("arithmetic.segments").Segments
    return lambda n_positive, n_negative: make(TOKENS, n_positive, n_negative, image_first=request.param)


@pytest.fixture
def segments(make_segments):
    return make_segments(POSITIVE, NEGATIVE)


def attention(q, k, v):
    """The output and the log-sum-exp, in float64."""
    scores = q.double() @ k.double().transpose(-1, -2) / q.shape[-1] ** 0.5
    return scores.softmax(-1) @ v.double(), scores.logsumexp(-1)


def random(dim=24, magnitude=2.0):
    generator = torch.Generator().manual_seed(0)
    return [magnitude * torch.randn(ROWS, HEADS, TOKENS, dim, generator=generator) for _ in range(3)]


def parts_of(q, k, v, dtype, segments):
    """Attention to the image, the positive and the negative, rounded once."""
    queries, keys = (slice(None), segments.known, slice(None)), (segments.image, segments.positive, segments.negative)
    both = [attention(q[:, :, own], k[:, :, met], v[:, :, met]) for own, met in zip(queries, keys)]
    return [(out.to(dtype), lse.float()) for out, lse in both]


def exact_joint(q, k, v, segments, numbers=NUMBERS):
    of = lambda segment: [t.double().transpose(1, 2).flatten(2)[:, segment] for t in (q, k, v)]
    image, texts = of(segments.image), (of(segments.positive), of(segments.negative))
    pos, neg = (exact_attention(*(torch.cat(parts, 1) for parts in zip(text, image)), HEADS) for text in texts)
    z = exact_guide(pos[:, POSITIVE:], neg[:, NEGATIVE:], Nag([], *numbers))
    return in_sequence(segments, pos[:, :POSITIVE], neg[:, :NEGATIVE], z)


def in_sequence(segments, positive, negative, image):
    z = torch.full((ROWS, TOKENS, image.shape[2]), torch.nan, dtype=image.dtype)
    z[:, segments.positive], z[:, segments.negative], z[:, segments.image] = positive, negative, image
    return z


def exact_merge(parts, segments):
    """Attention of all tokens to the positive and the image, and to the negative and the image.

    (batch, tokens, features) each; of the negative's tokens to the positive it is NaN.
    """
    found = []
    for own, (z, lse) in ((segments.known, parts[1]), (slice(None), parts[2])):
        image, image_lse = (t[:, :, own].double() for t in parts[0])
        # Written out as a sum over sets of keys. None in sight means no weight, whatever the output says.
        weights = torch.stack((image_lse, lse.double())).unsqueeze(-1)
        top = weights.amax(0).clamp_min(-1e300)
        weights = (weights - top).exp()
        terms = torch.stack((image, z.double())).where(weights > 0, 0) * weights
        merged = (terms.sum(0) / weights.sum(0).clamp_min(1e-300)).transpose(1, 2).flatten(2)
        of_all = merged.new_full((ROWS, TOKENS, merged.shape[2]), torch.nan)
        of_all[:, own] = merged
        found.append(of_all)
    return found


EQUATIONS = ["nag", "orthogonal", "nasa", "vsf"]
UNCAPPED = ("nasa", "vsf")
equations = pytest.mark.parametrize("name", EQUATIONS)


def exact_flip(parts, segments, scale, offset):
    """The image's attention to all three parts, the negative's times -s."""
    image = [(z.double()[:, :, own], lse.double()[:, :, own]) for (z, lse), own in zip(parts, (
        segments.image, segments.image_of_known, segments.image))]  # fmt: skip
    weights = torch.stack([lse for _, lse in image]).unsqueeze(-1)
    weights[2] -= offset
    weights = (weights - weights.amax(0).clamp_min(-1e300)).exp()
    of_known, of_negative = weights[:2].sum(0), weights[2]
    z, z_prompt, z_neg = (torch.where(w > 0, z, 0) for (z, _), w in zip(image, weights))
    z = z * weights[0] + z_prompt * weights[1]
    scale = torch.as_tensor(scale).double()
    scale = scale.unsqueeze(1) if scale.ndim else scale
    flipped = (z - (scale - 1) * of_negative * z_neg) / (of_known + of_negative).clamp_min(1e-300)
    return torch.where(scale == 1, z / of_known.clamp_min(1e-300), flipped).transpose(1, 2).flatten(2)


def exactly(parts, segments, numbers=NUMBERS, name="nag", offset=0.0):
    """What comes of these parts, with all their roundings."""
    pos, neg = exact_merge(parts, segments)
    if name == "vsf":
        guided = exact_flip(parts, segments, numbers[0], offset)
        return in_sequence(segments, pos[:, segments.positive], neg[:, segments.negative], guided)
    guided = exact_guide(pos[:, segments.image], neg[:, segments.image], Nag([], *numbers, equation=name))
    return in_sequence(segments, pos[:, segments.positive], neg[:, segments.negative], guided)


def close(found, expected, magnitude=1.0):
    """A rounding of the dtype apart, which is what computing in float32 leaves; of values about so large."""
    rtol = {torch.float32: 3e-6, torch.float64: 1e-6}.get(found.dtype, torch.finfo(found.dtype).eps)
    torch.testing.assert_close(found.double(), expected, rtol=rtol, atol=3e-6 * magnitude)


def joint(guide_joint, parts, segments, numbers=NUMBERS, **more):
    out = guide_joint(*parts, segments, *numbers, **more)
    assert out.shape == (ROWS, TOKENS, parts[0][0].shape[1] * parts[0][0].shape[3])
    assert out.dtype == parts[0][0].dtype and out.is_contiguous()
    return out


@pytest.mark.parametrize("numbers", [NUMBERS, (3.0, 1.0, 1.0), (11, 4, 0.5), (0.0, 2.5, 0.5)])
def test_it_is_attention_to_each_prompt_guided(guide_joint, numbers, segments):
    q, k, v = random()
    found = joint(guide_joint, parts_of(q, k, v, torch.float32, segments), segments, numbers)
    torch.testing.assert_close(found.double(), exact_joint(q, k, v, segments, numbers), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64], ids=str)
@pytest.mark.parametrize("dim", [1, 8, 24, 64, 72, 128])
def test_dtypes_and_sizes(guide_joint, module, dtype, dim, monkeypatch, segments):
    if dtype == torch.float64:
        monkeypatch.undo()  # Triton does not serve it
    parts = parts_of(*random(dim), dtype, segments)
    close(joint(guide_joint, parts, segments), exactly(parts, segments))


@dtypes
@equations
def test_equations(guide_joint, dtype, segments, name):
    parts = parts_of(*random(), dtype, segments)
    close(joint(guide_joint, parts, segments, equation=name), exactly(parts, segments, name=name))


@dtypes
@pytest.mark.parametrize("scale", [3.0, 0.0, "a number a token"])
def test_offset(guide_joint, dtype, segments, scale):
    parts = parts_of(*random(), dtype, segments)
    scale = 1 + 4 * torch.rand(ROWS, IMAGE, 1) if isinstance(scale, str) else scale
    found = joint(guide_joint, parts, segments, (scale, 1.0, 0.0), equation="vsf", offset=1.5)
    close(found, exactly(parts, segments, (scale, 1.0, 0.0), "vsf", 1.5))


@pytest.mark.parametrize("scale", [4.0, 1.0])
def test_vsf_is_attention_to_everything(guide_joint, segments, scale):
    q, k, v = random()
    found = joint(guide_joint, parts_of(q, k, v, torch.float32, segments), segments, (scale, 1, 0), equation="vsf")
    of = lambda segment: [t.double().transpose(1, 2).flatten(2)[:, segment] for t in (q, k, v)]
    image, (_, *positive), (_, *negative) = of(segments.image), of(segments.positive), of(segments.negative)
    known = [torch.cat(parts, 1) for parts in zip(positive, image[1:])]
    expected = flipped(image[0], known, negative, HEADS, Nag([], scale=scale, equation="vsf"))
    torch.testing.assert_close(found.double()[:, segments.image], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bfloat16", "float32"])
@equations
@pytest.mark.parametrize(("rows", "which"), [(1, "both"), (ROWS, "both"), (1, "scale"), (ROWS, "alpha")])
def test_numbers_of_each_token(guide_joint, dtype, segments, name, rows, which):
    """At two tokens one of them is what turns NAG off."""
    parts = parts_of(*random(), dtype, segments)
    scale, alpha = 1 + 4 * torch.rand(rows, IMAGE, 1), torch.rand(rows, IMAGE, 1)
    scale[:, 2], alpha[:, 2], alpha[:, 5] = 1.0, 0.0, 0.0
    numbers = {"both": (scale, 1.5, alpha), "scale": (scale, 1.5, 0.4), "alpha": (3.0, 1.5, alpha)}[which]
    found = joint(guide_joint, parts, segments, numbers, equation=name)
    close(found, exactly(parts, segments, numbers, name))
    off = [n for n, at in ((2, "both"), (5, "both"), (5, "alpha")) if at == which and (n == 2 or name not in UNCAPPED)]
    untouched = joint(guide_joint, parts, segments, (1.0, 1.5, 0.0))
    start = segments.image.start
    assert all(torch.equal(found[:, start + n], untouched[:, start + n]) for n in off)


LAYOUTS = [
    lambda t: t.transpose(1, 2).contiguous().transpose(1, 2),  # tokens before heads, as flash attention has them
    lambda t: t.transpose(0, 1).contiguous().transpose(0, 1),  # heads before rows
    lambda t: torch.cat((t + torch.nan, t, t + torch.nan), 2)[:, :, t.shape[2] : 2 * t.shape[2]],
    lambda t: t.movedim(2, 0).contiguous().movedim(0, 2),  # tokens before rows
]


@dtypes
@pytest.mark.parametrize("turn", range(len(LAYOUTS)))
def test_strides(guide_joint, dtype, turn, segments):
    """Of each output and each log-sum-exp another."""
    layouts = [*LAYOUTS, *LAYOUTS][turn:]
    parts = parts_of(*random(), dtype, segments)
    laid_out = [(layouts[i](z), layouts[i + 1](lse)) for i, (z, lse) in enumerate(parts)]
    close(joint(guide_joint, laid_out, segments), exactly(parts, segments))


def test_features_apart(module, interpreter, segments):
    """Of these no kernel makes anything, but the result is right."""
    apart = lambda z: z.transpose(2, 3).contiguous().transpose(2, 3)
    parts = [(apart(z), lse) for z, lse in parts_of(*random(), torch.float32, segments)]
    assert not interpreter.guide_joint(*parts, segments, *NUMBERS, torch.empty(ROWS, TOKENS, HEADS * 24))
    close(joint(module.guide_joint, parts, segments), exactly(parts, segments))


def test_many_features(module, interpreter, segments):
    parts = parts_of(*random(128), torch.float32, segments)
    wide = [(z.repeat(1, 24, 1, 1), lse.repeat(1, 24, 1)) for z, lse in parts]
    assert not interpreter.guide_joint(*wide, segments, *NUMBERS, torch.empty(ROWS, TOKENS, 72 * 128))
    found = joint(module.guide_joint, wide, segments)
    close(found, exactly(wide, segments), 30)  # PyTorch's L1 norm adds up without much care
    parts = [(z[:, :64], lse[:, :64]) for z, lse in wide]
    assert interpreter.guide_joint(*parts, segments, *NUMBERS, torch.empty(ROWS, TOKENS, 64 * 128))
    close(joint(module.guide_joint, parts, segments), exactly(parts, segments))


@dtypes
@pytest.mark.parametrize("garbage", [torch.nan, torch.inf, 0.0])
@pytest.mark.parametrize("name", ["nag", "vsf"])
def test_where_no_key_was_visible(guide_joint, dtype, garbage, segments, name):
    """In one part, in two, in all three, of one head and of all."""
    parts = [(z.clone(), lse.clone()) for z, lse in parts_of(*random(), dtype, segments)]
    of_known = lambda token: token - segments.known.start
    for segment in (segments.positive, segments.negative, segments.image):
        tokens = range(*segment.indices(TOKENS))
        for token, hidden in zip(tokens, ((0,), (1, 2), (0, 1, 2), (1,), (2,), (0, 1), (0, 2))):
            for i in hidden:
                z, lse = parts[i]
                own = of_known(token) if i == 1 else token
                if 0 <= own < z.shape[2]:
                    heads = slice(None) if token % 2 else slice(1)
                    z[:, heads, own], lse[:, heads, own] = garbage, -torch.inf
    found = joint(guide_joint, parts, segments, equation=name)
    assert found.isfinite().all()
    # The oracle divides by a norm: it knows no token that is zero in all heads.
    expected = exactly(parts, segments, name=name)
    close(found, expected.where(expected.isfinite(), 0))


@dtypes
def test_neither_part_visible(module, dtype):
    a, b = ((torch.full((1, 1, 2, 8), torch.nan, dtype=dtype), torch.full((1, 1, 2), -torch.inf)) for _ in "ab")
    assert (module.merge(a, b) == 0).all()


@pytest.mark.parametrize("apart", [300.0, 1e6, 3e38])
@pytest.mark.parametrize("name", ["nag", "vsf"])
def test_scores_far_apart(guide_joint, apart, segments, name):
    """Where a naive sum of exponentials overflows."""
    parts = parts_of(*random(), torch.float32, segments)
    parts[1][1].add_(apart)
    parts[2][1].sub_(apart)
    close(joint(guide_joint, parts, segments, equation=name), exactly(parts, segments, name=name))


@dtypes
def test_features_at_the_end_of_float16(guide_joint, dtype, segments):
    parts = [((60000 * z.sign()).to(dtype), lse) for z, lse in parts_of(*random(), torch.float32, segments)]
    largest = torch.finfo(dtype).max
    expected = exactly(parts, segments, (11.0, 2.5, 0.5))
    assert expected.abs().max() > 65504
    close(joint(guide_joint, parts, segments, (11.0, 2.5, 0.5)), expected.clamp(-largest, largest), 60000)


def test_a_missing_number_is_not_hidden(guide_joint, segments):
    """A NaN in an output or in a log-sum-exp is a fault of the model's that must be seen."""
    in_image = segments.image.start
    for i, token in ((0, 0), (1, segments.positive.start), (2, segments.negative.start), (1, in_image), (2, in_image)):
        for of_lse in (False, True):
            parts = [(z.clone(), lse.clone()) for z, lse in parts_of(*random(), torch.float32, segments)]
            parts[i][of_lse][:, 1, token - (segments.known.start if i == 1 else 0)] = torch.nan
            assert joint(guide_joint, parts, segments)[:, token, 24:48].isnan().all()


@dtypes
@pytest.mark.parametrize("numbers", [(1.0, 2.5, 0.5), (5.0, 2.5, 0.0)], ids=["scale 1", "alpha 0"])
def test_off(guide_joint, dtype, numbers, segments):
    """The image gets the positive alone, whatever the negative holds."""
    parts = parts_of(*random(), dtype, segments)
    parts[2][0][:, :, segments.image] = torch.nan
    pos, neg = exact_merge(parts, segments)
    expected = in_sequence(segments, pos[:, segments.positive], neg[:, segments.negative], pos[:, segments.image])
    close(joint(guide_joint, parts, segments, numbers), expected)


@pytest.mark.parametrize(("n_positive", "n_negative"), [(0, 4), (5, 0), (9, 7), (0, 0), (0, 16)])
def test_empty_segments(guide_joint, make_segments, n_positive, n_negative):
    segments = make_segments(n_positive, n_negative)
    q, k, v = random()
    image = [t.float() for t in attention(q, k, v)]
    positive, negative = ([t[:, :, own] + 1 for t in image] for own in (segments.known, slice(None)))
    found = guide_joint(image, positive, negative, segments, *NUMBERS)
    close(found, exactly((image, positive, negative), segments))


def test_parts_are_left_alone(guide_joint, segments):
    parts = parts_of(*random(), torch.float32, segments)
    copies = [(z.clone(), lse.clone()) for z, lse in parts]
    joint(guide_joint, parts, segments)
    assert all(torch.equal(t, copy) for part, both in zip(parts, copies) for t, copy in zip(part, both))


def test_parts_that_do_not_fit(guide_joint, segments):
    image, positive, negative = parts_of(*random(), torch.float32, segments)
    less = lambda part: [t[:, :, 1:] for t in part]
    for parts in (
        (image, image, negative),
        (image, less(positive), negative),
        (image, (positive[0], positive[1][:, :2]), negative),
        (image, positive, less(negative)),
    ):
        with pytest.raises(ValueError, match="16 tokens, 12 without the negative's"):
            joint(guide_joint, parts, segments)


@dtypes
def test_merge(module, dtype):
    q, k, v = random()
    apart = (attention(q, k[:, :, keys], v[:, :, keys]) for keys in (slice(6), slice(6, None)))
    parts = [(z.to(dtype), lse.float()) for z, lse in apart]
    found = module.merge(*parts)
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found.double(), attention(q, k, v)[0], rtol=1e-5, atol=1e-5 if dtype == torch.float32 else 0.05
    )
    out = torch.empty(ROWS, TOKENS, HEADS, 24, dtype=dtype)
    module.merge(*parts, out=out.transpose(1, 2))
    torch.testing.assert_close(out.transpose(1, 2), found.to(dtype))


def test_gradients(module, segments):
    parts = [(z.requires_grad_(), lse.requires_grad_()) for z, lse in parts_of(*random(), torch.float32, segments)]
    joint(module.guide_joint, parts, segments).square().sum().backward()
    exact = [[t.detach().double().requires_grad_() for t in part] for part in parts]
    exactly(exact, segments).square().sum().backward()
    for part, expected in zip(parts, exact):
        for found, wanted in zip(part, expected):
            torch.testing.assert_close(found.grad.double(), wanted.grad, rtol=1e-4, atol=1e-4)


def test_compiled(module, segments):
    parts = parts_of(*random(), torch.float32, segments)
    make = lambda *parts: joint(module.guide_joint, parts, segments)
    close(torch.compile(make, backend="eager", fullgraph=True)(*parts), exactly(parts, segments))
    torch._dynamo.reset()


def test_inference_mode(guide_joint, inference_mode, segments):
    parts = parts_of(*random(), torch.float32, segments)
    close(joint(guide_joint, parts, segments), exactly(parts, segments))
