"""Make drawings/emoji.png from the artists' drawings, as the packages on npm hold them.

    npm pack emoji-datasource-google@16.0.0 emoji-datasource-twitter@16.0.0 @lobehub/fluent-emoji-3d@1.1.0
    python -m playground.worlds.emoji_sheet

in the repository's folder, where npm puts the three archives (152 MB, not needed for anything else). COLUMNS cells in
a row, style by style: each subject CELL pixels large, each companion SMALL, in the upper left corner of its cell.
"""
import io
import tarfile

from PIL import Image

from . import emoji

ARCHIVES = {  # a style's archive and a drawing's place in it
    "noto": ("emoji-datasource-google-16.0.0.tgz", "package/img/google/64/{}.png"),
    "twemoji": ("emoji-datasource-twitter-16.0.0.tgz", "package/img/twitter/64/{}.png"),
    "fluent": ("lobehub-fluent-emoji-3d-1.1.0.tgz", "package/assets/{}.webp"),
}
COLUMNS = 43


def main():
    drawings = []
    for style in emoji.STYLES:
        archive, place = ARCHIVES[style]
        with tarfile.open(archive) as packed:
            names = {place.format(habit.code): emoji.CELL for habit in emoji.SUBJECTS.values()}
            names |= {place.format(code): emoji.SMALL for code in emoji.COMPANIONS.values()}
            found = {item.name: packed.extractfile(item).read() for item in packed if item.name in names}
            drawings += [shrunk(Image.open(io.BytesIO(found[name])), size) for name, size in names.items()]
    sheet = Image.new("RGBA", (COLUMNS * emoji.CELL, -(-len(drawings) // COLUMNS) * emoji.CELL))
    for number, drawing in enumerate(drawings):
        sheet.paste(drawing, (number % COLUMNS * emoji.CELL, number // COLUMNS * emoji.CELL))
    emoji.SHEET.parent.mkdir(exist_ok=True)
    sheet.save(emoji.SHEET, optimize=True)
    print(f"{emoji.SHEET}  {emoji.SHEET.stat().st_size:,} bytes")


def shrunk(drawing, size):
    """What is not transparent of a drawing, in the middle of a square of `size` pixels."""
    drawing = drawing.convert("RGBA")
    drawing = drawing.crop(drawing.getchannel("A").getbbox())
    square = Image.new("RGBA", (max(drawing.size),) * 2)
    square.paste(drawing, ((square.width - drawing.width) // 2, (square.height - drawing.height) // 2))
    return square.resize((size, size), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
