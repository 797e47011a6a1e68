"""The model that a file would become, without its weights: ComfyUI's own, with tensors that have a shape only."""
import json
import logging
import math
import os
import threading
from contextlib import contextmanager
from functools import lru_cache

import comfy.model_detection
import comfy.model_patcher
import comfy.ops
import comfy.utils
import folder_paths
import torch

from ..nodes.playground import FIRST, NETWORKS
from ..patches.sampling.notices import UNREADABLE
from .graph import Graph, Node, Unreadable

SMALL = 4096  # elements; values that a model's kind depends on are in tensors smaller than this
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
BROKEN = "broken"
META, CPU = torch.device("meta"), torch.device("cpu")


class Broken(Unreadable):
    """A file that ComfyUI does not know as a model; says so in a sentence."""


def load(loader: Node, graph: Graph) -> comfy.model_patcher.ModelPatcher:
    """What a loader node would give. Raises Unreadable if that can't be known from here, Broken if it gives nothing."""
    if loader.type == "NAGPlaygroundLoader":
        return playground(graph.value(loader, "model", FIRST))
    for name, folder in (("ckpt_name", "checkpoints"), ("unet_name", "diffusion_models")):
        if name in loader.inputs:
            path = _find(folder, graph.value(loader, name))
            model = path and from_file(path, os.stat(path).st_mtime_ns, is_checkpoint=folder == "checkpoints")
            if model is BROKEN and loader.stock:  # others may read what ComfyUI does not
                raise Broken(UNREADABLE.format(graph.value(loader, name), loader.named))
            if model not in (None, BROKEN):
                return model
    raise Unreadable(f"the model of {loader.type} #{loader.id}")


def _find(folder, name):
    """The path of a safetensors file in one of ComfyUI's folders, and nowhere else; None if it is not there."""
    if name not in folder_paths.get_filename_list(folder) or not name.endswith((".safetensors", ".sft")):
        return None
    return folder_paths.get_full_path(folder, name)


@lru_cache(maxsize=len(NETWORKS))
def playground(model: str) -> comfy.model_patcher.ModelPatcher:
    """One of the playground's models, without weights. Raises Unreadable."""
    if model not in NETWORKS:
        raise Unreadable(f"the playground's {model}")
    from ..playground import networks

    return _patcher(networks.build_model(NETWORKS[model].removesuffix(" student"), META))


@lru_cache(maxsize=16)
def from_file(path: str, modified: int, is_checkpoint: bool) -> comfy.model_patcher.ModelPatcher | str | None:
    """The model of a safetensors file, without weights. BROKEN if ComfyUI knows no model in it; None if nobody can say.

    modified: when the file was changed last, so that another file of the same name is looked at anew.
    """
    found = None
    with _quiet():
        # The shapes are enough for most. Reading values, of which few are needed, is slow from a slow disk.
        for read_small in (False, True):
            try:
                found = _read(path, read_small, is_checkpoint)
            except Exception as error:  # whatever a file may hold
                logging.getLogger(__name__).debug("%s: %r", path, error)
                found = None
            if found is not None:
                break
    return found


def _read(path, read_small, is_checkpoint):
    try:
        tensors, metadata = read_header(path, read_small)
    except OSError:  # of a disk that is away
        raise
    except Exception:
        return BROKEN
    return _model(tensors, metadata, is_checkpoint) or BROKEN


def read_header(path: str, read_small: bool = False) -> tuple[dict[str, torch.Tensor], dict | None]:
    """The tensors of a safetensors file by name, on the meta device, and the file's metadata.

    read_small: read the values of those with at most SMALL elements.
    """
    header = comfy.utils.safetensors_header(path)
    described = json.loads(header)
    metadata = described.pop("__metadata__", None)
    tensors = {}
    with open(path, "rb") as file:
        for name, entry in described.items():
            shape, dtype = entry["shape"], DTYPES.get(entry["dtype"], torch.uint8)
            if read_small and 0 < math.prod(shape) <= SMALL:
                begin, end = entry["data_offsets"]
                file.seek(8 + len(header) + begin)
                tensors[name] = torch.frombuffer(bytearray(file.read(end - begin)), dtype=dtype).reshape(shape)
            else:
                tensors[name] = torch.empty(shape, dtype=dtype, device=META)
    return tensors, metadata


def _model(tensors, metadata, is_checkpoint):
    """As comfy.sd loads a checkpoint, or else a diffusion model in one of the forms that it takes."""
    detection = comfy.model_detection
    prefix = detection.unet_prefix_from_state_dict(tensors)
    config = detection.model_config_from_unet(tensors, prefix, metadata=metadata) if is_checkpoint else None
    if config is None:
        tensors = comfy.utils.state_dict_prefix_replace(dict(tensors), {prefix: ""}, filter_keys=True) or tensors
        prefix = ""
        config = detection.model_config_from_unet(tensors, prefix, metadata=metadata)
    if config is None:
        converted = detection.convert_diffusers_mmdit(tensors, "")
        if converted is not None:
            tensors, config = converted, detection.model_config_from_unet(converted, "")
        else:
            config = detection.model_config_from_diffusers_unet(tensors)
    if config is None:
        return None
    config.set_inference_dtype(torch.float32, None)
    config.custom_operations = comfy.ops.disable_weight_init
    return _patcher(config.get_model(tensors, prefix, device=META))


def _patcher(model):
    return comfy.model_patcher.ModelPatcher(model, load_device=CPU, offload_device=CPU)


@contextmanager
def _quiet():
    """Keeps ComfyUI from logging of a model that nobody loads; other threads go on logging."""
    thread = threading.get_ident()
    logger = logging.getLogger()
    drop = lambda record: record.thread != thread
    logger.addFilter(drop)
    try:
        yield
    finally:
        logger.removeFilter(drop)
