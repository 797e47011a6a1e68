"""A tiny trained model, to see guidance work without downloading one."""
from comfy_api.latest import io

from . import comfyui


class NAGPlaygroundLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="NAGPlaygroundLoader",
            display_name="Load NAG Playground (tiny demo model)",
            category=comfyui.category_of("CheckpointLoaderSimple", "loaders"),
            description="A playground, not a model for art: a tiny Flux-class model, part of this pack, that paints "
            "coloured shapes on the CPU in a second. Use 128x128, 4 steps, euler, simple, cfg 1. Try the prompt "
            "'a blue square' with the negative 'white'.",
            inputs=[],
            outputs=[
                io.Model.Output(tooltip="The tiny Flux-class model. Paints 128x128 pictures in 4 steps at cfg 1."),
                io.Clip.Output(tooltip="Its text encoder. It knows a few words, and names them if you use another."),
                io.Vae.Output(tooltip="Its VAE, which shows each of its 32x32 pixels 4x4 pixels large."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        from ..playground import networks  # it builds on more of ComfyUI than NAG does: only where it is wanted

        return io.NodeOutput(*networks.load())
