"""Paint the strips of pictures: the same seeds, the first ones, in each row, whatever they show.

    python -m evidence strips flux wan

A clip's frames are those of the animation. They go to strips/, a WebP for each student.
"""
import pathlib

from . import rows

SEEDS, STEPS, CELL = 6, 2, 64
CASES = 4  # spread evenly over the world's
METHODS = {"base": rows.Row("student", STEPS), "CFG 3": rows.Row("student", STEPS, 3.0),
           "NAG": rows.row("student", STEPS)}
FOLDER = pathlib.Path(__file__).with_name("strips")
MILLISECONDS = 350  # a frame


def add_arguments(parser):
    parser.add_argument("models", nargs="*", default=rows.MODELS)
    parser.add_argument("--out", type=pathlib.Path, default=FOLDER, help="a folder")


def main(options):
    from .painting import Nodes, start

    start("cpu")
    nodes = Nodes()
    options.out.mkdir(parents=True, exist_ok=True)
    for model in options.models:
        frames = strip(model, nodes)
        path = options.out / f"{model}.webp"
        further = {"save_all": True, "append_images": frames[1:], "duration": MILLISECONDS, "loop": 0}
        frames[0].save(path, quality=88, method=6, **(further if frames[1:] else {}))
        print(f"{path}  ({path.stat().st_size / 1000:.0f} kB)", flush=True)


def strip(model, nodes):
    """PIL images, one for each frame."""
    from playground import networks

    from .painting import Painter, Prompts

    world = networks.world_of(model)
    cases = world.CASES[::len(world.CASES) // CASES][:CASES]
    texts = tuple((world.describe(case.scene), case.negative) for case in cases)
    prompts = Prompts(texts, *zip(*((case, seed) for case in range(len(texts)) for seed in range(SEEDS))))
    painter = Painter(model, networks.load(f"{model} student"), nodes, prompts, len(prompts.case))
    painted = {name: painter.paint(row) for name, row in METHODS.items()}
    if world.FRAMES == 1:
        painted = {name: pictures.unsqueeze(2) for name, pictures in painted.items()}
    return [_sheet(texts, {name: pictures[:, :, frame] for name, pictures in painted.items()})
            for frame in range(world.FRAMES)]


def _sheet(texts, painted):
    """One PIL image: for each case its prompts and a row for each method."""
    from playground import drawing

    parts = []
    for case, (prompt, negative) in enumerate(texts):
        pictures = [[drawing.enlarged(pixels, CELL) for pixels in of[case * SEEDS:(case + 1) * SEEDS]]
                    for of in painted.values()]
        parts.append(drawing.sheet(pictures, [(name, "") for name in painted], titles=(prompt, f"negative: {negative}"),
                                   label_width=86))
    return _two_by_two(parts)


def _two_by_two(parts):
    from PIL import Image
    from playground import drawing

    width, height = max(part.width for part in parts), max(part.height for part in parts)
    sheet = Image.new("RGB", (2 * width, (len(parts) + 1) // 2 * height), drawing.PAPER)
    for at, part in enumerate(parts):
        sheet.paste(part, (at % 2 * width, at // 2 * height))
    return sheet
