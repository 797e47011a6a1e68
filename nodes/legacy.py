"""ComfyUI-NAG's samplers, so that graphs made with them run: its inputs in its order, over ComfyUI's own samplers.

The order matters: a saved graph carries its widgets' values as a list.
"""
import nodes  # ComfyUI's module of this name
from comfy_api.latest import io

from ..patches.checks import check_not_empty
from . import comfyui, inputs
from .guiding import GuidingNode
from .sampler import check_names, denoise_input, latent_input, model_input, sampler_inputs, seed_input, steps_input
from .shared import or_theirs

DEFAULT_CFG = 8.0  # as in ComfyUI-NAG


class LegacySampler(GuidingNode):
    """One of ComfyUI's samplers with NAG's inputs among its own."""

    SAMPLER: str

    @classmethod
    @or_theirs
    def execute(
        cls, model, nag_negative, nag_scale, nag_tau, nag_alpha, nag_sigma_end, options=None, **sampling
    ) -> io.NodeOutput:
        check_not_empty("positive", sampling["positive"])
        settings = inputs.settings(nag_scale, nag_tau, nag_alpha, nag_sigma_end, options)
        guided = cls.guided_model(model, nag_negative, settings)
        if "sampler_name" in sampling:  # after the model: of one that is left to ComfyUI-NAG its node knows the names
            check_names(sampling["sampler_name"], sampling["scheduler"])
        return io.NodeOutput(*comfyui.run(nodes.NODE_CLASS_MAPPINGS[cls.SAMPLER], model=guided, **sampling))


def prompt_inputs():
    return [
        io.Conditioning.Input("positive", tooltip="What the picture should show."),
        io.Conditioning.Input("negative", tooltip="The negative of CFG, without effect at cfg 1."),
        inputs.negative_input(),
    ]


def step_input(name, default, tooltip):
    return io.Int.Input(name, default=default, min=0, max=10000, tooltip=tooltip)


class KSamplerWithNAG(LegacySampler):
    SAMPLER = "KSampler"

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="KSamplerWithNAG",
            display_name="KSamplerWithNAG",
            category=comfyui.category_of("KSampler", "sampling"),
            description="For graphs made with ComfyUI-NAG. In new ones use NAG Sampler, or NAG Model before KSampler.",
            is_deprecated=True,
            **inputs.OWN_NAME,
            inputs=[
                model_input(),
                seed_input("seed"),
                steps_input(),
                inputs.cfg_input(DEFAULT_CFG),
                *inputs.number_inputs(),
                *sampler_inputs(),
                *prompt_inputs(),
                latent_input(),
                denoise_input(),
                inputs.options_input(),
            ],
            outputs=[io.Latent.Output(tooltip="The denoised latent.")],
        )


class KSamplerAdvancedWithNAG(LegacySampler):
    SAMPLER = "KSamplerAdvanced"

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="KSamplerWithNAG (Advanced)",
            display_name="KSamplerWithNAG (Advanced)",
            category=comfyui.category_of("KSamplerAdvanced", "sampling"),
            description="For graphs made with ComfyUI-NAG. In new ones use NAG Model before KSampler (Advanced).",
            is_deprecated=True,
            **inputs.OWN_NAME,
            inputs=[
                model_input(),
                io.Combo.Input(
                    "add_noise", options=["enable", "disable"], tooltip="Whether the latent gets noise at the start."
                ),
                seed_input("noise_seed"),
                steps_input(),
                inputs.cfg_input(DEFAULT_CFG),
                *inputs.number_inputs(),
                *sampler_inputs(),
                *prompt_inputs(),
                latent_input(),
                step_input("start_at_step", 0, "The step to start at, from 0."),
                step_input("end_at_step", 10000, "The step to stop before. More than there are: until the end."),
                io.Combo.Input(
                    "return_with_leftover_noise",
                    options=["disable", "enable"],
                    tooltip="Whether noise that is left when it stops stays in, for another sampler to go on with.",
                ),
                inputs.options_input(),
            ],
            outputs=[io.Latent.Output(tooltip="The denoised latent.")],
        )


class SamplerCustomWithNAG(LegacySampler):
    SAMPLER = "SamplerCustom"

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SamplerCustomWithNAG",
            display_name="SamplerCustomWithNAG",
            category=comfyui.category_of("SamplerCustom", "sampling/custom_sampling"),
            description="For graphs made with ComfyUI-NAG. In new ones use NAG Model before SamplerCustom, or NAG CFG "
            "Guider with SamplerCustomAdvanced.",
            is_deprecated=True,
            **inputs.OWN_NAME,
            inputs=[
                model_input(),
                io.Boolean.Input("add_noise", default=True, tooltip="Whether the latent gets noise at the start."),
                seed_input("noise_seed"),
                inputs.cfg_input(DEFAULT_CFG),
                *inputs.number_inputs(),
                *prompt_inputs(),
                io.Sampler.Input("sampler", tooltip="The sampling algorithm."),
                io.Sigmas.Input("sigmas", tooltip="The noise at each step, from a scheduler."),
                latent_input(),
                inputs.options_input(),
            ],
            outputs=[
                io.Latent.Output(display_name="output", tooltip="The latent at the end of the sampling."),
                io.Latent.Output(
                    display_name="denoised_output", tooltip="The model's last guess of the latent without noise."
                ),
            ],
        )
