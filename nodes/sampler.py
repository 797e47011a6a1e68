"""KSampler with NAG."""
import comfy.samplers
import nodes  # ComfyUI's module of this name
from comfy_api.latest import io

from ..patches.checks import check_not_empty
from ..patches.settings import check_choice
from . import comfyui, inputs, search
from .guiding import GuidingNode


def model_input() -> io.Input:
    return io.Model.Input("model", tooltip="The model that denoises the latent.")


def seed_input(name: str) -> io.Input:
    return io.Int.Input(
        name, default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True, tooltip="The seed of the noise."
    )


def steps_input() -> io.Input:
    return io.Int.Input("steps", default=20, min=1, max=10000, tooltip="How many steps the sampling takes.")


def sampler_inputs() -> list[io.Input]:
    return [
        io.Combo.Input("sampler_name", options=comfy.samplers.KSampler.SAMPLERS, tooltip="The sampling algorithm."),
        io.Combo.Input(
            "scheduler", options=comfy.samplers.KSampler.SCHEDULERS, tooltip="How the noise falls over the steps."
        ),
    ]


def check_names(sampler_name: str, scheduler: str) -> None:
    """Raise a ValueError for a name that ComfyUI lacks. Its KSampler takes the first of its list instead, and before
    0.10 no choice of a node like ours is looked at."""
    stock = comfy.samplers.KSampler
    check_choice("sampler_name", sampler_name, stock.SAMPLERS)
    check_choice("scheduler", scheduler, stock.SCHEDULERS)


def latent_input() -> io.Input:
    return io.Latent.Input("latent_image", tooltip="The latent to denoise.")


def denoise_input() -> io.Input:
    return io.Float.Input(
        "denoise",
        default=1.0,
        min=0.0,
        max=1.0,
        step=0.01,
        tooltip="How much of the latent is replaced: less keeps the structure of an image.",
    )


class NAGSampler(GuidingNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="NAGSampler",
            **search.named("NAG Sampler", "cfg 1, distilled"),
            category=comfyui.category_of("KSampler", "sampling"),
            description="KSampler whose negative works by Normalized Attention Guidance, also at cfg 1.",
            inputs=[
                model_input(),
                seed_input("seed"),
                steps_input(),
                inputs.cfg_input(),
                *sampler_inputs(),
                io.Conditioning.Input("positive", tooltip="What the picture should show."),
                io.Conditioning.Input("negative", tooltip="What it should not show: NAG's negative, and CFG's."),
                latent_input(),
                denoise_input(),
                inputs.negative_input("negative, for NAG and CFG both"),
                *inputs.strength_inputs(),
                inputs.options_input(inputs.STOPS),
                inputs.dial_input(),
            ],
            outputs=[io.Latent.Output(tooltip="The denoised latent.")],
            **inputs.OWN_NAME,
        )

    @classmethod
    def execute(
        cls,
        model,
        seed,
        steps,
        cfg,
        sampler_name,
        scheduler,
        positive,
        negative,
        latent_image,
        denoise,
        nag_negative=None,
        nag_scale=inputs.AUTO,
        nag_tau=inputs.AUTO,
        nag_alpha=inputs.AUTO,
        options=None,
        strength=1.0,
    ) -> io.NodeOutput:
        check_names(sampler_name, scheduler)
        check_not_empty("positive", positive)
        settings = inputs.settings(nag_scale, nag_tau, nag_alpha, options=options, strength=strength)
        guided = cls.guided_model(model, negative if nag_negative is None else nag_negative, settings)
        (latent,) = nodes.common_ksampler(
            guided, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent_image, denoise=denoise
        )
        return io.NodeOutput(latent)
