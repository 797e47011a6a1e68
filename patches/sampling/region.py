"""Which part of the run's latent each row of a model call shows, and the negative's masks there.

ComfyUI cuts a latent up for areas of positives, and for windows of frames; it says how. Of nodes that cut it into tiles
by themselves nobody knows which tile a call is for.
"""
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

SHAPES = "latent_shapes"  # among what a model is given
WINDOW = "context_window"  # in the transformer_options
OTHER_PART = (
    "The NAG negative has a mask or an area, and another node calls the model with {found} of the latent, where the "
    "sampler has {known}, and does not say which part that is. Nodes that sample in tiles do so. Take that node out, "
    "or the mask or the area out of the NAG negative."
)
OTHER_ROWS = (
    "The NAG negative has a mask for each picture of the batch, and another node calls the model with {found} of "
    "{known} rows. Take that node out, or use one mask for all."
)


@dataclass(frozen=True)
class Region:
    """Some rows of a model call.

    Args:
        count: how many.
        area: what they show of the latent, or of a window of it, as ComfyUI has it: sizes, then offsets; None: all.
        masks: of each entry, see negative.Negative.
    """

    count: int
    area: tuple[int, ...] | None
    masks: tuple[torch.Tensor | None, ...]


@dataclass(frozen=True)
class Window:
    """A window of frames, or of a batch.

    Args:
        axis: of the latent without channels.
        places: the numbers of its frames.
    """

    axis: int
    places: tuple[int, ...]


def picture_sizes(noise: torch.Tensor, conds: dict[str, list[dict]]) -> tuple[int, ...]:
    """Of a run's latent without batch and channels; of the picture's, where sound is packed into one with it.

    Args:
        conds: as a guider holds them when it samples.
    """
    for conditioning in itertools.chain(*conds.values()):
        shapes = conditioning["model_conds"].get(SHAPES)
        if shapes is not None:
            return sizes_of(noise, shapes.cond)
    return sizes_of(noise, None)


def sizes_of(latent: torch.Tensor, shapes: Sequence[torch.Size] | None) -> tuple[int, ...]:
    """The same of a model call's latent; shapes: of what is packed into it, the picture's first."""
    return tuple(shapes[0] if shapes else latent.shape)[2:]


def window_of(options: dict, retained: Sequence[int] = ()) -> Window | None:
    """The window that ComfyUI's context windows have cut for a model call.

    Args:
        options: the call's transformer_options.
        retained: places in every window that keep the frame of that number.
    """
    window = options.get(WINDOW)
    if window is None:
        return None
    anchor = getattr(window, "causal_anchor_index", None)
    places = [*([anchor] if anchor is not None and anchor >= 0 else []), *window.index_list]
    for place in retained:
        if place < len(places):
            places[place] = place
    first_guide = getattr(window, "total_frames", 0)  # behind the video's frames come those that guide it
    places += [first_guide + at for at in getattr(window, "guide_frames_indices", ())]
    return Window(max(window.dim - 1, 0), tuple(places))


def masks_of_call(
    regions: Sequence[Region], weights: Sequence[float], sizes: tuple[int, ...], window: Window | None
) -> torch.Tensor:
    """(entries, rows or 1, *sizes): how strong each entry is in the latent of a model call.

    Args:
        regions: of all guided rows, one after the other.
        weights: of the entries that have no mask.
        sizes: of the call's latent without batch and channels.

    Raises:
        ValueError: the call's latent is another part than ComfyUI says, or it has other rows.
    """
    parts = [_stacked(region, weights, sizes, window) for region in regions]
    if all(part.shape[1] == 1 for part in parts) and len({region.area for region in regions}) == 1:
        if all(region.masks == regions[0].masks for region in regions):
            return parts[0]
    return torch.cat([part.expand(-1, region.count, *sizes) for part, region in zip(parts, regions)], 1)


def _stacked(region, weights, sizes, window):
    """(entries, count or 1, *sizes)."""
    masks = [_shown(mask, region, sizes, window) for mask in region.masks]
    like = next(mask for mask in masks if mask is not None)
    rows = max(len(mask) for mask in masks if mask is not None)
    whole = lambda weight: like.new_full((1, *sizes), weight)
    masks = [whole(weight) if mask is None else mask for mask, weight in zip(masks, weights)]
    return torch.stack([mask.expand(rows, *sizes) for mask in masks])


def _shown(mask, region, sizes, window):
    """What the rows show of a mask, (count or 1, *sizes)."""
    if mask is None:
        return None
    known = tuple(mask.shape[1:])
    if window is not None and (window.axis > 0 or len(mask) > 1):
        if max(window.places) >= mask.shape[window.axis]:
            raise ValueError(OTHER_PART.format(found=_named(sizes), known=_named(known)))
        mask = mask[(slice(None),) * window.axis + (list(window.places),)]
    if region.area is not None:
        n = len(region.area) // 2
        for axis, (size, at) in enumerate(zip(region.area[:n], region.area[n:]), 1):
            mask = mask.narrow(axis, at, size)
    if tuple(mask.shape[1:]) != sizes:
        raise ValueError(OTHER_PART.format(found=_named(sizes), known=_named(known)))
    if len(mask) not in (1, region.count):
        raise ValueError(OTHER_ROWS.format(found=region.count, known=len(mask)))
    return mask


def _named(sizes):
    return " x ".join(map(str, sizes))
