"""Sheets of pictures with labels: those of the help pages, and of NAG Grid."""
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

MARGIN, GAP = 8, 4
PAPER, INK, FAINT = "white", "#1c1c1c", "#6b6b6b"


def sheet(
    pictures: Sequence[Sequence[Image.Image | None]],
    rows: Sequence[tuple[str, str]],
    columns: Sequence[str] = (),
    titles: Sequence[str] = (),
    size: int = 23,
    label_width: int | None = None,
) -> Image.Image:
    """Pictures in rows and columns, in the font that Pillow brings.

    Args:
        pictures: a list for each row, of pictures of one size; None leaves a place empty.
        rows: a label and a fainter note below it for each.
        columns: a label for each, above; none: no line for them.
        titles: lines above it all.
        size: of the labels, in pixels. Large, as it is: the help panel shows sheets at half their width.
        label_width: what the rows' labels take, in pixels; None: as much as they need.
    """
    label, note = ImageFont.load_default(size), ImageFont.load_default(size * 3 // 4)
    line = size * 4 // 3
    width, height = next(picture.size for row in pictures for picture in row if picture is not None)
    if label_width is None:
        lengths = [font.getlength(text) for row in rows for font, text in zip((label, note), row)]
        label_width = 2 * MARGIN + int(max(lengths))
    left, top = MARGIN + label_width, MARGIN + line * (len(titles) + bool(columns))
    right = left + max(map(len, pictures)) * (width + GAP) - GAP
    right = max(right, *(MARGIN + int(label.getlength(text)) for text in titles)) if titles and columns else right
    image = Image.new("RGB", (right + MARGIN, top + len(rows) * (height + GAP) - GAP + MARGIN), PAPER)
    draw = ImageDraw.Draw(image)
    for at, text in enumerate(titles):
        draw.text((MARGIN, MARGIN + at * line), text, INK, label)
    for at, text in enumerate(columns):
        draw.text((left + at * (width + GAP) + width // 2, top - line // 2), text, INK, label, anchor="mm")
    for at, ((text, below), row) in enumerate(zip(rows, pictures)):
        y = top + at * (height + GAP)
        middle = y + height // 2 - (note.size // 2 + 2 if below else 0)
        draw.text((MARGIN, middle), text, INK, label, anchor="lm")
        draw.text((MARGIN, middle + size), below, FAINT, note, anchor="lm")
        for column, picture in enumerate(row):
            if picture is not None:
                image.paste(picture, (left + column * (width + GAP), y))
    return image


def enlarged(pixels, size):
    """A square picture, (3, H, H) from -1 to 1, as one of PIL's of `size` pixels each way, its own left sharp."""
    pixels = ((pixels.clamp(-1, 1) + 1) * 127.5).byte().movedim(0, -1).numpy()
    return Image.fromarray(pixels).resize((size, size), Image.Resampling.NEAREST)
