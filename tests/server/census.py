"""A custom node pack for the tests alone: a node that counts what a server's process holds."""
import gc

import psutil
import torch

PACK = "custom_nodes.nag"  # in the names of the pack's modules, whatever ComfyUI takes for its folder's


def is_ours(kind):
    """Whether a class is one of the pack's."""
    return PACK in str(kind.__module__).replace("/", ".")


class Census:
    """Tells what is alive, after what nobody holds has been collected.

    rss: the process's bytes. tensors: those of all tensors. modules: how many torch modules there are. ours: how many
    objects of the pack's classes.
    """

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "tests", True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    @classmethod
    def IS_CHANGED(cls):
        return float("nan")

    def run(self):
        gc.collect()
        kinds = [(each, type(each)) for each in gc.get_objects()]
        storages = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each, kind in kinds
                    if issubclass(kind, torch.Tensor) and not each.is_meta}
        return {"ui": {
            "rss": [psutil.Process().memory_info().rss],
            "tensors": [sum(storages.values())],
            "modules": [sum(issubclass(kind, torch.nn.Module) for _, kind in kinds)],
            "ours": [sum(is_ours(kind) for _, kind in kinds)],
        }}


NODE_CLASS_MAPPINGS = {"Census": Census}
