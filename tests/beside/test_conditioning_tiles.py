"""Nodes that cut the latent into tiles, and call the model with some of them at a time, as Tiled Diffusion does."""
import pytest
import torch
from comfy.utils import repeat_to_batch_size

from families import BY_NAME
from oracle.equation import Nag
from oracle.sampling import guided_by
from other_nodes import every_order, patched_by
from runs import Run, assert_close, difference
from subject import conditioning_node, model_node

pytestmark = pytest.mark.usefixtures("inference_mode")

UNET, DIT, VIDEO = (BY_NAME[name] for name in ("sdxl", "flux_schnell", "wan21_t2v"))
every_family = pytest.mark.parametrize("family", [UNET, DIT, VIDEO], ids=str)
TILE, STRIDE = 4, 2  # columns: the tiles overlap


class Tiles:
    """A model_function_wrapper. What the model gets for all rows is repeated for each tile of a call, if a tensor."""

    def __init__(self, tiles_a_call):
        self.tiles_a_call = tiles_a_call

    def __call__(self, apply_model, args):
        x, t, c = args["input"], args["timestep"], args["c"]
        total, weights = torch.zeros_like(x), torch.zeros_like(x)
        starts = list(range(0, x.shape[-1] - TILE + 1, STRIDE))
        for first in range(0, len(starts), self.tiles_a_call):
            windows = [(..., slice(start, start + TILE)) for start in starts[first : first + self.tiles_a_call]]
            tiles = torch.cat([x[window] for window in windows])
            rows = len(tiles)
            repeated = {name: repeat_to_batch_size(v, rows) if torch.is_tensor(v) else v for name, v in c.items()}
            denoised = apply_model(tiles, repeat_to_batch_size(t, rows), **repeated)
            for window, tile in zip(windows, denoised.chunk(len(windows))):
                total[window] += tile
                weights[window] += 1
        return total / weights


def wrapped_by(wrapper):
    return patched_by("set_model_unet_function_wrapper", wrapper)


@every_family
@every_order
@pytest.mark.parametrize("tiles_a_call", [1, 2])
@pytest.mark.parametrize("changes", [{"cfg": 3.0, "batch": 2, "negative_tokens": 6}, {}], ids=["cfg 3", "cfg 1"])
def test_tiles(nodes, family, order, tiles_a_call, changes):
    """The last call has one tile only. A UNet's calls hold guided rows and others, tile by tile."""
    run, patcher, change = Run(family, **changes), family.patcher(), wrapped_by(Tiles(tiles_a_call))
    nag = Nag(family.conditioning(11, 5))
    model, positive = order(nodes, patcher, run.positive, nag, change)
    assert_close(run.sample(model, positive), run.sample(change(run.exact(patcher)), guided_by(run.positive, nag)))


@every_family
def test_tiles_of_two_prompts(nodes, family):
    run, patcher, change = Run(family, cfg=3.0, batch=2), family.patcher(), wrapped_by(Tiles(2))
    positives = [family.conditioning(seed, 6) for seed in (21, 22)]
    nags = [Nag(family.conditioning(seed, 5)) for seed in (31, 32)]
    ours = [conditioning_node(nodes, *each) for each in zip(positives, nags)]
    exact = [guided_by(*each) for each in zip(positives, nags)]
    result = run.sample(change(patcher), ours[0] + ours[1])
    assert_close(result, run.sample(change(run.exact(patcher)), exact[0] + exact[1]))


def picture_by_picture(apply_model, args):
    """Without the means to give each of our rows to its picture."""
    x, t, c = args["input"], args["timestep"], args["c"]
    of_row = lambda i: {name: v[i : i + 1] if torch.is_tensor(v) else v for name, v in c.items()}
    return torch.cat([apply_model(x[i : i + 1], t[i : i + 1], **of_row(i)) for i in range(len(x))])


@every_family
@every_order
def test_batch_that_another_node_splits(nodes, family, order):
    run, patcher = Run(family, batch=2), family.patcher()
    nag = Nag(family.conditioning(11, 5))
    model, positive = order(nodes, patcher, run.positive, nag, wrapped_by(picture_by_picture))
    with pytest.raises(ValueError, match="2 into a batch.*with 1 rows"):
        run.sample(model, positive)


@every_family
def test_split_batch_where_nag_has_ended(nodes, family):
    """Where NAG does not act, other nodes may do as they please."""
    run, patcher = Run(family, batch=2, denoise=0.3), family.patcher()
    change = wrapped_by(picture_by_picture)
    nag = Nag(family.conditioning(11, 5), end_percent=0.1)
    result = run.sample(model_node(nodes, change(patcher), nag, nag_negative=nag.negative))
    assert difference(result, run.sample(change(patcher))) == 0
