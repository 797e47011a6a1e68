"""Guiders for SamplerCustomAdvanced, with the inputs of ComfyUI-NAG's nodes of these names, in their order."""
import comfy.samplers
from comfy_api.latest import io

from ..patches.checks import check_not_empty
from . import comfyui, inputs, search
from .guiding import GuidingNode
from .shared import or_theirs

UNUSED = "latent_image"


def _nag_inputs():
    return [
        *inputs.strength_inputs("nag_sigma_end"),
        io.Latent.Input(UNUSED, optional=True, tooltip="Not needed. It is here so that older graphs still load."),
        inputs.options_input(),
        inputs.dial_input(),
    ]


class GuiderNode(GuidingNode):
    """A guider. What nothing needs a prompt may have, and a graph that has it keeps it."""

    @classmethod
    def GET_NODE_INFO_V1(cls) -> dict:
        """What ComfyUI tells the editor, which does not show it on new nodes then."""
        info = super().GET_NODE_INFO_V1()
        info["input"]["optional"].pop(UNUSED)
        info["input_order"]["optional"].remove(UNUSED)
        return info


class NAGGuider(GuiderNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="NAGGuider",
            **search.named("NAG Guider", "normalized guidance"),
            category=comfyui.category_of("CFGGuider", "sampling/custom_sampling/guiders"),
            description="A guider without CFG whose negative works by Normalized Attention Guidance, for models that "
            "sample in few steps.",
            inputs=[
                io.Model.Input("model", tooltip="The model to sample with."),
                io.Conditioning.Input("conditioning", display_name="positive", tooltip="What the picture should show."),
                inputs.negative_input(),
                *_nag_inputs(),
            ],
            outputs=[io.Guider.Output(tooltip="For SamplerCustomAdvanced.")],
            **inputs.OWN_NAME,
        )

    @classmethod
    @or_theirs
    def execute(
        cls,
        model,
        conditioning,
        nag_negative,
        nag_scale=inputs.AUTO,
        nag_tau=inputs.AUTO,
        nag_alpha=inputs.AUTO,
        nag_sigma_end=inputs.AUTO,
        latent_image=None,
        options=None,
        strength=1.0,
    ) -> io.NodeOutput:
        check_not_empty("conditioning", conditioning)
        settings = inputs.settings(nag_scale, nag_tau, nag_alpha, nag_sigma_end, options, strength)
        guided = cls.guided_model(model, nag_negative, settings)
        guider = comfy.samplers.CFGGuider(guided)
        guider.inner_set_conds({"positive": conditioning})
        return io.NodeOutput(guider)


class NAGCFGGuider(GuiderNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="NAGCFGGuider",
            **search.named("NAG CFG Guider", "negative prompt"),
            category=comfyui.category_of("CFGGuider", "sampling/custom_sampling/guiders"),
            description="A CFG guider with Normalized Attention Guidance on top, each with a negative of its own.",
            inputs=[
                io.Model.Input("model", tooltip="The model to sample with."),
                io.Conditioning.Input("positive", tooltip="What the picture should show."),
                io.Conditioning.Input("negative", tooltip="The negative of CFG, without effect at cfg 1."),
                inputs.negative_input(),
                inputs.cfg_input(),
                *_nag_inputs(),
            ],
            outputs=[io.Guider.Output(tooltip="For SamplerCustomAdvanced.")],
            **inputs.OWN_NAME,
        )

    @classmethod
    @or_theirs
    def execute(
        cls,
        model,
        positive,
        negative,
        nag_negative,
        cfg,
        nag_scale=inputs.AUTO,
        nag_tau=inputs.AUTO,
        nag_alpha=inputs.AUTO,
        nag_sigma_end=inputs.AUTO,
        latent_image=None,
        options=None,
        strength=1.0,
    ) -> io.NodeOutput:
        check_not_empty("positive", positive)
        settings = inputs.settings(nag_scale, nag_tau, nag_alpha, nag_sigma_end, options, strength)
        guided = cls.guided_model(model, nag_negative, settings)
        guider = comfy.samplers.CFGGuider(guided)
        guider.set_conds(positive, negative)
        guider.set_cfg(cfg)
        return io.NodeOutput(guider)
