"""The picture of a grid, which grows cell by cell."""
import math
from collections.abc import Sequence

import torch
from PIL import Image

LARGEST = 4096  # pixels of the grid's pictures, in a row or a column of them
LABEL_SIZES = 14, 64  # pixels


class Sheet:
    """The grid, as far as it has pictures.

    Args:
        across, down: the values along its sides; None for none.
        title: a line above it, or "".
    """

    def __init__(self, across: Sequence, down: Sequence, title: str):
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
        from ...playground import drawing

        width = len(self.across)
        places = self.drawn + [None] * (width * len(self.down) - len(self.drawn))
        lines = [places[at : at + width] for at in range(0, len(places), width)]
        smallest, largest = LABEL_SIZES
        size = min(max(min(self.drawn[0].size) // 6, smallest), largest)
        rows, columns = [(label, "") for label in self.down], self.across if any(self.across) else ()
        return drawing.sheet(lines, rows, columns, [self.title] * bool(self.title), size)
