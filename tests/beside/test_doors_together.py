"""Several other nodes at once on a model whose negative waits at the doors: a LoRA, an attention, patches, compiled."""
import pytest
import torch
from torch._dynamo.utils import counters

from compiling import compiled
from door_families import BY_NAME
from doors_others import exactly
from oracle.equation import Nag
from oracle.sampling import guided_by
from other_nodes import in_turn, patched_by
from runs import Run, assert_close
from stored import patcher_of, weights_of
from subject import model_node

pytestmark = pytest.mark.usefixtures("inference_mode", "nothing_compiled")


def other_weights(patcher):
    """As a LoRA changes them: when the model is loaded."""
    torch.manual_seed(5)
    weights = dict(patcher.model.diffusion_model.named_parameters())
    changes = {
        name: 0.3 * torch.randn_like(weight) * weight.std() for name, weight in weights.items() if weight.ndim == 2
    }
    patched = patcher.clone()
    patched.add_patches({f"diffusion_model.{name}": ("diff", (change,)) for name, change in changes.items()})
    return patched


def brighter(given):
    given["img"] *= 1.05
    return given


def warmer(func, q, *args, **kwargs):
    """Where text and image meet."""
    return func(q * 0.8 if max(q.shape[1], q.shape[-2]) >= 24 else q, *args, **kwargs)


def overriding(patcher):
    patched = patcher.clone()
    patched.model_options["transformer_options"]["optimized_attention_override"] = warmer
    return patched


OTHERS = in_turn(
    other_weights,
    overriding,
    *(patched_by("set_model_patch", brighter, name) for name in ("post_input", "double_block")),
)


COMPILED = ("chroma", "ltxv")  # joint attention, and cross-attention


@pytest.mark.parametrize("name", ["lumina2", "chroma", "qwen_image", "ltxv"])
def test_all_together(nodes, name):
    family = BY_NAME[name]
    run = Run(family, cfg=3.0, steps=4)
    patcher = OTHERS(patcher_of(family, weights_of(family), torch.float32))
    nag = Nag(family.conditioning(11, 5), end_percent=0.6)
    expected = run.sample(exactly(family, patcher), guided_by(run.positive, nag))
    guided = model_node(nodes, patcher, nag, nag_negative=nag.negative)
    assert_close(run.sample(guided), expected)
    if name in COMPILED:
        assert_close(run.sample(compiled(guided)), expected)
        assert counters["stats"]["unique_graphs"] > 0
