"""The families' models with their weights stored in other forms than float32, as ComfyUI's loaders make them.

Each function gives two ModelPatchers: that model, and one that holds in float32 what its layers compute with.
"""
import json
from unittest.mock import patch

import comfy.model_patcher
import comfy.ops
import comfy.supported_models_base
import pytest
import torch

CPU = torch.device("cpu")
FP8 = torch.float8_e4m3fn


def rounded(family, weights, compute=None):
    """Weights of dtype `weights`, which each layer casts to `compute`, or computes with as they are."""
    state = {name: value.to(weights) for name, value in weights_of(family).items()}
    return patcher_of(family, state, weights, compute), in_float32(family, state)


def packed(family, compute):
    """Linear layers with a class from outside of ComfyUI: see Packed."""
    patcher = patcher_of(family, weights_of(family), compute, compute, Packed)
    return patcher, in_float32(family, patcher.model.diffusion_model.state_dict())


def scaled_fp8(family, compute):
    """Linear layers of 8-bit floats, and a scale for each one's weights, in ComfyUI's older form."""
    if not hasattr(comfy.ops, "scaled_fp8_ops"):
        pytest.skip("this ComfyUI takes scaled fp8 by its mixed precision")
    state, values = _scaled(family, "scale_weight")
    operations = comfy.ops.scaled_fp8_ops(override_dtype=FP8)
    return patcher_of(family, state, compute, compute, operations), in_float32(family, values)


def mixed_precision(family, compute):
    """The same in its newer form: each layer says how it is quantised, and the weights are QuantizedTensors."""
    if not hasattr(comfy.ops, "mixed_precision_ops"):
        pytest.skip("this ComfyUI has no mixed precision")
    state, values = _scaled(family, "weight_scale")
    of_each = {name.removesuffix(".weight_scale"): {"format": "float8_e4m3fn"} for name in state.keys() - values.keys()}
    operations = comfy.ops.mixed_precision_ops(of_each, compute, full_precision_mm=True)
    for name, form in of_each.items():  # where newer ComfyUI looks for it
        state[f"{name}.comfy_quant"] = torch.tensor(list(json.dumps(form).encode()), dtype=torch.uint8)
    return patcher_of(family, state, compute, compute, operations), in_float32(family, values)


def _scaled(family, name_of_scale):
    """The state of a model of 8-bit linear layers, and what it stands for in float32."""
    values = weights_of(family)
    state = dict(values)
    for name, module in family.patcher().model.diffusion_model.named_modules():
        if isinstance(module, torch.nn.Linear):
            weight, scale = values[f"{name}.weight"], values[f"{name}.weight"].abs().max() / 448
            state[f"{name}.weight"], state[f"{name}.{name_of_scale}"] = (weight / scale).to(FP8), scale
            values[f"{name}.weight"] = state[f"{name}.weight"].float() * scale
            if module.bias is not None:
                state[f"{name}.bias"] = values[f"{name}.bias"] = values[f"{name}.bias"].to(FP8).float()
    return state, values


def weights_of(family):
    return family.patcher().model.diffusion_model.state_dict()


def in_float32(family, state):
    return patcher_of(family, {name: value.float() for name, value in state.items()}, torch.float32)


def patcher_of(family, state, weights, compute=None, operations=None, patcher=comfy.model_patcher.ModelPatcher):
    """A ModelPatcher of the family's model with this state.

    Args:
        weights, compute: the dtypes that a loader decides on.
        operations: the layers' classes, where ComfyUI is not to choose them.
        patcher: the ModelPatcher's class.
    """
    told = {"manual_cast_dtype": compute, "custom_operations": operations}
    with patch.multiple(comfy.supported_models_base.BASE, **told):  # what a loader tells each configuration
        model = family.build(weights)
    model.diffusion_model.load_state_dict(state, strict=False)
    return patcher(model.requires_grad_(False), load_device=CPU, offload_device=CPU)


class Packed(comfy.ops.manual_cast):
    """Operations whose linear layers keep 8-bit blocks and scales, and unpack them at each call, as GGUF's do."""

    BLOCK = 4  # numbers a scale

    class Linear(comfy.ops.manual_cast.Linear):
        def __init__(self, in_features, out_features, bias=True, device=None, dtype=None):
            torch.nn.Module.__init__(self)
            self.in_features, self.out_features = in_features, out_features
            self.weight = self.bias = None

        def _load_from_state_dict(self, state, prefix, *_):
            blocks = state[f"{prefix}weight"].unflatten(1, (-1, Packed.BLOCK))
            self.scale = blocks.abs().amax(-1, keepdim=True) / 127
            quantised = (blocks / self.scale).round().to(torch.int8).flatten(1)
            self.weight = torch.nn.Parameter(quantised, requires_grad=False)
            if f"{prefix}bias" in state:
                self.bias = torch.nn.Parameter(state[f"{prefix}bias"].clone(), requires_grad=False)

        def _save_to_state_dict(self, destination, prefix, keep_vars):
            destination[f"{prefix}weight"] = self.unpacked()
            if self.bias is not None:
                destination[f"{prefix}bias"] = self.bias

        def unpacked(self):
            return (self.weight.unflatten(1, (-1, Packed.BLOCK)) * self.scale).flatten(1)

        def forward_comfy_cast_weights(self, x):
            bias = None if self.bias is None else self.bias.to(x)
            return torch.nn.functional.linear(x, self.unpacked().to(x), bias)
