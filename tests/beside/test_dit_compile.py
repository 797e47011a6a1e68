"""torch.compile of a transformer as other packs use it: block by block, in one graph, as a patch of the model."""
import pytest
import torch
from comfy_api.torch_helpers import set_torch_compile_wrapper
from torch._dynamo.utils import counters

from dit_others import own_patcher
from families import BY_NAME
from runs import Run, assert_close
from subject import out

pytestmark = pytest.mark.usefixtures("nothing_compiled", "inference_mode")
BLOCKS = {
    "sd35_large": ["joint_blocks"],
    "flux_dev": ["double_blocks", "single_blocks"],
    "wan21_t2v": ["blocks"],
}
DITS = [("sd35_large", "shared"), ("flux_dev", "shared"), ("flux_dev", "separate"), ("wan21_t2v", "shared")]


def blocks_of(patcher, name):
    net = patcher.model.diffusion_model
    return [f"diffusion_model.{blocks}.{i}" for blocks in BLOCKS[name] for i in range(len(getattr(net, blocks)))]


def without_options(guards):
    """As ComfyUI's own node has it: no guard looks into transformer_options."""
    return ["transformer_options" not in guard.name for guard in guards]


def by_wrapper(fullgraph, options, whole):
    def compiled(patcher, name):
        patched = patcher.clone()
        keys = ["diffusion_model"] if whole else blocks_of(patcher, name)
        set_torch_compile_wrapper(patched, backend="eager", options=options, fullgraph=fullgraph, keys=keys)
        return patched

    return compiled


def by_object_patches(patcher, name):
    patched = patcher.clone()
    for key in blocks_of(patcher, name):
        patched.add_object_patch(key, torch.compile(patched.get_model_object(key), backend="eager"))
    return patched


def whole_by_object_patch(patcher, name):
    patched = patcher.clone()
    model = torch.compile(patched.get_model_object("diffusion_model"), backend="eager")
    patched.add_object_patch("diffusion_model", model)
    return patched


UNGUARDED = {"guard_filter_fn": without_options}
WAYS = {
    "blocks": by_wrapper(False, {}, False),
    "blocks, few guards": by_wrapper(False, UNGUARDED, False),
    "blocks, in one graph": by_wrapper(True, UNGUARDED, False),
    "blocks, as patches": by_object_patches,
    "whole, in one graph": by_wrapper(True, UNGUARDED, True),
    "whole, as a patch": whole_by_object_patch,
}


CASES = [
    *[("flux_dev", "shared", way) for way in WAYS],
    *[(*dit, "blocks, few guards") for dit in DITS if dit != ("flux_dev", "shared")],
    ("sd35_large", "shared", "whole, in one graph"),
]  # one of a kind in every way; the others where the fewest guards help


@pytest.mark.parametrize(("name", "stream", "way"), CASES)
def test_never_a_graph_of_something_else(nodes, name, stream, way):
    """The model sees ten text tokens each time, with and without NAG."""

    def guided(patcher, nag_scale=4.0):
        options = out(nodes.NAGOptions, 0.0, 1.0, stream)
        return out(nodes.NAGModel, patcher, nag_scale=nag_scale, nag_tau=1.5, nag_alpha=0.5, options=options)

    family = BY_NAME[name]
    patcher = own_patcher(family)
    ten, six, four = (Run(family, steps=2, positive_tokens=n, negative_tokens=10 - n) for n in (10, 6, 4))
    compiled = WAYS[way](patcher, name)
    for run, change in [
        (ten, lambda patcher: patcher),
        (six, guided),
        (six, lambda patcher: guided(patcher, nag_scale=7.0)),
        (four, guided),
        (ten, lambda patcher: patcher),
    ]:
        assert_close(run.sample(change(compiled)), run.sample(change(patcher)))
    assert_close(six.sample(WAYS[way](guided(patcher), name)), six.sample(guided(patcher)))
    assert counters["stats"]["unique_graphs"] > 0
