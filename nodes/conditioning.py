"""NAG as a part of the conditioning: the model stays as it is."""
from comfy_api.latest import io

from . import comfyui, inputs, search
from .guiding import GuidingNode


class NAGConditioning(GuidingNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="NAGConditioning",
            **search.named("NAG Conditioning", "negative prompt"),
            category=comfyui.category_of("CLIPTextEncode", "conditioning"),
            description="Gives a positive its own negative, by Normalized Attention Guidance. Any stock sampler then "
            "follows it, with an unpatched model. Combine several, each for its own area or range of steps.",
            inputs=[
                io.Conditioning.Input("positive", tooltip="What the picture should show."),
                io.Conditioning.Input(
                    "negative", display_name="nag_negative", tooltip="What NAG moves this positive away from."
                ),
                *inputs.strength_inputs(),
                inputs.options_input(inputs.STOPS),
                inputs.dial_input(),
            ],
            outputs=[io.Conditioning.Output(tooltip="The positive with its NAG, for a sampler's positive input.")],
            **inputs.OWN_NAME,
        )

    @classmethod
    def execute(
        cls,
        positive,
        negative,
        nag_scale=inputs.AUTO,
        nag_tau=inputs.AUTO,
        nag_alpha=inputs.AUTO,
        options=None,
        strength=1.0,
    ) -> io.NodeOutput:
        settings = inputs.settings(nag_scale, nag_tau, nag_alpha, options=options, strength=strength)
        return io.NodeOutput(cls.guided_conditioning(positive, negative, settings))
