"""NAG as a patch of the model: the shortest way."""
from comfy_api.latest import io

from . import inputs, search
from .guiding import GuidingNode


class NAGModel(GuidingNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="NAGModel",
            **search.named("NAG Model", "negative prompt"),
            category="advanced/guidance",
            description="Gives the model a working negative prompt, also at cfg 1 and in a few steps, by Normalized "
            "Attention Guidance. Put it between the loader and any sampler.",
            inputs=[
                io.Model.Input("model", tooltip="The model to guide."),
                inputs.negative_input("the sampler's negative"),
                *inputs.strength_inputs(),
                inputs.options_input(inputs.STOPS),
                inputs.dial_input(),
            ],
            outputs=[io.Model.Output(tooltip="The model with NAG, for any sampler or guider.")],
            **inputs.OWN_NAME,
        )

    @classmethod
    def execute(
        cls,
        model,
        nag_negative=None,
        nag_scale=inputs.AUTO,
        nag_tau=inputs.AUTO,
        nag_alpha=inputs.AUTO,
        options=None,
        strength=1.0,
    ) -> io.NodeOutput:
        settings = inputs.settings(nag_scale, nag_tau, nag_alpha, options=options, strength=strength)
        return io.NodeOutput(cls.guided_model(model, nag_negative, settings))
