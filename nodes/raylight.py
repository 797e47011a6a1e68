"""NAG inside of the workers of Raylight, which holds a model in one process for each GPU.

Raylight's own patches of a model are functions that its workers run on theirs (`model_function_runner`), and so is
this one. The workers have not loaded the pack: what is sent loads it first, from the folder in which it lies here.
"""
import pickle
from collections.abc import Callable
from pathlib import Path

import folder_paths  # ComfyUI's
from comfy_api.latest import io

from ..patches import raylight, travelling
from ..patches.sampling.request import Request
from . import inputs, search
from .guiding import GuidingNode, engine

RayActors = io.Custom("RAY_ACTORS")
NO_WORKERS = "ray_actors must come from one of Raylight's loaders, such as Load Diffusion Model (Ray), and is {!r}."
NO_PACK = "The NAG pack is not on the machine of this worker of Raylight's. Put it there, into the same folder: {}"
NO_MODEL = "Raylight's workers have no model yet. Connect ray_actors to Load Diffusion Model (Ray)."
FOLDER = Path(__file__).resolve().parent.parent


def is_here() -> bool:
    """Whether Raylight is among the packs that ComfyUI loads, be it before this one or after it."""
    packs = [pack for folder in folder_paths.get_folder_paths("custom_nodes") for pack in Path(folder).glob("*")]
    return any((pack / "src" / "raylight").is_dir() and pack.suffix != ".disabled" for pack in packs)


class OnModel(travelling.Travelling):
    """Puts the NAG of a request on a worker's model."""

    def __init__(self, request: Request):
        self.request = request

    def __call__(self, model):
        if model is None:
            raise ValueError(NO_MODEL)
        return engine().guide_model(model, self.request)


def sent(on_model: OnModel) -> Callable:
    """What a worker runs on its model. It names nothing of the pack, so that Ray sends its very code."""
    door, package, folder, pickled = travelling.NAME, travelling.PACKAGE, str(FOLDER), pickle.dumps(on_model)
    no_pack = NO_PACK.format(folder)

    def guided(model):
        import importlib.util
        import os
        import pickle
        import sys

        if door not in sys.modules:
            if not os.path.isdir(folder):
                raise ValueError(no_pack)
            spec = importlib.util.spec_from_file_location(package, f"{folder}/__init__.py")
            pack = sys.modules[package] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(pack)
        return pickle.loads(pickled)(model)

    return guided


class NAGRaylight(GuidingNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="NAGRaylight",
            **search.named("NAG for Raylight", "negative prompt"),
            category="Raylight",
            description="Gives the model in Raylight's workers a working negative prompt, by Normalized Attention "
            "Guidance. For data parallel and FSDP, with all three degrees of Ray Init Actor at 0. Tested on the CPU "
            "only, not on several GPUs.",
            inputs=[
                RayActors.Input("ray_actors", tooltip="From Load Diffusion Model (Ray)."),
                inputs.negative_input("the sampler's negative"),
                *inputs.strength_inputs(),
                inputs.options_input(inputs.STOPS),
                inputs.dial_input(),
            ],
            outputs=[RayActors.Output(tooltip="The workers, whose model now has NAG, for any of Raylight's samplers.")],
            **inputs.OWN_NAME,
        )

    @classmethod
    def execute(
        cls,
        ray_actors,
        nag_negative=None,
        nag_scale=inputs.AUTO,
        nag_tau=inputs.AUTO,
        nag_alpha=inputs.AUTO,
        options=None,
        strength=1.0,
    ) -> io.NodeOutput:
        import ray  # Raylight's

        settings = inputs.settings(nag_scale, nag_tau, nag_alpha, options=options, strength=strength)
        workers = ray_actors.get("workers") if isinstance(ray_actors, dict) else None
        if not workers:
            raise ValueError(NO_WORKERS.format(ray_actors))
        for parallel in ray.get([worker.get_parallel_dict.remote() for worker in workers]):
            raylight.check_asked(parallel)
        guided = sent(OnModel(cls.request(settings, nag_negative)))
        try:
            ray.get([worker.model_function_runner.remote(guided) for worker in workers])
        except ray.exceptions.RayTaskError as error:
            raise ValueError(str(error.cause)) from error
        return io.NodeOutput(ray_actors)
