"""The node that samples a grid."""
import comfy.model_management
import comfy.utils
import nodes  # ComfyUI's module of this name
import numpy
import torch
from comfy.patcher_extension import WrappersMP
from comfy_api.latest import io

from ...patches.checks import check_not_empty
from .. import comfyui, inputs, search
from ..guiding import GuidingNode
from ..sampler import check_names, denoise_input, latent_input, model_input, sampler_inputs, seed_input, steps_input
from .cells import AXES, MOST_CELLS, NONE, cells_of
from .sheet import Sheet

PREVIEW = 1024  # pixels, of its longer side


class NAGGrid(GuidingNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="NAGGrid",
            **search.named("NAG Grid", "compare settings"),
            category=comfyui.category_of("KSampler", "sampling"),
            description="Samples with every combination of two of NAG's settings, and draws the pictures side by side "
            "with labels, to find what suits a prompt.",
            inputs=[
                model_input(),
                io.Vae.Input("vae", tooltip="Decodes the pictures."),
                seed_input("seed"),
                steps_input(),
                inputs.cfg_input(),
                *sampler_inputs(),
                io.Conditioning.Input("positive", tooltip="What the pictures should show."),
                io.Conditioning.Input("negative", tooltip="What they should not show: NAG's negative, and CFG's."),
                latent_input(),
                denoise_input(),
                inputs.negative_input("negative, for NAG and CFG both"),
                *_side_inputs("columns", "nag_scale", "1, 3, 5, 7, 11", "from left to right"),
                *_side_inputs("rows", "nag_alpha", "0.125, 0.25, 0.5", "from top to bottom"),
                inputs.options_input(inputs.STOPS),
            ],
            outputs=[
                io.Image.Output(display_name="grid", tooltip="All pictures in one, with labels."),
                io.Image.Output(display_name="pictures", tooltip="The pictures one by one, row by row, as a batch."),
            ],
            **inputs.OWN_NAME,
        )

    @classmethod
    def execute(
        cls,
        model,
        vae,
        seed,
        steps,
        cfg,
        sampler_name,
        scheduler,
        positive,
        negative,
        latent_image,
        denoise,
        columns,
        column_values,
        rows,
        row_values,
        nag_negative=None,
        options=None,
    ) -> io.NodeOutput:
        check_names(sampler_name, scheduler)
        check_not_empty("positive", positive)
        cells, across, down = cells_of(columns, column_values, rows, row_values, options, seed, cfg)
        titles = [f"{columns} across"] * (columns != NONE) + [f"{rows} down"] * (rows != NONE)
        sheet = Sheet(across, down, ", ".join(titles))
        progress = comfy.utils.ProgressBar(len(across) * len(down) * steps)
        against = negative if nag_negative is None else nag_negative
        for cell in (cell for line in cells for cell in line):
            comfy.model_management.throw_exception_if_processing_interrupted()
            guided = cls.guided_model(model, against, cell.settings)
            before = len(sheet.cells) * steps
            _count_steps(guided, lambda step, before=before: progress.update_absolute(before + step))
            (latent,) = nodes.common_ksampler(
                guided, steps=steps, sampler_name=sampler_name, scheduler=scheduler, positive=positive,
                negative=negative, latent=latent_image, denoise=denoise, **cell.sampling,
            )  # fmt: skip
            sheet.add(_pictures(vae, latent))
            drawn = sheet.draw()
            progress.update_absolute(before + steps, preview=("JPEG", drawn, min(PREVIEW, max(drawn.size))))
        grid = torch.from_numpy(numpy.asarray(drawn, dtype=numpy.float32) / 255)[None]
        return io.NodeOutput(grid, torch.cat(sheet.cells))


def _side_inputs(side, axis, values, where):
    one = side.removesuffix("s")
    return [
        io.Combo.Input(side, options=[NONE, *AXES], default=axis, tooltip=f"What changes {where}."),
        io.String.Input(
            f"{one}_values",
            default=values,
            tooltip=f'Its values: numbers, "{inputs.AUTO}" for NAG\'s own, or a range as 0..2:0.5. With semicolons '
            f"between them a comma is a decimal one. At most {MOST_CELLS} pictures in all.",
        ),
    ]


def _count_steps(model, report):
    """Report the steps of a model's sampling by their number from 1, in the place of the sampler's own progress."""

    def outer_sample(executor, *args, **kwargs):
        args = list(args)
        args[5] = lambda step, *_: report(step + 1)  # callback
        return executor(*args, **kwargs)

    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "nag_grid", outer_sample)


def _pictures(vae, latent):
    """(pictures, height, width, 3) of a latent, on the CPU; of each video the frame in the middle."""
    samples = latent["samples"]
    samples = samples.unbind()[0] if getattr(samples, "is_nested", False) else samples
    (images,) = comfyui.run(nodes.NODE_CLASS_MAPPINGS["VAEDecode"], vae=vae, samples=latent)
    if images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError("NAG Grid shows pictures, and this VAE makes none.")
    frames = images.shape[0] // samples.shape[0]
    return images[frames // 2 :: frames].cpu()
