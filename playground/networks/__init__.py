"""The playground's networks as ComfyUI objects: MODEL, CLIP and VAE out of one small safetensors file.

Each MODEL is one of ComfyUI's own classes at a thousandth of its size, under ComfyUI's own BaseModel and ModelPatcher,
so that whatever works on the large ones meets the same code here. All are rectified flows of one shift.
"""
import dataclasses
import json
import pathlib
import re
from types import ModuleType

import comfy.model_management
import comfy.model_patcher
import comfy.utils
import torch

from ..worlds import WORLDS
from ..worlds.language import SIZE
from . import flux, sd3, text, unet, vae, wan
from .flux import SHIFT
from .text import encode, text_model
from .vae import to_latent, to_picture

__all__ = ["NAMES", "SHIFT", "build", "build_model", "encode", "initialise", "latent_shape", "load", "path_of", "save",
           "text_model", "to_latent", "to_picture", "tokens", "velocity", "world_of"]
WEIGHTS = pathlib.Path(__file__).parents[1] / "weights"
FIRST = pathlib.Path(__file__).parents[1] / "playground.safetensors"


@dataclasses.dataclass(frozen=True)
class Network:
    """
    Args:
        world: the name of the one that it paints.
        architecture: the module that builds and calls it.
        sizes: what the architecture's build() takes.
        text_width: of the text's tokens and of the pooled text.
        masked: see text.build_clip().
    """

    world: str
    architecture: ModuleType
    sizes: dict
    text_width: int = 64
    masked: bool = False


FLUX = {"hidden_size": 112, "num_heads": 4, "axes_dim": [8, 10, 10], "mlp_ratio": 3.0,
        "depth": 2, "depth_single_blocks": 4}
NETWORKS = {
    "flux": Network("shapes", flux, FLUX),
    "sd3": Network("shapes", sd3, {"depth": 2, "num_blocks": 4, "mlp_ratio": 3.0}),
    "unet": Network("shapes", unet, {
        "model_channels": 64, "channel_mult": [1, 1], "num_res_blocks": [1, 2], "num_heads": 4,
        "transformer_depth": [0, 1, 1], "transformer_depth_middle": 1, "transformer_depth_output": [0, 0, 1, 1, 1]}),
    "wan": Network("clips", wan, {"dim": 112, "ffn_dim": 336, "num_heads": 4, "num_layers": 5}),
    "emoji": Network("emoji", flux, FLUX | {"hidden_size": 128, "axes_dim": [8, 12, 12]}),
    "playground": Network("shapes", flux, {
        "hidden_size": 128, "num_heads": 4, "axes_dim": [8, 12, 12], "mlp_ratio": 4.0,
        "depth": 2, "depth_single_blocks": 2}, masked=True),
}
NAMES = tuple(name for name in NETWORKS if name != "playground")  # which has masks, no student and a file beside these


def world_of(name):
    """The world that a network paints."""
    return WORLDS[NETWORKS[name].world]


def latent_shape(name):
    """That of one picture or clip, without the batch: (12, 16, 16) or (12, F, 16, 16)."""
    frames = world_of(name).FRAMES
    side = SIZE // vae.FOLD
    return (vae.CHANNELS, side, side) if frames == 1 else (vae.CHANNELS, frames, side, side)


def build(name, device=None):
    """(BaseModel, CLIP), untrained, float32, with uninitialised weights. device: the model's, or None."""
    network = NETWORKS[name]
    return build_model(name, device), text.build_clip(world_of(name), network.text_width, network.masked)


def build_model(name, device=None):
    """The BaseModel of build()."""
    network = NETWORKS[name]
    return network.architecture.build(network.text_width, device, **network.sizes)


def tokens(name, prompts):
    """(B, L) long, on the CPU, of as many prompts. Raises the world's UnknownWord."""
    world = world_of(name)
    return text.tokens(text.Words(world), prompts, world.MAX_WORDS + 2)


def velocity(name, model, x, sigma, context, pooled):
    """What a BaseModel's diffusion_model says of noisy latents, from picture to noise. It has gradients.

    x: (B, *latent_shape(name)). sigma: (B,), 1 for all noise, 0 for none. context, pooled: encode()'s.
    """
    with Training(), OutOfPlace():
        return NETWORKS[name].architecture.call(model, x, sigma, context, pooled)


class Training:
    """Newer hosts have kernels without gradients, but not where this is said."""

    def __enter__(self):
        self.earlier = getattr(comfy.model_management, "in_training", False)
        comfy.model_management.in_training = self.earlier or torch.is_grad_enabled()

    def __exit__(self, *error):
        comfy.model_management.in_training = self.earlier


class OutOfPlace(torch.overrides.TorchFunctionMode):
    """Turns `x += y` into `x = x + y`: ComfyUI's blocks add in place to what the gradients still need.

    torch.autograd.graph.allow_mutation_on_saved_tensors would do, but torch.compile cannot see through it.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return (torch.Tensor.add if func is torch.Tensor.add_ else func)(*args, **(kwargs or {}))


# ---------------------------------------------------------------- untrained weights
@torch.no_grad()
def initialise(name, model, encoder):
    """Fill the weights of a diffusion_model and its text_model(), which ComfyUI leaves unset: Xavier for matrices, what
    the architecture calls SILENT nothing, so that each block does nothing yet."""
    silent = re.compile(NETWORKS[name].architecture.SILENT)
    for path, part in (*model.named_modules(), *(("", part) for part in encoder.modules())):
        for key, parameter in part.named_parameters(recurse=False):
            if parameter.ndim == 1 and key in ("weight", "scale"):
                torch.nn.init.ones_(parameter)  # a norm's
            elif parameter.ndim < 2 or silent.search(f"{path}.{key}"):
                torch.nn.init.zeros_(parameter)
            elif isinstance(part, torch.nn.Embedding):
                torch.nn.init.normal_(parameter, std=0.5)
            else:
                torch.nn.init.xavier_uniform_(parameter)


# ---------------------------------------------------------------- the file
MODEL_PREFIX, TEXT_PREFIX = "model.diffusion_model.", "text_encoder."


def path_of(name):
    """Where the weights of a name lie: "playground", one of NAMES, or that of its student, such as "flux student"."""
    return FIRST if name == "playground" else WEIGHTS / f"{name.replace(' ', '_')}.safetensors"


def save(name, model, encoder, path, notes):
    """Write the weights of a diffusion_model and its text_model() to one safetensors file, in float16: half the size
    and precise enough.

    notes: metadata, names to strings.
    """
    weights = {MODEL_PREFIX + key: value for key, value in model.state_dict().items()}
    weights |= {TEXT_PREFIX + key: value for key, value in encoder.state_dict().items()}
    config = json.dumps({"network": name, "sizes": NETWORKS[name].sizes, "words": world_of(name).WORDS})
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    comfy.utils.save_torch_file({key: value.half().cpu().contiguous() for key, value in weights.items()}, str(path),
                                metadata={"config": config, **notes})


def load(which="playground"):
    """Read a trained network. Gives (ModelPatcher, CLIP, VAE), what ComfyUI calls MODEL, CLIP and VAE.

    which: a name that path_of() knows, or a file's path.
    Raises FileNotFoundError, and RuntimeError when the file does not fit this code.
    """
    path = which if isinstance(which, pathlib.Path) else path_of(which)
    if not path.is_file():
        raise FileNotFoundError(f"The playground's weights are missing: {path.name} should lie in {path.parent}.")
    weights, metadata = comfy.utils.load_torch_file(str(path), safe_load=True, return_metadata=True)
    name = json.loads(metadata["config"]).get("network", "playground")
    offload_device = comfy.model_management.unet_offload_device()
    model, clip = build(name, offload_device)
    # As ComfyUI's loaders do: newer hosts call some of Flux's weights by other names. Older ones do not know these.
    known = model.diffusion_model.state_dict()
    weights_of_model = {key if key in known else re.sub(r"((query|key)_norm)\.weight$", r"\1.scale", key): value
                        for key, value in _part(weights, MODEL_PREFIX).items()}
    model.diffusion_model.load_state_dict(model.model_config.process_unet_state_dict(weights_of_model))
    text_model(clip).load_state_dict(_part(weights, TEXT_PREFIX))
    patcher = comfy.model_patcher.ModelPatcher(
        model, load_device=comfy.model_management.get_torch_device(), offload_device=offload_device)
    return patcher, clip, vae.build_vae(world_of(name).FRAMES)


def _part(weights, prefix):
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
