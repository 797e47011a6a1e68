"""The equation against the oracle's, in every dtype and at its edges."""
import pytest
import torch

from oracle.equation import Nag
from oracle.equation import guide as exact_guide
from subject import patches_fixture  # noqa: F401

DTYPES = [torch.float16, torch.bfloat16, torch.float32]
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).split(".")[1])


@pytest.fixture
def guide(patches):
    return patches("equation").guide


def features(dtype=torch.float32, width=64, magnitude=1.0):
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(2, 9, width, generator=generator) * magnitude).to(dtype) for _ in range(2)]


def exactly(positive, negative, *numbers):
    return exact_guide(positive.double(), negative.double(), Nag([], *numbers))


@dtypes
@pytest.mark.parametrize(
    "numbers", [(5.0, 2.5, 0.25), (3.0, 1.0, 1.0), (11.0, 4.0, 0.5), (0.0, 2.5, 0.5), (1.5, 10.0, 0.1)]
)
def test_equation(guide, dtype, numbers):
    positive, negative = features(dtype)
    guided = guide(positive, negative, *numbers)
    assert guided.dtype == dtype
    torch.testing.assert_close(guided, exactly(positive, negative, *numbers).to(dtype))


def test_features_that_need_the_cap_and_others(guide):
    positive, negative = features()
    negative[:, :4] = positive[:, :4] * 1.01
    numbers = (4.0, 1.5, 1.0)
    norm = lambda z: z.abs().sum(-1)
    ratio = norm(guide(positive, negative, *numbers)) / norm(positive)
    torch.testing.assert_close(ratio[:, 4:], torch.full_like(ratio[:, 4:], 1.5))  # capped
    assert (ratio[:, :4] < 1.1).all()
    torch.testing.assert_close(guide(positive, negative, *numbers), exactly(positive, negative, *numbers).float())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_wan_features_do_not_overflow(guide, dtype):
    """The L1 norm of these is 80 times what float16 can hold."""
    positive, negative = features(dtype, width=5120, magnitude=1000.0)
    guided = guide(positive, negative, 11.0, 2.5, 0.25)
    assert guided.isfinite().all()
    expected = exactly(positive, negative, 11.0, 2.5, 0.25).to(dtype)
    torch.testing.assert_close(guided, expected, rtol=torch.finfo(dtype).eps, atol=0.01)


@dtypes
def test_tokens_without_features(guide, dtype):
    """Zero stays zero, as the cap demands, and harms no other token."""
    positive, negative = features(dtype)
    positive[0, 0] = 0
    positive[1, 1] = negative[1, 1] = 0
    guided = guide(positive, negative, 5.0, 2.5, 0.25)
    assert guided.isfinite().all()
    assert (guided[0, 0] == 0).all() and (guided[1, 1] == 0).all()
    others = positive.abs().sum(-1) > 0
    torch.testing.assert_close(guided[others], exactly(positive, negative, 5.0, 2.5, 0.25).to(dtype)[others])


def test_extrapolation_to_zero(guide):
    """z~ vanishes for a negative that lies at (1 + s) / s times the positive."""
    positive, _ = features()
    guided = guide(positive, positive * 1.5, 3.0, 2.5, 0.5)
    torch.testing.assert_close(guided, positive * 0.5)


@dtypes
@pytest.mark.parametrize("numbers", [(1.0, 2.5, 0.5), (5.0, 2.5, 0.0)], ids=["scale 1", "alpha 0"])
def test_off(guide, dtype, numbers):
    positive, negative = features(dtype)
    negative[0, 0] = float("nan")
    assert torch.equal(guide(positive, negative, *numbers), positive)


def test_arguments_are_left_alone(guide):
    positive, negative = features()
    copies = positive.clone(), negative.clone()
    guide(positive, negative, 5.0, 2.5, 0.25)
    assert torch.equal(positive, copies[0]) and torch.equal(negative, copies[1])
