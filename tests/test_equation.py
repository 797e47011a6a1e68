"""The equation against the oracle's, by PyTorch and by Triton, in every dtype and at its edges."""
import importlib
import logging

import pytest
import torch

from oracle.equation import Nag
from oracle.equation import guide as exact_guide

DTYPES = [torch.float16, torch.bfloat16, torch.float32]
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).split(".")[1])
NUMBERS = (5.0, 2.5, 0.25)
pytestmark = pytest.mark.filterwarnings(  # of Triton's interpreter
    "ignore:overflow:RuntimeWarning", "ignore:invalid value:RuntimeWarning"
)


@pytest.fixture
def equation(patches):
    return patches("arithmetic.equation")


@pytest.fixture(params=["torch", "triton", "traced"])
def guide(request, equation, monkeypatch):
    """`guide`, and a check that the way under test is the one taken."""
    taken = []
    at_once = equation.guide_at_once
    monkeypatch.setattr(equation, "guide_at_once", lambda *args: taken.append(args[6] is None) or at_once(*args))
    if request.param == "triton":
        kernels = request.getfixturevalue("interpreter")
        by_triton = kernels.guide
        monkeypatch.setattr(kernels, "guide", lambda *args: by_triton(*args) and not taken.append("triton"))
    if request.param == "traced":
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    way = {"torch": False, "triton": "triton", "traced": True}[request.param]  # the traced one knows no `out`

    def call(*args, **more):
        del taken[:]
        z = equation.guide(*args, **more)
        assert set(taken) <= {way}
        return z

    return call


def features(dtype=torch.float32, width=64, magnitude=1.0):
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(2, 9, width, generator=generator) * magnitude).to(dtype) for _ in range(2)]


EQUATIONS = ["nag", "orthogonal", "nasa"]
equations = pytest.mark.parametrize("name", EQUATIONS)


def exactly(positive, negative, *numbers, name="nag"):
    return exact_guide(positive.double(), negative.double(), Nag([], *numbers, equation=name))


def close(found, expected):
    """A rounding of the dtype apart, which is what computing in float32 leaves."""
    assert found.dtype != torch.float64
    rtol = {torch.float32: 3e-6}.get(found.dtype, torch.finfo(found.dtype).eps)
    torch.testing.assert_close(found.double(), expected, rtol=rtol, atol=3e-6)


@dtypes
@equations
@pytest.mark.parametrize("numbers", [NUMBERS, (3.0, 1.0, 1.0), (11.0, 4.0, 0.5), (0.0, 2.5, 0.5), (1.5, 10.0, 0.1)])
def test_equation(guide, dtype, numbers, name):
    positive, negative = features(dtype)
    guided = guide(positive, negative, *numbers, equation=name)
    assert guided.dtype == dtype
    close(guided, exactly(positive, negative, *numbers, name=name))


def a_number_a_token(shape=(2, 9, 1), off=True):
    """scale, tau and alpha; at two tokens one of them is what turns NAG off."""
    scale, alpha = 1 + 4 * torch.rand(shape), torch.rand(shape)
    if off:
        scale[:, 2], alpha[:, 2], alpha[:, 5] = 1.0, 0.0, 0.0
    return scale, 1.5, alpha


@dtypes
@equations
@pytest.mark.parametrize(("rows", "which"), [(1, "both"), (2, "both"), (1, "scale"), (2, "alpha")])
def test_numbers_of_each_token(guide, equation, monkeypatch, dtype, name, rows, which):
    monkeypatch.setitem(equation.CHUNK, "cpu", 2 * 64 * 4)  # four tokens at a time, by PyTorch
    positive, negative = features(dtype)
    scale, tau, alpha = a_number_a_token((rows, 9, 1))
    numbers = {"both": (scale, tau, alpha), "scale": (scale, tau, 0.4), "alpha": (3.0, tau, alpha)}[which]
    expected = exactly(positive, negative, *numbers, name=name)
    into = positive.clone()
    for found in (guide(positive, negative, *numbers, equation=name), guide(into, negative, *numbers, into, name)):
        close(found, expected)
        if which == "both":
            assert torch.equal(found[:, 2], positive[:, 2])
        if which != "scale" and name != "nasa":
            assert torch.equal(found[:, 5], positive[:, 5])


@equations
def test_numbers_of_each_token_in_float64(equation, name):
    positive, negative = (t.double() for t in features())
    numbers = a_number_a_token()
    found = equation.guide(positive, negative, *numbers, equation=name)
    exact = [n.double() if torch.is_tensor(n) else n for n in numbers]
    torch.testing.assert_close(found, exactly(positive, negative, *exact, name=name), rtol=1e-12, atol=1e-12)


@equations
@pytest.mark.parametrize("width", [1, 5, 40, 72, 1280, 8192, 8193])
def test_widths(equation, interpreter, width, name):
    positive, negative = features(width=width)
    out = torch.full_like(positive, torch.nan)
    assert interpreter.guide(positive, negative, *NUMBERS, out, name) == (width <= 8192)
    expected = exactly(positive, negative, *NUMBERS, name=name)
    close(equation.guide(positive, negative, *NUMBERS, equation=name), expected)


def test_whole_numbers(guide):
    positive, negative = features()
    close(guide(positive, negative, 5, 2, 1), exactly(positive, negative, 5, 2, 1))


def test_float64(equation, interpreter):
    positive, negative = (t.double() for t in features())
    torch.testing.assert_close(
        equation.guide(positive, negative, *NUMBERS), exactly(positive, negative, *NUMBERS), rtol=1e-12, atol=1e-12
    )


def of_tokens_in_a_buffer(z):
    buffer = z.new_full((z.shape[0], z.shape[1] + 5, z.shape[2]), torch.nan)
    buffer[:, 3:-2] = z
    return buffer[:, 3:-2]


LAYOUTS = {
    "a slice along tokens": of_tokens_in_a_buffer,
    "tokens before rows": lambda z: z.transpose(0, 1).contiguous().transpose(0, 1),
    "every other row": lambda z: torch.stack((z, z + torch.nan), 1).flatten(0, 1)[::2],
    "features apart": lambda z: z.transpose(1, 2).contiguous().transpose(1, 2),
}


@dtypes
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("numbers", [NUMBERS, "a number a token"], ids=str)
def test_strides(equation, interpreter, monkeypatch, dtype, layout, numbers):
    positive, negative = features(dtype, width=72)
    if numbers != NUMBERS:
        scale, tau, alpha = a_number_a_token()
        numbers = scale.transpose(0, 1).contiguous().transpose(0, 1), tau, alpha.expand(2, 9, 4)[..., 1:2]
    expected = exactly(positive, negative, *numbers)
    ways = [(layout(positive), negative, None), (positive, layout(negative), None)]
    ways.append((positive, negative, layout(torch.zeros_like(positive))))
    ways.append((layout(positive), layout(negative), layout(positive.clone())))
    for device_kernels in (True, False):
        if not device_kernels:
            monkeypatch.setattr(equation, "kernels_for", lambda z: None)
        for z_pos, z_neg, out in ways:
            found = equation.guide(z_pos, z_neg, *numbers, out=out)
            assert found is out if out is not None else found.is_contiguous()
            close(found, expected)


@dtypes
@equations
def test_into_the_positive(guide, dtype, name):
    positive, negative = features(dtype)
    expected, untouched = exactly(positive, negative, *NUMBERS, name=name), negative.clone()
    assert guide(positive, negative, *NUMBERS, out=positive, equation=name) is positive
    close(positive, expected)
    assert torch.equal(negative, untouched)


@dtypes
def test_into_a_slice_of_the_positive_s_buffer(guide, dtype):
    """What lies around the slice is left alone."""
    positive, negative = features(dtype)
    expected = exactly(positive, negative, *NUMBERS)
    buffer = torch.full((2, 14, 64), 7.0, dtype=dtype)
    buffer[:, 3:12] = positive
    guide(buffer[:, 3:12], negative, *NUMBERS, out=buffer[:, 3:12])
    close(buffer[:, 3:12], expected)
    assert (buffer[:, :3] == 7).all() and (buffer[:, 12:] == 7).all()


@dtypes
@pytest.mark.parametrize("size", [1, 300, 64 * 2 * 9])
def test_chunks(equation, monkeypatch, dtype, size):
    """Of any size, and one where the last is smaller than the others."""
    monkeypatch.setitem(equation.CHUNK, "cpu", size)
    positive, negative = features(dtype)
    expected = exactly(positive, negative, *NUMBERS)
    close(equation.guide(positive, negative, *NUMBERS), expected)
    close(equation.guide(positive, negative, *NUMBERS, out=positive), expected)


def test_chunks_bound_the_memory(equation, monkeypatch):
    monkeypatch.setitem(equation.CHUNK, "cpu", 2 * 64 * 2)
    seen = []
    at_once = equation.guide_at_once
    monkeypatch.setattr(equation, "guide_at_once", lambda z, *args: seen.append(z.shape) or at_once(z, *args))
    equation.guide(*features(), *NUMBERS)
    assert seen == [(2, 2, 64)] * 4 + [(2, 1, 64)]


@equations
@pytest.mark.parametrize("shape", [(0, 9, 64), (2, 0, 64), (9, 64), (2, 3, 4, 64)], ids=str)
def test_other_shapes(guide, equation, monkeypatch, shape, name):
    monkeypatch.undo()  # of these, Triton serves but some
    positive, negative = torch.randn(shape), torch.randn(shape)
    expected = exactly(positive, negative, *NUMBERS, name=name)
    close(equation.guide(positive, negative, *NUMBERS, equation=name), expected)


def test_features_that_need_the_cap_and_others(guide):
    positive, negative = features()
    negative[:, :4] = positive[:, :4] * 1.01
    numbers = (4.0, 1.5, 1.0)
    norm = lambda z: z.abs().sum(-1)
    ratio = norm(guide(positive, negative, *numbers)) / norm(positive)
    torch.testing.assert_close(ratio[:, 4:], torch.full_like(ratio[:, 4:], 1.5))  # capped
    assert (ratio[:, :4] < 1.1).all()
    close(guide(positive, negative, *numbers), exactly(positive, negative, *numbers))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_wan_features_do_not_overflow(guide, dtype):
    """The L1 norm of these is 80 times what float16 can hold."""
    positive, negative = features(dtype, width=5120, magnitude=1000.0)
    guided = guide(positive, negative, 11.0, 2.5, 0.25)
    assert guided.isfinite().all()
    expected = exactly(positive, negative, 11.0, 2.5, 0.25).to(dtype)
    torch.testing.assert_close(guided, expected, rtol=torch.finfo(dtype).eps, atol=0.01)


@dtypes
@equations
def test_features_at_the_end_of_float16(guide, dtype, name):
    """z~ is beyond it, and so is the result of some; those become the largest that it holds."""
    positive, negative = features(dtype)
    positive, negative = 60000 * positive.sign(), 60000 * negative.sign()
    largest = torch.finfo(dtype).max
    expected = exactly(positive, negative, 11.0, 2.5, 0.5, name=name)
    assert expected.abs().max() > 65504
    close(guide(positive, negative, 11.0, 2.5, 0.5, equation=name), expected.clamp(-largest, largest))


@pytest.mark.parametrize("name", ["nag", "orthogonal"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bfloat16", "float32"])
def test_a_negative_beyond_measure(guide, dtype, name):
    """z~ overflows even float32: the token is not guided, rather than lost."""
    positive, negative = features(dtype)
    negative[:, 2] = torch.finfo(dtype).max * torch.tensor([1.0, -1.0]).repeat(32)
    guided = guide(positive, negative, *NUMBERS, equation=name)
    close(guided[:, 2], 0.75 * positive[:, 2].double())


@dtypes
@equations
def test_tokens_without_features(guide, dtype, name):
    """Zero stays zero, as the cap demands, and harms no other token."""
    positive, negative = features(dtype)
    positive[0, 0] = 0
    positive[1, 1] = negative[1, 1] = 0
    guided = guide(positive, negative, *NUMBERS, equation=name)
    assert guided.isfinite().all()
    assert (guided[0, 0] == 0).all() or name == "nasa"
    assert (guided[1, 1] == 0).all()
    others = positive.abs().sum(-1) > 0
    close(guided[others], exactly(positive, negative, *NUMBERS, name=name)[others])


def test_extrapolation_to_zero(guide):
    """z~ vanishes for a negative that lies at (1 + s) / s times the positive."""
    positive, _ = features()
    close(guide(positive, positive * 1.5, 3.0, 2.5, 0.5), positive.double() * 0.5)


@dtypes
def test_a_bad_token_harms_no_other(guide, dtype):
    positive, negative = features(dtype)
    positive[0, 3, 5] = negative[1, 4, 6] = torch.nan
    guided = guide(positive, negative, *NUMBERS)
    assert guided[0, 3, 5].isnan() and guided[1, 4, 6].isnan()
    guided[0, 3] = guided[1, 4] = positive[0, 3] = positive[1, 4] = 1
    negative[0, 3] = negative[1, 4] = 1
    assert guided.isfinite().all()


OFF = {"scale 1": (1.0, 2.5, 0.5), "alpha 0": (5.0, 2.5, 0.0)}


@dtypes
@pytest.mark.parametrize(("name", "why"), [(name, why) for name in EQUATIONS for why in OFF if name != "nasa"])
def test_off(guide, dtype, name, why):
    positive, negative = features(dtype)
    negative[0, 0] = torch.nan
    as_it_was, off = positive.clone(), {"equation": name}
    assert guide(positive, negative, *OFF[why], **off) is positive
    assert guide(positive, negative, *OFF[why], out=positive, **off) is positive
    out = torch.empty_like(positive)
    assert guide(positive, negative, *OFF[why], out=out, **off) is out
    assert torch.equal(positive, as_it_was) and torch.equal(out, as_it_was)


def test_what_has_no_alpha_goes_by_scale_alone(guide):
    positive, negative = features()
    assert guide(positive, negative, 1.0, 2.5, 0.5, equation="nasa") is positive
    found = guide(positive, negative, 3.0, 2.5, 0.0, equation="nasa")
    close(found, exactly(positive, negative, 3.0, 2.5, 0.0, name="nasa"))


def test_arguments_are_left_alone(guide):
    positive, negative = features()
    copies = positive.clone(), negative.clone()
    guide(positive, negative, *NUMBERS)
    assert torch.equal(positive, copies[0]) and torch.equal(negative, copies[1])


@pytest.mark.usefixtures("nothing_compiled")
@equations
def test_compiled_once_for_all_numbers(equation, name):
    positive, negative = features()
    compiled = torch.compile(lambda nag: nag(positive, negative), backend="eager", fullgraph=True)
    for numbers in [(4.0, 1.5, 0.5), (1.2, 1.0, 1.0), (11.0, 2.5, 0.25)]:
        nag = equation.Equation(*numbers, on_device=tuple(map(torch.tensor, (*numbers, 0.0))), name=name)
        assert nag.numbers == numbers
        close(compiled(nag), exactly(positive, negative, *numbers, name=name))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@dtypes
@equations
def test_gradients(equation, dtype, name):
    positive, negative = (t.requires_grad_() for t in features(dtype))
    equation.guide(positive, negative, *NUMBERS, equation=name).float().square().sum().backward()
    exact = [t.detach().double().requires_grad_() for t in (positive, negative)]
    exactly(*exact, *NUMBERS, name=name).square().sum().backward()
    for found, expected in zip((positive, negative), exact):
        torch.testing.assert_close(found.grad.double(), expected.grad, rtol=0.05, atol=0.1)


@pytest.mark.parametrize("into", ["a new tensor", "the positive"])
def test_compiled(equation, into):
    """In one graph, which is the plain expression: no chunks, nothing read back."""
    positive, negative = features()
    expected = exactly(positive, negative, *NUMBERS)
    out = {} if into == "a new tensor" else {"out": positive}
    graphs = []
    backend = lambda graph, _: graphs.append(graph) or graph.forward
    compiled = torch.compile(lambda z_pos, z_neg: equation.guide(z_pos, z_neg, *NUMBERS, **out), backend=backend)
    close(compiled(positive, negative), expected)
    (graph,) = graphs
    assert not any("split" in str(node.target) for node in graph.graph.nodes)
    torch._dynamo.reset()


def test_inference_mode(guide, inference_mode):
    positive, negative = features()
    close(guide(positive, negative, *NUMBERS, out=positive.clone()), exactly(positive, negative, *NUMBERS))


def test_the_cpu_does_without_triton(equation, interpreter, monkeypatch):
    """Also once the kernels were imported for the interpreter."""
    assert equation.kernels_for(torch.ones(1)) is interpreter
    monkeypatch.delenv("TRITON_INTERPRET")
    assert equation.kernels_for(torch.ones(1)) is None


class Elsewhere:
    """As much of a tensor as the choice of kernels asks for."""

    def __init__(self, kind, dtype=torch.float16):
        self.device, self.dtype = torch.device(kind, 0), dtype


def test_devices_with_triton(equation, monkeypatch):
    monkeypatch.setattr(equation, "load_kernels", lambda device, dtype: (device, dtype))
    for kind in ("cuda", "xpu"):
        assert equation.kernels_for(Elsewhere(kind)) == (torch.device(kind, 0), torch.float16)
        assert equation.kernels_for(Elsewhere(kind, torch.float64)) is None
    for kind in ("mps", "meta", "privateuseone"):
        assert equation.kernels_for(Elsewhere(kind)) is None


def broken_import(name, package):
    raise OSError("libtriton.so: undefined symbol")


def kernels_that_do_not_compile(name, package):
    class Kernels:
        def guide(*args):
            raise RuntimeError("Failed to find C compiler")

    return Kernels()


@pytest.mark.parametrize("import_module", [broken_import, kernels_that_do_not_compile])
def test_a_broken_triton(equation, monkeypatch, caplog, import_module):
    """Guidance goes on without, and tells only who asks."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(importlib, "import_module", import_module)
    equation.load_kernels.cache_clear()
    positive, negative = features()
    with caplog.at_level(logging.DEBUG):
        for _ in range(2):
            close(equation.guide(positive, negative, *NUMBERS), exactly(positive, negative, *NUMBERS))
    (record,) = [record for record in caplog.records if "Triton" in record.message]
    assert record.levelno == logging.DEBUG and record.exc_info
    equation.load_kernels.cache_clear()


def test_triton_is_not_imported_in_vain(equation, monkeypatch):
    monkeypatch.setattr(equation, "load_kernels", lambda *args: pytest.fail("there is no device for it"))
    equation.guide(*features(), *NUMBERS)
