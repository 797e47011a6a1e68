"""Tiny trained models, to see guidance work without downloading one."""
from pathlib import Path

from comfy_api.latest import io

from . import comfyui

FIRST = "playground"
TEACHERS = {"tiny Flux": "flux", "tiny SD3.5": "sd3", "tiny SDXL": "unet", "tiny Wan": "wan", "tiny emoji": "emoji"}
NETWORKS = {FIRST: FIRST} | {  # what playground.networks.load() takes, by what the node calls it
    name + kind: network + student
    for name, network in TEACHERS.items() for kind, student in (("", ""), (", distilled", " student"))
}
WEIGHTS = Path(__file__).parents[1] / "playground" / "weights"


def choices():
    """The names of those whose files are there."""
    return [name for name, network in NETWORKS.items()
            if name == FIRST or (WEIGHTS / f"{network.replace(' ', '_')}.safetensors").is_file()]


class NAGPlaygroundLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="NAGPlaygroundLoader",
            display_name="Load NAG Playground (tiny demo model)",
            category=comfyui.category_of("CheckpointLoaderSimple", "loaders"),
            description="A playground, not models for art: tiny models, part of this pack, that paint coloured shapes "
            "on the CPU in a second. Use 128x128, 4 steps, euler, simple, cfg 1. Try the prompt 'a blue square' with "
            "the negative 'white'.",
            inputs=[
                io.Combo.Input(
                    "model",
                    options=choices(),
                    default=FIRST,
                    optional=True,
                    tooltip="Which of the tiny models. Those called distilled paint in 1, 2 or 4 steps at cfg 1, as "
                    "turbo models do; the others take 4 to 20. tiny Wan paints clips of 4 pictures: give it an "
                    "EmptyHunyuanLatentVideo of 128x128 and length 13. All others take an Empty Latent Image of "
                    "128x128.",
                )
            ],
            outputs=[
                io.Model.Output(tooltip="The tiny model. Paints 128x128 pictures in a few steps at cfg 1."),
                io.Clip.Output(tooltip="Its text encoder. It knows a few words, and names them if you use another."),
                io.Vae.Output(tooltip="Its VAE, which shows each of its 32x32 pixels 4x4 pixels large."),
            ],
        )

    @classmethod
    def execute(cls, model=FIRST) -> io.NodeOutput:
        if model not in choices():  # what a link brings ComfyUI does not look at
            raise ValueError(f"The playground has no {model!r}. It has {', '.join(map(repr, choices()))}.")
        from ..playground import networks  # it builds on more of ComfyUI than NAG does: only where it is wanted

        return io.NodeOutput(*networks.load(NETWORKS[model]))
