"""Many settings in one picture."""
import dataclasses
import decimal
import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import comfy.model_management
import comfy.utils
import nodes  # ComfyUI's module of this name
import numpy
import torch
from comfy.patcher_extension import WrappersMP
from comfy_api.latest import io
from PIL import Image

from ..patches.checks import check_not_empty
from ..patches.settings import Options, Settings
from . import comfyui, inputs, search
from .guiding import GuidingNode
from .sampler import denoise_input, latent_input, model_input, sampler_inputs, seed_input, steps_input

NONE = "none"
MOST_CELLS = 100
LARGEST = 4096  # pixels of the grid's pictures, in a row or a column of them
PREVIEW = 1024  # pixels, of its longer side
LABEL_SIZES = 14, 64  # pixels


@dataclass(frozen=True)
class Cell:
    """How one cell is sampled.

    Args:
        nag: nag_scale, nag_tau, nag_alpha and strength, as far as they are not "auto".
        options: see Options; None: NAG stops where that is recommended.
        sampling: seed and cfg.
    """

    nag: dict
    options: Options | None
    sampling: dict

    @property
    def settings(self) -> Settings:
        return inputs.settings(**self.nag, options=self.options)


def _of_nag(cell, name, value):
    return dataclasses.replace(cell, nag={**cell.nag, name: value})


def _of_options(cell, name, value):
    return dataclasses.replace(cell, options=dataclasses.replace(cell.options or Options(), **{name: value}))


def _of_sampling(cell, name, value):
    low, high, kind = {"cfg": (0, 100, float), "seed": (0, 0xFFFFFFFFFFFFFFFF, int)}[name]
    if kind(value) != value or not low <= value <= high:
        raise ValueError(f"{name} must be a {'whole ' * (kind is int)}number from {low} to {high}, not {value}.")
    return dataclasses.replace(cell, sampling={**cell.sampling, name: kind(value)})


# What can vary along a side: (cell, name, value) gives the cell with the value.
AXES: dict[str, Callable[[Cell, str, float], Cell]] = {
    "strength": _of_nag,
    "nag_scale": _of_nag,
    "nag_alpha": _of_nag,
    "nag_tau": _of_nag,
    "end_percent": _of_options,
    "cfg": _of_sampling,
    "seed": _of_sampling,
}
NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
RANGE = re.compile(rf"({NUMBER})\s*\.\.\s*({NUMBER})(?:\s*:\s*({NUMBER}))?")


def values_of(axis: str, text: str) -> list[float | str | None]:
    """The values along a side: [None] for "none".

    text: numbers, "auto" for what has it, and ranges "0..2:0.5", whose step is 1 if it is left out; with commas, spaces
    or lines between them. Where a semicolon is between them, a comma is a decimal one.

    Raises:
        ValueError: a value is none of these; there is none, or there are more than MOST_CELLS.
    """
    if axis == NONE:
        return [None]
    parts = text.replace(",", ".").split(";") if ";" in text else re.split(r"[,\s]+", _without_blanks(text))
    values = [value for part in parts if part.strip() for value in _values(axis, part.strip())]
    if not values:
        raise ValueError(f"There are no values for {axis}.")
    _check_count(len(values))
    return values


def _without_blanks(text):
    """Of ranges, which may have some within."""
    return re.sub(r"\s*(\.\.|:)\s*", r"\1", text.strip())


def _values(axis, text):
    if text.lower() == inputs.AUTO and AXES[axis] is _of_nag and axis != "strength":
        return [inputs.AUTO]
    limits = RANGE.fullmatch(text)
    if limits:
        first, last, step = (decimal.Decimal(number or 1) for number in limits.groups())
        if step <= 0 or last < first:
            raise ValueError(f"A range goes up, from..to:step, not {text!r}.")
        count = int((last - first) / step) + 1
        _check_count(count)
        return [_number(first + step * at) for at in range(count)]
    if not re.fullmatch(NUMBER, text):
        raise ValueError(f"{text!r} is no value for {axis}: it takes numbers, and ranges as 0..2:0.5.")
    return [_number(decimal.Decimal(text))]


def _number(value):
    """An int where it is one: a seed may be larger than what a float holds."""
    return int(value) if value == value.to_integral_value() else float(value)


def _check_count(cells):
    if cells > MOST_CELLS:
        raise ValueError(f"That makes {cells} pictures; a grid has at most {MOST_CELLS}.")


def cells_of(
    columns: str, column_values: str, rows: str, row_values: str, options: Options | None, seed: int, cfg: float
) -> tuple[list[list[Cell]], list, list]:
    """The cells row by row, and the values along the two sides. Raises ValueError where one can't be sampled."""
    if columns == rows != NONE:
        raise ValueError(f"columns and rows are both {rows}: choose two, or {NONE} for one of them.")
    across, down = values_of(columns, column_values), values_of(rows, row_values)
    _check_count(len(across) * len(down))
    plain = Cell({}, options, {"seed": seed, "cfg": cfg})
    lines = [_with(plain, rows, value) for value in down]
    cells = [[_with(line, columns, value) for value in across] for line in lines]
    for line in cells:
        for cell in line:
            cell.settings  # noqa: B018  raises for a value out of range
    return cells, across, down


def _with(cell, axis, value):
    return cell if axis == NONE else AXES[axis](cell, axis, value)


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
        check_not_empty("positive", positive)
        cells, across, down = cells_of(columns, column_values, rows, row_values, options, seed, cfg)
        titles = [f"{columns} across"] * (columns != NONE) + [f"{rows} down"] * (rows != NONE)
        sheet = _Sheet(across, down, ", ".join(titles))
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


class _Sheet:
    """The grid, as far as it has pictures.

    Args:
        across, down: the values along its sides.
    """

    def __init__(self, across, down, title):
        label = lambda value: "" if value is None else value if isinstance(value, str) else f"{value:.20g}"
        self.across, self.down = [label(value) for value in across], [label(value) for value in down]
        self.title = title
        self.cells = []
        self.drawn = []

    def add(self, pictures: torch.Tensor):
        """pictures: (pictures, height, width, 3) from 0 to 1, of one cell, which shows them side by side."""
        self.cells.append(pictures)
        side_by_side = torch.cat(list(pictures), 1)
        image = Image.fromarray((side_by_side.clamp(0, 1) * 255).round().byte().numpy())
        share = min(LARGEST / image.width / len(self.across), LARGEST / image.height / len(self.down))
        if share < 1:
            image = image.resize([math.ceil(length * share) for length in image.size], Image.Resampling.LANCZOS)
        self.drawn.append(image)

    def draw(self) -> Image.Image:
        from ..playground import drawing

        width = len(self.across)
        places = self.drawn + [None] * (width * len(self.down) - len(self.drawn))
        lines = [places[at : at + width] for at in range(0, len(places), width)]
        smallest, largest = LABEL_SIZES
        size = min(max(min(self.drawn[0].size) // 6, smallest), largest)
        rows, columns = [(label, "") for label in self.down], self.across if any(self.across) else ()
        return drawing.sheet(lines, rows, columns, [self.title] * bool(self.title), size)
