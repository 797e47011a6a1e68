"""The attention overrides against attention written out, under each of ComfyUI's attention functions."""
from itertools import accumulate

import comfy.ldm.modules.attention as host
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from oracle.equation import Nag
from oracle.equation import attention as exact_attention
from oracle.equation import guide as exact_guide

HEADS, HEAD_DIM = 3, 8
POSITIVE, NEGATIVE, IMAGE = 5, 4, 7
NAG = Nag([])
FUNCTIONS = ["attention_pytorch", "attention_basic", "attention_split", "attention_sub_quad"]
functions = pytest.mark.parametrize("function", FUNCTIONS)


@pytest.fixture
def equation(patches):
    return patches("equation").Equation(NAG.scale, NAG.tau, NAG.alpha)


@pytest.fixture
def joint(patches, equation):
    def make(transformer_options=None, n_image=IMAGE):
        return patches("attention").JointAttention(equation, transformer_options or {}, POSITIVE, NEGATIVE, n_image)

    return make


@pytest.fixture
def separate(patches, equation):
    return patches("attention").SeparateAttention(equation, {}, (POSITIVE, NEGATIVE, IMAGE, IMAGE))


@pytest.fixture
def cross(patches, equation):
    return patches("attention").CrossAttention(equation, {}, POSITIVE, NEGATIVE)


def random(*tokens):
    generator = torch.Generator().manual_seed(0)
    return [2 * torch.randn(2, n, HEADS * HEAD_DIM, generator=generator) for n in tokens]


def by_heads(*tensors):
    return [t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in tensors]


def call(function, override, q, k, v, **more):
    """As a model calls attention: the function asks for the override itself."""
    options = {host.__name__: "kept", "optimized_attention_override": override}
    return getattr(host, function)(q, k, v, HEADS, transformer_options=options, **more)


def exact_joint(q, k, v, mask=None):
    """One image stream. `mask`, (..., queries, keys), is added to the scores of positive and image."""
    q, k, v = (t.double().split((POSITIVE, NEGATIVE, IMAGE), 1) for t in (q, k, v))
    branch = lambda text, mask: [torch.cat((z[text], z[2]), 1) for z in (q, k, v)] + [HEADS, mask]
    of_negative = None
    if mask is not None:
        of_negative = torch.zeros(*mask.shape[:-2], NEGATIVE + IMAGE, NEGATIVE + IMAGE, dtype=torch.float64)
        of_negative[..., NEGATIVE:, NEGATIVE:] = mask[..., POSITIVE:, POSITIVE:]
    pos, neg = exact_attention(*branch(0, mask)), exact_attention(*branch(1, of_negative))
    z = exact_guide(pos[:, POSITIVE:], neg[:, NEGATIVE:], NAG)
    return torch.cat((pos[:, :POSITIVE], neg[:, :NEGATIVE], z), 1)


def exact_separate(q, k, v):
    q, k, v = (t.double().split((POSITIVE, NEGATIVE, IMAGE, IMAGE), 1) for t in (q, k, v))
    branch = lambda i: exact_attention(*(torch.cat((z[i], z[i + 2]), 1) for z in (q, k, v)), HEADS)
    pos, neg = branch(0), branch(1)
    z = exact_guide(pos[:, POSITIVE:], neg[:, NEGATIVE:], NAG)
    return torch.cat((pos[:, :POSITIVE], neg[:, :NEGATIVE], z, z), 1)


def exact_cross(q, k, v):
    q, k, v = q.double(), k.double().split((POSITIVE, NEGATIVE), 1), v.double().split((POSITIVE, NEGATIVE), 1)
    return exact_guide(*(exact_attention(q, k[i], v[i], HEADS) for i in (0, 1)), NAG)


def close(found, expected):
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


@functions
def test_joint(joint, function):
    q, k, v = random(*[POSITIVE + NEGATIVE + IMAGE] * 3)
    expected = exact_joint(q, k, v)
    close(call(function, joint(), *by_heads(q, k, v), skip_reshape=True), expected)
    close(call(function, joint(), q, k, v), expected)
    by_head = call(function, joint(), *by_heads(q, k, v), skip_reshape=True, skip_output_reshape=True)
    close(by_head.transpose(1, 2).flatten(2), expected)


def test_joint_with_values_by_heads(joint):
    """SD3's queries and keys are flat, its values are not."""
    q, k, v = random(*[POSITIVE + NEGATIVE + IMAGE] * 3)
    close(call("attention_pytorch", joint(), q, k, v.unflatten(-1, (HEADS, -1))), exact_joint(q, k, v))


def test_joint_meets_the_image_once(joint, patches, monkeypatch):
    """With PyTorch's attention the branches are merged by log-sum-exp, not computed apart."""
    apart = lambda *args: pytest.fail("the branches were computed apart")
    monkeypatch.setattr(patches("attention").JointAttention, "_apart", apart)
    q, k, v = random(*[POSITIVE + NEGATIVE + IMAGE] * 3)
    close(call("attention_pytorch", joint(), q, k, v), exact_joint(q, k, v))


def test_merge_survives_extreme_scores(joint):
    """The scores differ by some hundreds between prompts and image, where a naive sum of exponentials overflows."""
    q, k, v = random(*[POSITIVE + NEGATIVE + IMAGE] * 3)
    k[:, :POSITIVE] *= 40
    q *= 10
    close(call("attention_pytorch", joint(), q, k, v), exact_joint(q, k, v))


@functions
def test_joint_counts_what_it_guides(patches, monkeypatch, function):
    monkeypatch.setitem(patches("equation").CHUNK, "cpu", 2 * HEADS * HEAD_DIM * 3)  # three tokens at a time
    counted = patches("statistics").Statistics([1.0, 0.0], torch.device("cpu"), None)
    equation = patches("equation").Equation(NAG.scale, NAG.tau, NAG.alpha, counted)
    q, k, v = random(*[POSITIVE + NEGATIVE + IMAGE] * 3)
    joint = patches("attention").JointAttention(equation, {}, POSITIVE, NEGATIVE)
    close(call(function, joint, q, k, v), exact_joint(q, k, v))

    parts = [t.double().split((POSITIVE, NEGATIVE, IMAGE), 1) for t in (q, k, v)]
    image = [
        exact_attention(*(torch.cat((part[i], part[2]), 1) for part in parts), HEADS)[:, -IMAGE:] for i in (0, 1)
    ]
    expected = patches("statistics").measure(*image, *equation.numbers)
    torch.testing.assert_close(counted.sums[expected.device], expected, rtol=1e-4, atol=1e-4)


@functions
def test_separate(separate, function):
    q, k, v = random(*[POSITIVE + NEGATIVE + 2 * IMAGE] * 3)
    close(call(function, separate, *by_heads(q, k, v), skip_reshape=True), exact_separate(q, k, v))


@functions
def test_cross(cross, function):
    q, k, v = random(IMAGE, POSITIVE + NEGATIVE, POSITIVE + NEGATIVE)
    close(call(function, cross, q, k, v), exact_cross(q, k, v))
    close(call(function, cross, *by_heads(q, k, v), skip_reshape=True), exact_cross(q, k, v))


def test_cross_leaves_other_attention_alone(cross):
    q, k, v = random(IMAGE, POSITIVE, POSITIVE)
    close(call("attention_pytorch", cross, q, k, v), exact_attention(*(t.double() for t in (q, k, v)), HEADS))


def test_joint_leaves_other_attention_alone(joint):
    q, k, v = random(IMAGE, IMAGE, IMAGE)
    close(call("attention_pytorch", joint(), q, k, v), exact_attention(*(t.double() for t in (q, k, v)), HEADS))


def masks():
    """Masks of all the shapes that ComfyUI's attention takes, for [positive | image], and what each adds to scores."""
    n = POSITIVE + IMAGE
    generator = torch.Generator().manual_seed(1)
    bias = torch.randn(2, 1, n, n, generator=generator)
    allowed = torch.rand(2, 1, n, n, generator=generator) > 0.4
    allowed |= torch.eye(n, dtype=torch.bool)  # a query that may see nothing has no softmax
    hidden = torch.zeros(2, 1, n, n).masked_fill(~allowed, -torch.inf)
    yield "added, by rows and heads", bias, bias
    yield "added, by rows", bias[:, 0], bias
    yield "added, for all", bias[0, 0], bias[:1]
    yield "allowed, by rows and heads", allowed, hidden
    yield "allowed, for all", allowed[0, 0], hidden[:1]


@functions
@pytest.mark.parametrize(("mask", "added"), [pytest.param(*rest, id=name) for name, *rest in masks()])
def test_joint_with_a_mask(joint, function, mask, added):
    """The positive is masked as the model wants it, the image for both prompts, the negative not at all."""
    if mask.dtype == torch.bool and function != "attention_pytorch":
        pytest.skip("takes no such mask, with NAG or without")
    q, k, v = random(*[POSITIVE + NEGATIVE + IMAGE] * 3)
    found = call(function, joint(n_image=None), *by_heads(q, k, v), skip_reshape=True, mask=mask)
    close(found, exact_joint(q, k, v, added.double()))


class AnotherNode:
    """An attention override as another node sets it: counts, and calls on."""

    def __init__(self):
        self.calls, self.options = 0, []

    def __call__(self, func, *args, **kwargs):
        self.calls += 1
        self.options.append(kwargs.get("transformer_options"))
        return func(*args, **kwargs)


def test_an_earlier_override_computes_the_attention(joint):
    other = AnotherNode()
    override = joint({"optimized_attention_override": other})
    q, k, v = random(*[POSITIVE + NEGATIVE + IMAGE] * 3)
    close(call("attention_pytorch", override, q, k, v), exact_joint(q, k, v))
    assert other.calls == 2
    assert all(options["optimized_attention_override"] is other for options in other.options)


def test_the_other_arguments_reach_the_function(cross):
    given = {"attn_precision": torch.float32, "low_precision_attention": False}
    seen = []

    def function(q, k, v, heads, **kwargs):
        seen.append(kwargs)
        return q

    q, k, v = random(IMAGE, POSITIVE + NEGATIVE, POSITIVE + NEGATIVE)
    cross(function, q, k, v, HEADS, **given)
    assert len(seen) == 2 and all(given.items() <= kwargs.items() for kwargs in seen)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_half_precision(joint, dtype):
    q, k, v = (t.to(dtype) for t in random(*[POSITIVE + NEGATIVE + IMAGE] * 3))
    found = call("attention_pytorch", joint(), q, k, v)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), exact_joint(q, k, v), rtol=0.05, atol=0.1)


def peak_memory(run):
    """Bytes that were allocated at most during a call, beyond what there was before it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        kept = run()
    events = (event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]")
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    assert kept.untyped_storage().nbytes() in changes
    return max(accumulate(changes))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_cross_attention_takes_one_feature_tensor_more(patches, equation, dtype, inference_mode):
    """As a video of many frames needs it: 14B Wan's features at 720p take 774 MB."""
    n_image, heads, n_text = 16384, 4, 64
    q, k, v = (torch.randn(1, n, 256, dtype=dtype) for n in (n_image, 2 * n_text, 2 * n_text))
    attention = patches("attention").CrossAttention(equation, {}, n_text, n_text)
    guided = {"optimized_attention_override": attention}
    text = slice(n_text)

    base = peak_memory(lambda: host.attention_pytorch(q, k[:, text], v[:, text], heads))
    nag = peak_memory(lambda: host.attention_pytorch(q, k, v, heads, transformer_options=guided))
    of_one_chunk = 5 * 2**20
    assert base >= q.nbytes
    assert nag - base < q.nbytes + of_one_chunk
