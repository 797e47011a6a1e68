"""What is made of the pictures: a page, with a sheet of each workflow, and thumbnails for the template browser."""
import shutil
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from . import media, prompts
from .painting import WITH, WITHOUT, Shown

COLUMNS, CELL, GAP, LABEL_SIZE = 4, 256, 6, 20
PAPER, INK, SHADE = "white", "#1c1c1c", "#17191f"
FRAME = 125  # ms of a video's
THUMBNAIL, HEAVIEST = (640, 400), 60_000  # pixels, bytes
QUALITIES = (85, 75, 60, 45, 30, 15)


def write_page(every: list[Shown], folder: Path, titles: dict[str, str]) -> Path:
    """gallery.md and its images/ in a folder; gives the page's path. titles: of the workflows, by name."""
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    parts = ["# With and without NAG\n", "Above without NAG, below with it: the same seed, and nothing else differs.\n"]
    for shown in every:
        if shown.pairs():
            parts.append(f"## {titles.get(shown.name, shown.name)}\n")
            parts += [f"{name}: {text}\n" for name, text in zip(("prompt", "negative"), prompts.texts(shown.prompt))]
            parts.append(_sheet(shown, images))
    parts += _left_out(every)
    page = folder / "gallery.md"
    page.write_text("\n".join(parts), encoding="utf-8")
    return page


def write_thumbnails(every: list[Shown], folder: Path, titles: dict[str, str]) -> list[Path]:
    """TITLE.jpg of each workflow with pictures: without NAG at the left, or above, and with it.

    The template browser asks packs for that name alone. Of a video it is an animated WebP, since browsers go by what
    a picture is and not by its name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for shown in every:
        rows = _rows(shown, 1)
        if rows:
            written.append(folder / f"{titles.get(shown.name, shown.name)}.jpg")
            _save_light(_animated(rows, _thumbnail), written[-1])
    return written


def _sheet(shown, images):
    """The part of the page with a workflow's pictures, or with its sounds."""
    rows = _rows(shown, len(shown.pairs()))
    if not rows:
        return _sounds(shown, images)
    path = images / f"{shown.name}.webp"
    first, *others = _animated(rows, _compose)
    first.save(path, quality=85, method=6, save_all=True, append_images=others, duration=FRAME, loop=0)
    return f"![{shown.name}, {WITHOUT} and {WITH}](images/{path.name})\n"


def _sounds(shown, images):
    lines = ["| seed | " + " | ".join((WITHOUT, WITH)) + " |", "|---|---|---|"]
    for seed, files in shown.pairs().items():
        links = []
        for how, (path, *_) in files.items():
            copied = images / f"{shown.name}_{seed}_{'with' if how == WITH else 'without'}{path.suffix}"
            shutil.copyfile(path, copied)
            links.append(f"[{copied.suffix[1:]}](images/{copied.name})")
        lines.append(f"| {seed} | {' | '.join(links)} |")
    return "\n".join(lines) + "\n"


def _left_out(every):
    """The part of the page on what could not be painted."""
    missing, failed = [each for each in every if each.lacking], [each for each in every if each.error]
    parts = []
    if missing:
        rows = [f"| {each.name} | {'<br>'.join(_linked(one) for one in each.lacking)} |" for each in missing]
        parts += ["## Left out\n", "\n".join(["| workflow | for want of |", "|---|---|", *rows]) + "\n"]
    if failed:
        parts += ["## Failed\n", *(f"- {each.name}: {' '.join(each.error.split())}" for each in failed)]
    return parts


def _linked(one):
    return f"[{one.what}]({one.url})" if one.url else one.what


def _rows(shown, seeds):
    """{WITHOUT, WITH: what each picture of the first seeds shows, as frames}; empty where there are sounds only."""
    rows = {WITHOUT: [], WITH: []}
    for files in list(shown.pairs().values())[:seeds]:
        for how, paths in files.items():
            rows[how] += [frames for path in paths if (frames := media.frames_of(path))]
    return rows if all(rows.values()) else {}


def _animated(rows, compose):
    """A picture for each frame. compose(rows): one picture of rows of pictures."""
    count = max(len(frames) for row in rows.values() for frames in row)
    at = lambda frames, i: frames[i * len(frames) // count]
    return [compose({how: [at(frames, i) for frames in row] for how, row in rows.items()}) for i in range(count)]


def _compose(rows):
    """Rows of at most COLUMNS pictures, with labels; what is over follows below."""
    label, font = 120, ImageFont.load_default(LABEL_SIZE)
    first = rows[WITH][0]
    cell = CELL, round(CELL * first.height / first.width)
    pages = range(0, len(rows[WITH]), COLUMNS)
    width = label + min(len(rows[WITH]), COLUMNS) * (CELL + GAP) + GAP
    sheet = Image.new("RGB", (width, len(pages) * (2 * (cell[1] + GAP) + GAP) + GAP), PAPER)
    draw, y = ImageDraw.Draw(sheet), GAP
    for start in pages:
        for how, pictures in rows.items():
            draw.multiline_text((GAP, y + cell[1] // 2), textwrap.fill(how, 10), INK, font, anchor="lm")
            for column, picture in enumerate(pictures[start : start + COLUMNS]):
                sheet.paste(_resized(picture, cell), (label + column * (CELL + GAP), y))
            y += cell[1] + GAP
        y += GAP
    return sheet


def _thumbnail(rows):
    """One picture each side by side; of several, as of the playground's, two rows."""
    made, font = Image.new("RGB", THUMBNAIL, SHADE), ImageFont.load_default(LABEL_SIZE)
    width, height = THUMBNAIL
    draw, count = ImageDraw.Draw(made), min(len(rows[WITH]), 2 * width // height)
    size = (width // 2, height) if count == 1 else (width // count, height // 2)
    for row, (how, pictures) in enumerate(rows.items()):
        corner = (row * size[0], 0) if count == 1 else (0, row * size[1])
        for i, picture in enumerate(pictures[:count]):
            made.paste(_resized(picture, size), (corner[0] + i * size[0], corner[1]))
        left, top, right, bottom = draw.textbbox((corner[0] + 10, corner[1] + 8), how, font)
        draw.rectangle((left - 5, top - 4, right + 5, bottom + 5), SHADE)
        draw.text((corner[0] + 10, corner[1] + 8), how, "white", font)
    return made


def _resized(picture, size):
    """Cut to this shape; the playground's large pixels stay sharp."""
    how = Image.Resampling.NEAREST if picture.width < size[0] else Image.Resampling.LANCZOS
    return ImageOps.fit(picture, size, how)


def _save_light(frames, path):
    """A JPEG or, of several frames, a WebP; in less and less quality until it is light enough."""
    first, *others = frames
    for quality in QUALITIES:
        if others:
            first.save(path, "WEBP", quality=quality, save_all=True, append_images=others, duration=FRAME, loop=0)
        else:
            first.save(path, "JPEG", quality=quality, optimize=True)
        if path.stat().st_size < HEAVIEST:
            return
