"""NAG in models whose weights are spread over processes by PyTorch's FSDP, in its newer form and in its older one."""
import functools
import importlib
import sys
from pathlib import Path
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch.nn import Module, ModuleList

TESTS = Path(__file__).resolve().parent.parent
sys.path += [str(TESTS), str(TESTS.parent)]

from host.environment import ROOT  # noqa: E402
from host.inside import COMFYUI, load_pack, start_comfyui  # noqa: E402

start_comfyui(COMFYUI, "--base-directory", str(ROOT / "tests"))  # before anything imports a part of ComfyUI
PACK = load_pack().__name__

from mechanisms import BY_NAME  # noqa: E402
from runs import Run  # noqa: E402
from stored import patcher_of, weights_of  # noqa: E402


def part(name):
    return importlib.import_module(f"{PACK}.patches.{name}")


def by_module(net):
    """`fully_shard` on each module that holds weights, from the bottom up, as Raylight applies it."""
    from torch.distributed.fsdp import fully_shard

    for module in reversed([*net.modules()]):
        if type(module).forward is not Module.forward and any(True for _ in module.parameters()):
            fully_shard(module, mesh=mesh(), reshard_after_forward=True)
    return net


def by_block(net):
    """`fully_shard` on each block, and on the model for what is left."""
    from torch.distributed.fsdp import fully_shard

    for blocks in lists_of(net):
        for block in blocks:
            fully_shard(block, mesh=mesh())
    return fully_shard(net, mesh=mesh())


def around_blocks(net, use_orig_params):
    """`FullyShardedDataParallel` around each block, and around the model."""
    from torch.distributed.fsdp import FullyShardedDataParallel

    around = functools.partial(
        FullyShardedDataParallel, device_id=torch.device("cpu"), use_orig_params=use_orig_params
    )
    for blocks in lists_of(net):
        for number, block in enumerate(blocks):
            blocks[number] = around(block)
    return around(net)


def mesh():
    return dist.device_mesh.init_device_mesh("cpu", (dist.get_world_size(),))


def lists_of(net):
    return [module for module in net.children() if isinstance(module, ModuleList)]


def run(family, shard, stream="shared"):
    """A run with NAG, one without, and one with it again: those of a process that has all weights itself."""
    sharded = patcher_of(family, weights_of(family), torch.float32)
    net = sharded.model.diffusion_model = shard(sharded.model.diffusion_model)
    assert n_weights(net) < n_weights(family.patcher().model.diffusion_model)
    of_run = Run(family, cfg=2.0, steps=2)
    options = part("settings").Options(image_stream=stream)
    request = part("sampling.request").Request(part("settings").Settings(options=options), of_run.negative, None)
    guided = part("sampling.entry").guide_conditioning(of_run.positive, request)
    with torch.no_grad():  # as Raylight samples
        with_nag, without = (of_run.sample(family.patcher(), positive) for positive in (guided, None))
        found = [of_run.sample(sharded, positive) for positive in (guided, None, guided)]
    assert not torch.equal(with_nag, without)
    assert [torch.equal(picture, alone) for picture, alone in zip(found, (with_nag, without, with_nag))] == [True] * 3


def undeclared(family, shard):
    """The same in a model that NAG has to look into first."""
    with patch.object(part("models"), "REGISTRY", {}):
        run(family, shard)


def n_weights(net):
    """How many this process has."""
    return sum(getattr(weights, "_local_tensor", weights).numel() for weights in net.parameters())


def cases(ranks):
    """By name: the tiny Flux in all ways, and more in the one that is hardest on hooks."""
    ways = {
        "each module": by_module,
        "each block": by_block,
        "around blocks": functools.partial(around_blocks, use_orig_params=False),
        "around blocks, parameters kept": functools.partial(around_blocks, use_orig_params=True),
    }
    flux = BY_NAME["flux_dev"]
    found = {f"{way}, {flux}": functools.partial(run, flux, shard) for way, shard in ways.items()}
    others = [BY_NAME[name] for name in ("wan21_i2v", "hidream_without_experts", "pixart_sigma")]
    found |= {f"each module, {family}": functools.partial(run, family, by_module) for family in others}
    found["each module, separate streams"] = functools.partial(run, flux, by_module, "separate")
    return found | {"each module, undeclared": functools.partial(undeclared, BY_NAME["chroma"], by_module)}
