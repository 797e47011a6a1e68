"""The attention overrides against attention written out, under each of ComfyUI's attention functions."""
from itertools import accumulate, islice

import comfy.ldm.modules.attention as host
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from oracle.equation import Nag, flipped
from oracle.equation import attention as exact_attention
from oracle.equation import guide as exact_guide

HEADS, HEAD_DIM = 6, 8
POSITIVE, NEGATIVE, IMAGE = 5, 4, 7
TEXT, TOKENS = POSITIVE + NEGATIVE, POSITIVE + NEGATIVE + IMAGE
NAG = Nag([])
FUNCTIONS = ["attention_pytorch", "attention_basic", "attention_split", "attention_sub_quad"]
functions = pytest.mark.parametrize("function", FUNCTIONS)
pytestmark = pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # of Triton's interpreter


@pytest.fixture
def equation(patches):
    return patches("arithmetic.equation").Equation(NAG.scale, NAG.tau, NAG.alpha)


@pytest.fixture
def sizes(patches):
    return patches("attention.sizes").Sizes


class Order:
    """Which of a sequence's tokens are whose."""

    def __init__(self, image_first):
        names = ["image", "positive", "negative"] if image_first else ["negative", "positive", "image"]
        sizes = {"image": IMAGE, "positive": POSITIVE, "negative": NEGATIVE}
        numbers = iter(range(TOKENS))
        self.image, self.positive, self.negative = map(
            {name: list(islice(numbers, sizes[name])) for name in names}.get, sizes
        )
        self.image_first = image_first
        self.known = sorted(self.positive + self.image)


@pytest.fixture(params=[False, True], ids=["text first", "image first"])
def order(request):
    return Order(request.param)


@pytest.fixture
def joint(patches, equation, sizes, order):
    def make(transformer_options=None):
        of_all = sizes(POSITIVE, NEGATIVE, IMAGE, image_first=order.image_first)
        return patches("attention.override").JointAttention(equation, transformer_options or {}, of_all)

    return make


@pytest.fixture
def separate(patches, equation, sizes):
    return patches("attention.separate").SeparateAttention(equation, {}, sizes(POSITIVE, NEGATIVE, IMAGE, IMAGE))


@pytest.fixture
def cross(patches, equation, sizes):
    return patches("attention.override").CrossAttention(equation, {}, sizes(POSITIVE, NEGATIVE))


def random(*tokens):
    generator = torch.Generator().manual_seed(0)
    return [2 * torch.randn(2, n, HEADS * HEAD_DIM, generator=generator) for n in tokens]


def by_heads(*tensors):
    return [t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in tensors]


def call(function, override, q, k, v, **more):
    """As a model calls attention: the function asks for the override itself."""
    options = {host.__name__: "kept", "optimized_attention_override": override}
    return getattr(host, function)(q, k, v, HEADS, transformer_options=options, **more)


def branches(order, q, k, v, mask=None):
    """(image, text) of attention over the positive and the image, and over the negative and the image."""
    for text in (order.positive, order.negative):
        own = order.image + text
        of_own = None if mask is None else mask[..., own, :][..., own]
        z = exact_attention(*(t.double()[:, own] for t in (q, k, v)), HEADS, of_own)
        yield z[:, :IMAGE], z[:, IMAGE:]


def exact_joint(order, q, k, v, mask=None):
    """One image stream. `mask`, (..., queries, keys) over all tokens, is added to the scores."""
    z = torch.full(q.shape, torch.nan, dtype=torch.float64)
    (z_pos, z[:, order.positive]), (z_neg, z[:, order.negative]) = branches(order, q, k, v, mask)
    z[:, order.image] = exact_guide(z_pos, z_neg, NAG)
    return z


def exact_separate(q, k, v, mask=None):
    """`mask` is that of `exact_joint`."""
    order = Order(image_first=False)
    second = [token + IMAGE for token in order.image]
    pos, neg = (
        exact_attention(
            *(t.double()[:, text + image] for t in (q, k, v)),
            HEADS,
            None if mask is None else mask[..., text + order.image, :][..., text + order.image],
        )
        for text, image in ((order.positive, order.image), (order.negative, second))
    )
    z = exact_guide(pos[:, POSITIVE:], neg[:, NEGATIVE:], NAG)
    return torch.cat((neg[:, :NEGATIVE], pos[:, :POSITIVE], z, z), 1)


def exact_cross(q, k, v, mask=None):
    """`mask`, (..., queries, keys) over both texts, is added to the scores."""
    q, k, v = q.double(), k.double().split((POSITIVE, NEGATIVE), 1), v.double().split((POSITIVE, NEGATIVE), 1)
    masks = (None, None) if mask is None else mask.split((POSITIVE, NEGATIVE), -1)
    return exact_guide(*(exact_attention(q, k[i], v[i], HEADS, masks[i]) for i in (0, 1)), NAG)


def close(found, expected):
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


@functions
def test_joint(joint, function, order):
    q, k, v = random(*[POSITIVE + NEGATIVE + IMAGE] * 3)
    expected = exact_joint(order, q, k, v)
    close(call(function, joint(), *by_heads(q, k, v), skip_reshape=True), expected)
    close(call(function, joint(), q, k, v), expected)
    by_head = call(function, joint(), *by_heads(q, k, v), skip_reshape=True, skip_output_reshape=True)
    close(by_head.transpose(1, 2).flatten(2), expected)


def test_joint_with_values_by_heads(joint, order):
    """SD3's queries and keys are flat, its values are not."""
    q, k, v = random(*[POSITIVE + NEGATIVE + IMAGE] * 3)
    close(call("attention_pytorch", joint(), q, k, v.unflatten(-1, (HEADS, -1))), exact_joint(order, q, k, v))


def test_joint_meets_the_image_once(joint, patches, monkeypatch, order):
    """With PyTorch's attention the branches are merged by log-sum-exp, not computed apart."""
    apart = lambda *args: pytest.fail("the branches were computed apart")
    monkeypatch.setattr(patches("attention.override").JointAttention, "_apart", apart)
    q, k, v = random(*[POSITIVE + NEGATIVE + IMAGE] * 3)
    close(call("attention_pytorch", joint(), q, k, v), exact_joint(order, q, k, v))


def test_merge_survives_extreme_scores(joint, order):
    """The scores differ by some hundreds between prompts and image, where a naive sum of exponentials overflows."""
    q, k, v = random(*[POSITIVE + NEGATIVE + IMAGE] * 3)
    k[:, order.positive] *= 40
    q *= 10
    close(call("attention_pytorch", joint(), q, k, v), exact_joint(order, q, k, v))


@functions
@pytest.mark.parametrize("sharing", [1, 2])
def test_joint_counts_what_it_guides(patches, sizes, monkeypatch, function, sharing, order):
    if sharing > 1:
        skip_without_shared_heads(function)
    monkeypatch.setitem(patches("arithmetic.equation").CHUNK, "cpu", 2 * HEADS * HEAD_DIM * 3)  # three tokens at a time
    counted = patches("sampling.statistics").Statistics([1.0, 0.0], torch.device("cpu"), None)
    equation = patches("arithmetic.equation").Equation(NAG.scale, NAG.tau, NAG.alpha, statistics=counted)
    q, k, v = random(*[POSITIVE + NEGATIVE + IMAGE] * 3)
    (k_few, k), (v_few, v) = with_shared_heads(sharing, k, v)
    of_both = sizes(POSITIVE, NEGATIVE, image_first=order.image_first)
    joint = patches("attention.override").JointAttention(equation, {}, of_both)
    close(call(function, joint, q, k_few, v_few, enable_gqa=sharing > 1), exact_joint(order, q, k, v))

    image = [z for z, _ in branches(order, q, k, v)]
    expected = patches("sampling.statistics").measure(*image, *equation.numbers)
    torch.testing.assert_close(counted.sums[expected.device], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("way", ["log-sum-exp", "two calls"], indirect=True)
@pytest.mark.parametrize("order", [False], indirect=True)
def test_joint_with_further_keys(joint, way, order):
    """Behind the image's, as ComfyUI's FluxKVCache puts those of reference images there."""
    q, k, v = random(TOKENS, TOKENS + 3, TOKENS + 3)
    further = range(TOKENS, TOKENS + 3)
    z = torch.full(q.shape, torch.nan, dtype=torch.float64)
    of_each = []
    for text in (order.positive, order.negative):
        own = order.image + text
        keys = [t.double()[:, [*own, *further]] for t in (k, v)]
        of_each.append(exact_attention(q.double()[:, own], *keys, HEADS))
        z[:, text] = of_each[-1][:, IMAGE:]
    z[:, order.image] = exact_guide(*(of_one[:, :IMAGE] for of_one in of_each), NAG)
    close(call_by(way, joint, *by_heads(q, k, v), skip_reshape=True), z)


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


@pytest.mark.parametrize("name", ["joint", "cross"])
def test_other_attention_keeps_its_arguments(joint, cross, name):
    override = {"joint": joint(), "cross": cross}[name]
    q, k, v = random(IMAGE, IMAGE, IMAGE)
    mask = torch.randn(2, 1, IMAGE, IMAGE)
    expected = exact_attention(*(t.double() for t in (q, k, v)), HEADS, mask.double())
    options = {"transformer_options": {"optimized_attention_override": override}}
    by_name = {"mask": mask, "skip_reshape": True, "skip_output_reshape": True}
    for given, more in (((mask, None, True, True), {}), ((), by_name)):
        found = host.attention_pytorch(*by_heads(q, k, v), HEADS, *given, **more, **options)
        close(found.transpose(1, 2).flatten(2), expected)


class AnotherNode:
    """An attention override as another node sets it: counts, and calls on."""

    def __init__(self):
        self.calls, self.options = 0, []

    def __call__(self, func, *args, **kwargs):
        self.calls += 1
        self.options.append(kwargs.get("transformer_options"))
        return func(*args, **kwargs)


# What ComfyUI's models hand to attention, for queries and keys of these numbers.
KEYS_ONLY = {
    "(1, 1, 1, keys)": lambda queries, keys: (1, 1, 1, keys),
    "(rows, 1, 1, keys)": lambda queries, keys: (2, 1, 1, keys),
    "(rows, 1, keys)": lambda queries, keys: (2, 1, keys),
    "(rows, keys)": lambda queries, keys: (2, keys),
    "(1, keys)": lambda queries, keys: (1, keys),
}
SHAPES = KEYS_ONLY | {
    "(rows, heads, queries, keys)": lambda queries, keys: (2, HEADS, queries, keys),
    "(rows, 1, queries, keys)": lambda queries, keys: (2, 1, queries, keys),
    "(rows, queries, keys)": lambda queries, keys: (2, queries, keys),
    "(1, queries, keys)": lambda queries, keys: (1, queries, keys),
    "(queries, keys)": lambda queries, keys: (queries, keys),
}
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
joined = pytest.mark.parametrize("joined", [False, True], ids=["of the positive", "of both"])


def masks(shape):
    """Additive and boolean masks of this shape, each with what it adds to the scores, which has four axes."""
    generator = torch.Generator().manual_seed(1)
    bias = torch.randn(shape, generator=generator)
    allowed = torch.rand(shape, generator=generator) > 0.4
    allowed[..., 0] = allowed[..., -1] = True  # a query that sees nothing of a prompt has no softmax
    hidden = torch.zeros(shape, dtype=torch.float64).masked_fill(~allowed, -torch.inf)
    found = [(bias, bias.double()), (allowed, hidden), (hidden.clamp(min=-3e38).float(), hidden)]
    if len(shape) == 2:
        found = [(mask, added[:, None] if shape[0] == 2 else added[None]) for mask, added in found]
    return found if len(shape) == 4 else [(mask, added[:, None]) for mask, added in found]


def over_all(added, own, n_queries, n_keys):
    """`added`, over the tokens `own`, over all tokens: nothing is added to the others' scores."""
    full = torch.zeros(*added.shape[:2], n_queries, n_keys, dtype=torch.float64)
    if added.shape[2] == 1:
        full[..., own] = added
    else:
        full[..., torch.tensor(own)[:, None] if n_queries == n_keys else slice(None), own] = added
    return full


def with_shared_heads(sharing, *tensors):
    """Keys or values that `sharing` heads of queries share, and the same with a head for each."""
    for t in tensors:
        few = t.unflatten(-1, (HEADS, -1))[:, :, ::sharing]
        yield few.flatten(2), few.repeat_interleave(sharing, 2).flatten(2)


def skip_without_shared_heads(function):
    q, k = torch.ones(1, 4, 3, 8), torch.ones(1, 2, 3, 8)
    try:
        getattr(host, function)(q, k, k, 4, skip_reshape=True, enable_gqa=True)
    except RuntimeError:
        pytest.skip("takes no shared heads, with NAG or without")


@pytest.fixture
def way(request, patches, monkeypatch):
    """An attention function, or how attention_pytorch is to be used; any other way fails the test."""
    forbid = lambda owner, name: monkeypatch.setattr(owner, name, lambda *args: pytest.fail(f"{name} was called"))
    merged = request.param in ("log-sum-exp", "triton")
    forbid(patches("attention.override").JointAttention, "_apart" if merged else "_merged")
    if request.param == "triton":
        request.getfixturevalue("interpreter")
        forbid(patches("arithmetic.merge"), "_in_chunks")
    return request.param


WAYS = ["log-sum-exp", "triton", "two calls", *FUNCTIONS[1:]]


def call_by(way, joint, q, k, v, **more):
    function = way if way in FUNCTIONS else "attention_pytorch"
    other = {"optimized_attention_override": AnotherNode()} if way == "two calls" else {}
    return call(function, joint(other), q, k, v, **more)


@pytest.mark.parametrize("way", WAYS, indirect=True)
@joined
@shapes
def test_joint_with_a_mask(joint, way, shape, joined, order):
    """A mask that knows the positive only leaves the negative free; one over both texts holds for both."""
    q, k, v = random(TOKENS, TOKENS, TOKENS)
    n = TOKENS if joined else POSITIVE + IMAGE
    own = [*range(TOKENS)] if joined else order.known
    for mask, added in masks(shape(n, n))[: 2 if way == "triton" else None]:  # its interpreter is slow
        found = call_by(way, joint, *by_heads(q, k, v), skip_reshape=True, mask=mask)
        close(found, exact_joint(order, q, k, v, over_all(added, own, TOKENS, TOKENS)))


@pytest.mark.parametrize("way", WAYS[:3], indirect=True)
@pytest.mark.parametrize("sharing", [2, 6])
@pytest.mark.parametrize("shape", [None, *list(SHAPES.values())[1:6]], ids=["no mask", *list(SHAPES)[1:6]])
def test_joint_with_shared_heads(joint, way, sharing, shape, order):
    if way == "two calls":
        skip_without_shared_heads("attention_pytorch")
    q, k, v = random(TOKENS, TOKENS, TOKENS)
    (k, k_each), (v, v_each) = with_shared_heads(sharing, k, v)
    by_head = [t.unflatten(-1, (-1, HEAD_DIM)).transpose(1, 2) for t in (q, k, v)]
    own = order.known
    for mask, added in [(None, None)] if shape is None else masks(shape(len(own), len(own))):
        expected = exact_joint(order, q, k_each, v_each, mask if mask is None else over_all(added, own, TOKENS, TOKENS))
        close(call_by(way, joint, *by_head, skip_reshape=True, mask=mask, enable_gqa=True), expected)
        if way == "triton":  # its interpreter is slow
            break
        close(call_by(way, joint, q, k, v, mask=mask, enable_gqa=True), expected)
        found = call_by(
            way, joint, *by_head, mask=mask, skip_reshape=True, skip_output_reshape=True, enable_gqa=True
        )
        close(found.transpose(1, 2).flatten(2), expected)


@pytest.mark.parametrize("function", ["attention_pytorch", "attention_basic"])
def test_arguments_by_position(joint, cross, separate, function, order):
    """As ComfyUI's models pass the mask: behind `heads`, and others behind it."""
    q, k, v = random(TOKENS, TOKENS, TOKENS)
    own = order.known
    mask, added = masks((2, 1, 1, len(own)))[0]
    expected = exact_joint(order, q, k, v, over_all(added, own, TOKENS, TOKENS))
    attend = lambda override, *args: getattr(host, function)(
        *args, transformer_options={"optimized_attention_override": override}
    )
    close(attend(joint(), *by_heads(q, k, v), HEADS, mask, None, True), expected)
    by_head = attend(joint(), *by_heads(q, k, v), HEADS, mask, None, True, True)
    close(by_head.transpose(1, 2).flatten(2), expected)

    q, k, v = random(IMAGE, TEXT, TEXT)
    mask, added = masks((2, 1, 1, POSITIVE))[0]
    expected = exact_cross(q, k, v, over_all(added, [*range(POSITIVE)], IMAGE, TEXT))
    close(attend(cross, q, k, v, HEADS, mask), expected)
    by_head = attend(cross, *by_heads(q, k, v), HEADS, mask, None, True, True)
    close(by_head.transpose(1, 2).flatten(2), expected)

    q, k, v = random(*[TOKENS + IMAGE] * 3)
    close(attend(separate, *by_heads(q, k, v), HEADS, None, None, True), exact_separate(q, k, v))


@joined
@shapes
@functions
def test_cross_with_a_mask(cross, function, shape, joined):
    """Over the positive's keys it leaves the negative's alone; over both texts' each gets its part."""
    q, k, v = random(IMAGE, TEXT, TEXT)
    own = [*range(TEXT if joined else POSITIVE)]
    for mask, added in masks(shape(IMAGE, len(own))):
        expected = exact_cross(q, k, v, over_all(added, own, IMAGE, TEXT))
        close(call(function, cross, q, k, v, mask=mask), expected)
        close(call(function, cross, *by_heads(q, k, v), skip_reshape=True, mask=mask), expected)
        for t, skip in (((q, k, v), False), (by_heads(q, k, v), True)):
            by_head = call(function, cross, *t, mask=mask, skip_reshape=skip, skip_output_reshape=True)
            assert by_head.shape == (2, HEADS, IMAGE, HEAD_DIM)
            close(by_head.transpose(1, 2).flatten(2), expected)


@functions
def test_cross_takes_norms_over_all_heads(cross, function):
    """However the model wants the output."""
    q, k, v = random(IMAGE, TEXT, TEXT)
    for t, skip in (((q, k, v), False), (by_heads(q, k, v), True)):
        by_head = call(function, cross, *t, skip_reshape=skip, skip_output_reshape=True)
        close(by_head.transpose(1, 2).flatten(2), exact_cross(q, k, v))


@pytest.mark.parametrize("sharing", [2, 6])
def test_cross_with_shared_heads(cross, sharing):
    skip_without_shared_heads("attention_pytorch")
    q, k, v = random(IMAGE, TEXT, TEXT)
    (k, k_each), (v, v_each) = with_shared_heads(sharing, k, v)
    by_head = [t.unflatten(-1, (-1, HEAD_DIM)).transpose(1, 2) for t in (q, k, v)]
    mask, added = masks((2, 1, 1, POSITIVE))[0]
    for given, expected in (
        (None, exact_cross(q, k_each, v_each)),
        (mask, exact_cross(q, k_each, v_each, over_all(added, [*range(POSITIVE)], IMAGE, TEXT))),
    ):
        found = call("attention_pytorch", cross, *by_head, skip_reshape=True, mask=given, enable_gqa=True)
        close(found, expected)


@pytest.mark.parametrize("function", ["attention_pytorch", "attention_basic"])
@pytest.mark.parametrize("shape", KEYS_ONLY.values(), ids=KEYS_ONLY)
def test_separate_with_a_mask(separate, function, shape):
    q, k, v = random(*[TOKENS + IMAGE] * 3)
    own = Order(image_first=False).known
    for mask, added in masks(shape(len(own), len(own))):
        found = call(function, separate, *by_heads(q, k, v), skip_reshape=True, mask=mask)
        close(found, exact_separate(q, k, v, over_all(added, own, TOKENS, TOKENS)))


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_with_a_mask_and_shared_heads(joint, dynamic, order):
    q, k, v = random(TOKENS, TOKENS, TOKENS)
    (k, k_each), (v, v_each) = with_shared_heads(2, k, v)
    by_head = [t.unflatten(-1, (-1, HEAD_DIM)).transpose(1, 2) for t in (q, k, v)]
    own = order.known
    torch._dynamo.reset()
    attend = torch.compile(joint(), backend="eager", fullgraph=True, dynamic=dynamic)
    for shape in ((2, 1, 1, len(own)), (2, len(own), len(own))):
        mask, added = masks(shape)[0]
        found = attend(
            host.attention_pytorch.__wrapped__, *by_head, HEADS, mask=mask, skip_reshape=True, enable_gqa=True
        )
        close(found, exact_joint(order, q, k_each, v_each, over_all(added, own, TOKENS, TOKENS)))
    torch._dynamo.reset()


def test_a_mask_of_another_length_is_an_error(joint, cross):
    q, k, v = by_heads(*random(TOKENS, TOKENS, TOKENS))
    with pytest.raises(ValueError, match=r"mask of shape \(2, 1, 1, 13\)"):
        call("attention_pytorch", joint(), q, k, v, skip_reshape=True, mask=torch.zeros(2, 1, 1, 13))
    with pytest.raises(ValueError, match=r"mask of shape \(2, 1, 1, 6\)"):
        call("attention_pytorch", cross, *random(IMAGE, TEXT, TEXT), mask=torch.zeros(2, 1, 1, 6))


def test_one_mask_is_made_for_all_blocks(patches, joint, monkeypatch):
    made = []
    as_bias = patches("attention.masks").as_bias
    monkeypatch.setattr(patches("attention.masks"), "as_bias", lambda *args: made.append(args) or as_bias(*args))
    override, q, k, v = joint(), *by_heads(*random(TOKENS, TOKENS, TOKENS))
    mask = torch.zeros(2, 1, 1, POSITIVE + IMAGE)
    call("attention_pytorch", override, q, k, v, skip_reshape=True, mask=mask)
    n = len(made)
    call("attention_pytorch", override, q, k, v, skip_reshape=True, mask=mask)
    assert len(made) == n > 0
    call("attention_pytorch", override, q, k, v, skip_reshape=True, mask=mask.clone())
    assert len(made) == 2 * n


def test_an_earlier_override_computes_the_attention(joint, order):
    other = AnotherNode()
    override = joint({"optimized_attention_override": other})
    q, k, v = random(*[POSITIVE + NEGATIVE + IMAGE] * 3)
    close(call("attention_pytorch", override, q, k, v), exact_joint(order, q, k, v))
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
def test_half_precision(joint, dtype, order):
    q, k, v = (t.to(dtype) for t in random(*[POSITIVE + NEGATIVE + IMAGE] * 3))
    found = call("attention_pytorch", joint(), q, k, v)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), exact_joint(order, q, k, v), rtol=0.05, atol=0.1)


def peak_memory(run):
    """Bytes that were allocated at most during a call, beyond what there was before it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        kept = run()
    events = (event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]")
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    assert kept.untyped_storage().nbytes() in changes
    return max(accumulate(changes))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_cross_attention_takes_one_feature_tensor_more(patches, equation, sizes, dtype, inference_mode):
    """As a video of many frames needs it: 14B Wan's features at 720p take 774 MB."""
    n_image, heads, n_text = 16384, 4, 64
    q, k, v = (torch.randn(1, n, 256, dtype=dtype) for n in (n_image, 2 * n_text, 2 * n_text))
    attention = patches("attention.override").CrossAttention(equation, {}, sizes(n_text, n_text))
    guided = {"optimized_attention_override": attention}
    text = slice(n_text)

    base = peak_memory(lambda: host.attention_pytorch(q, k[:, text], v[:, text], heads))
    nag = peak_memory(lambda: host.attention_pytorch(q, k, v, heads, transformer_options=guided))
    of_one_chunk = 5 * 2**20
    assert base >= q.nbytes
    assert nag - base < q.nbytes + of_one_chunk


VSF = Nag([], scale=3.0, equation="vsf", offset=0.7)


@pytest.fixture
def by_vsf(patches):
    return patches("arithmetic.equation").Equation(VSF.scale, 1.0, 0.0, name="vsf", vsf_offset=VSF.offset)


def exact_joint_by_vsf(order, q, k, v, mask=None):
    """As exact_joint, but for the image's tokens."""
    z = exact_joint(order, q, k, v, mask)
    of = lambda t, tokens: t.double()[:, tokens]
    known = [*order.positive, *order.image]
    masks = [None if mask is None else mask[..., order.image, :][..., own] for own in (known, order.negative)]
    keys = [(of(k, own), of(v, own)) for own in (known, order.negative)]
    z[:, order.image] = flipped(of(q, order.image), *keys, HEADS, VSF, masks)
    return z


@pytest.mark.parametrize("way", WAYS[:1] + WAYS[2:])
@joined
@shapes
def test_joint_by_vsf(patches, sizes, by_vsf, way, shape, joined, order):
    of_all = sizes(POSITIVE, NEGATIVE, IMAGE, image_first=order.image_first)
    joint = lambda options: patches("attention.override").JointAttention(by_vsf, options, of_all)
    q, k, v = random(TOKENS, TOKENS, TOKENS)
    n = TOKENS if joined else POSITIVE + IMAGE
    own = [*range(TOKENS)] if joined else order.known
    close(call_by(way, joint, *by_heads(q, k, v), skip_reshape=True), exact_joint_by_vsf(order, q, k, v))
    for mask, added in masks(shape(n, n)):
        found = call_by(way, joint, *by_heads(q, k, v), skip_reshape=True, mask=mask)
        close(found, exact_joint_by_vsf(order, q, k, v, over_all(added, own, TOKENS, TOKENS)))


@functions
@joined
@shapes
def test_cross_by_vsf(patches, sizes, by_vsf, function, shape, joined):
    cross = patches("attention.override").CrossAttention(by_vsf, {}, sizes(POSITIVE, NEGATIVE))
    q, k, v = random(IMAGE, TEXT, TEXT)
    keys = [(k.double()[:, own], v.double()[:, own]) for own in (slice(POSITIVE), slice(POSITIVE, None))]
    own = [*range(TEXT if joined else POSITIVE)]
    close(call(function, cross, q, k, v), flipped(q.double(), *keys, HEADS, VSF))
    for mask, added in masks(shape(IMAGE, len(own))):
        of_each = over_all(added, own, IMAGE, TEXT).split((POSITIVE, NEGATIVE), -1)
        expected = flipped(q.double(), *keys, HEADS, VSF, of_each)
        close(call(function, cross, q, k, v, mask=mask), expected)
        by_head = call(function, cross, *by_heads(q, k, v), mask=mask, skip_reshape=True, skip_output_reshape=True)
        close(by_head.transpose(1, 2).flatten(2), expected)


@pytest.mark.parametrize("way", ["log-sum-exp", "two calls"])
@pytest.mark.parametrize("sharing", [2, 6])
def test_by_vsf_with_shared_heads(patches, sizes, by_vsf, way, sharing, order):
    skip_without_shared_heads("attention_pytorch")
    of_all = sizes(POSITIVE, NEGATIVE, image_first=order.image_first)
    joint = lambda options: patches("attention.override").JointAttention(by_vsf, options, of_all)
    q, k, v = random(TOKENS, TOKENS, TOKENS)
    (k, k_each), (v, v_each) = with_shared_heads(sharing, k, v)
    found = call_by(way, joint, q, k, v, enable_gqa=True)
    close(found, exact_joint_by_vsf(order, q, k_each, v_each))


@pytest.mark.parametrize("way", ["log-sum-exp", "two calls"])
@pytest.mark.parametrize("order", [False], indirect=True)
def test_by_vsf_with_further_keys(patches, sizes, by_vsf, way, order):
    """Behind the image's, as ComfyUI's FluxKVCache puts those of reference images there."""
    joint = lambda options: patches("attention.override").JointAttention(by_vsf, options, sizes(POSITIVE, NEGATIVE))
    q, k, v = random(TOKENS, TOKENS + 3, TOKENS + 3)
    known = [*order.positive, *order.image, *range(TOKENS, TOKENS + 3)]
    keys = [(k.double()[:, own], v.double()[:, own]) for own in (known, order.negative)]
    found = call_by(way, joint, *by_heads(q, k, v), skip_reshape=True)
    close(found[:, order.image], flipped(q.double()[:, order.image], *keys, HEADS, VSF))
