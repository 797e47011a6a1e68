"""Lets the CUDA build of torchvision import on a CPU build of torch.

Its C++ library would declare the operators that its Python files refer to; without it they are declared here, as bare
schemas with no kernels. ComfyUI only needs the import to succeed. The host's environment runs `install()` at start-up.
"""
import importlib.abc
import sys

_ROI = "Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width"
_GRAD = (
    "Tensor grad, Tensor rois, {extra}float spatial_scale, SymInt pooled_height, SymInt pooled_width, {tail}"
    "SymInt batch_size, SymInt channels, SymInt height, SymInt width"
)
_DEFORM = (
    "Tensor weight, Tensor offset, Tensor mask, Tensor bias, SymInt stride_h, SymInt stride_w, SymInt pad_h, "
    "SymInt pad_w, SymInt dilation_h, SymInt dilation_w, SymInt groups, SymInt offset_groups, bool use_mask"
)
SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    f"roi_align(Tensor input, {_ROI}, int sampling_ratio, bool aligned) -> Tensor",
    f"qroi_align(Tensor input, {_ROI}, int sampling_ratio, bool aligned) -> Tensor",
    f"ps_roi_align(Tensor input, {_ROI}, int sampling_ratio) -> (Tensor, Tensor)",
    f"roi_pool(Tensor input, {_ROI}) -> (Tensor, Tensor)",
    f"ps_roi_pool(Tensor input, {_ROI}) -> (Tensor, Tensor)",
    f"_roi_align_backward({_GRAD.format(extra='', tail='')}, int sampling_ratio, bool aligned) -> Tensor",
    f"_ps_roi_align_backward({_GRAD.format(extra='Tensor channel_mapping, ', tail='int sampling_ratio, ')}) -> Tensor",
    f"_roi_pool_backward({_GRAD.format(extra='Tensor argmax, ', tail='')}) -> Tensor",
    f"_ps_roi_pool_backward({_GRAD.format(extra='Tensor channel_mapping, ', tail='')}) -> Tensor",
    f"deform_conv2d(Tensor input, {_DEFORM}) -> Tensor",
    f"_deform_conv2d_backward(Tensor grad, Tensor input, {_DEFORM}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)


class _Finder(importlib.abc.MetaPathFinder):
    """Declares the operators just before torchvision is first imported, so that other programs pay nothing."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            _libraries.append(declare())
        return None


_libraries = []  # a Library takes its operators with it when it is collected


def declare():
    """Declare every operator that is not there yet."""
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in SCHEMAS:
        if not hasattr(torch.ops.torchvision, schema.split("(")[0]):
            library.define(schema)
    return library


def install():
    """Idempotent, because a virtual environment's .pth files run twice."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
