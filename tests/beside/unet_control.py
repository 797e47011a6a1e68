"""ControlNets for the tiny UNets, and the node that applies them."""
import comfy.controlnet
import torch
from comfy.cldm.cldm import ControlNet

from stock import stock
from unet_weights import randomised

CPU = torch.device("cpu")
HINT = torch.rand(1, 48, 80, 3, generator=torch.Generator().manual_seed(51))


def unet_config(family):
    return family.patcher().model.model_config.unet_config


def control_model(family):
    config = {key: value for key, value in unet_config(family).items() if key != "out_channels"}
    return randomised(ControlNet(**config, hint_channels=3), 52)


def controlnet(family):
    return comfy.controlnet.ControlNet(control_model(family), load_device=CPU)


def apply_advanced(control, positive, negative, start=0.0, end=1.0):
    range_ = {"start_percent": start, "end_percent": end}
    given = {"positive": positive, "negative": negative, "control_net": control, "image": HINT, "strength": 0.8}
    return stock("ControlNetApplyAdvanced", **given, **range_)
