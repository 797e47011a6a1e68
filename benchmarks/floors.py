"""How many floating-point operations a step takes: counted on the meta device, and the least that NAG adds, by formula.

With N image tokens, T tokens of the negative, width d, text width c, per block and with 2 m n k operations for a
product of matrices, the least is:

    joint (Flux, SD3.5)   24 d^2 T       the negative's projections and MLP, 12 d^2 weights in either kind of block
                        + 4 d T (T + N)  the negative's attention to itself and the image
                        + 4 d N T        the image's attention to the negative; to the image it has attended once
    cross (SDXL, Wan)      4 w d T       the negative's keys and values; w is c in SDXL, d in Wan
                        + 4 d N T        the image's attention to the negative

and once the embedding of the negative's text: 2 c d T (joint), 2 (c + d) d T (Wan). SD3.5's last block takes only the
text's queries, keys and values: 6 d^2 T in place of 24. The equation itself, the merge, norms and modulations are no
products of matrices and count nothing, here as in PyTorch's counter.
"""
import itertools
import math
from unittest import mock

import comfy.model_management
import comfy.sampler_helpers
import comfy.samplers
import torch
from torch.utils import flop_counter

from .models import build

META = torch.device("meta")


def least(size):
    """The operations that NAG adds to a step at the least."""
    config, text, width = size.config, size.text, size.text_width
    image = math.prod(size.latent[1:]) // 4  # patches of 2x2
    if size.family == "sdxl":
        return sum(blocks * 4 * d * text * (width + tokens) for blocks, d, tokens in _unet_levels(size))
    if size.family == "wan":
        d = config["dim"]
        return config["num_layers"] * 4 * d * text * (d + image) + 2 * (width + d) * d * text
    if size.family == "flux":
        d, blocks, saved = config["hidden_size"], config["depth"] + config["depth_single_blocks"], 0
    else:
        d, blocks = 64 * config["depth"], config.get("num_blocks") or config["depth"]
        saved = 18 * d * d * text
    return blocks * (24 * d * d * text + 4 * d * text * (text + 2 * image)) + 2 * width * d * text - saved


def _unet_levels(size):
    """(transformer blocks, width, image tokens) of each resolution."""
    config = size.config
    inputs, outputs = iter(config["transformer_depth"]), list(config["transformer_depth_output"])
    for level, multiplier in enumerate(config["channel_mult"]):
        count = config["num_res_blocks"][level]
        blocks = sum(next(inputs) for _ in range(count))
        blocks += sum(outputs.pop(0) for _ in range(count + 1))
        if level == len(config["channel_mult"]) - 1:
            blocks += config["transformer_depth_middle"]
        tokens = math.prod(math.ceil(side / 2**level) for side in size.latent[1:])
        yield blocks, config["model_channels"] * multiplier, tokens


def count(size, methods):
    """The operations of one step of each method, by key; of those only that sample with ComfyUI's guider."""
    patcher = build(size, torch.bfloat16, META)
    counted = {}
    for method in methods:
        if method.steps:  # acts at some sigmas only, and sigmas are values
            continue
        try:
            guider = method.guider(patcher, size)
        except Exception:  # the timing says why
            continue
        if type(guider) is comfy.samplers.CFGGuider:
            with flop_counter.FlopCounterMode(display=False, custom_mapping=CPU_KERNEL) as counter:
                one_call(guider, size)
            counted[method.key] = counter.get_total_flops()
    return counted


def _attention(q, k, v, *args, out_shape=None, **more):
    return flop_counter.sdpa_flop_count(q, k, v)


# PyTorch's counter does not know the attention that is NAG's on the meta device.
CPU_KERNEL = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}


class _OneCall:
    """A sampler that calls the model once."""

    def sample(self, model, sigmas, extra_args, callback, noise, *rest):
        return model(noise, torch.ones(1, device=noise.device), **extra_args)


def one_call(guider, size):
    """One step of a guider on the meta device, as CFGGuider goes about it, less what asks for values or memory."""
    patcher = guider.model_patcher
    guider.inner_model = patcher.model
    for entry in itertools.chain(*guider.original_conds.values()):
        entry["cross_attn"] = entry["cross_attn"].to(META)  # from there nothing could be copied back to the CPU
    guider.conds = {name: [entry.copy() for entry in entries] for name, entries in guider.original_conds.items()}
    comfy.sampler_helpers.prepare_model_patcher(patcher, guider.conds, guider.model_options)
    patcher.model.current_patcher = patcher
    noise = torch.empty(1, *size.latent, device=META)
    with torch.inference_mode(), mock.patch.object(comfy.model_management, "get_free_memory", lambda *_: 1 << 60):
        guider.inner_sample(noise, None, META, _OneCall(), torch.ones(2), None, None, True, 0)
