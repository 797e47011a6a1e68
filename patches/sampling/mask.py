"""How much each entry of the negative counts, and where, as ComfyUI's nodes for regions say it of a conditioning."""
from collections.abc import Sequence

import comfy.samplers
import comfy.utils
import torch

NO_PICTURE = (
    "The NAG negative has a mask, but this model makes sound alone. Take Conditioning (Set Mask) out; an area may "
    "stay, whose y and height are times."
)
REGION = ("area", "strength", "mask", "mask_strength")  # of an entry


def weight_of(entry: dict) -> float:
    """How much an entry counts, wherever its mask or its area is: at least 0."""
    return max(entry.get("strength", 1.0) * (entry.get("mask_strength", 1.0) if "mask" in entry else 1.0), 0.0)


def unmaskable(n_axes: int) -> str | None:
    """Why there are no masks for a latent of so many axes besides batch and channels, and what to do; or None."""
    return NO_PICTURE if n_axes < 2 else None


def mask_of(entry: dict, sizes: Sequence[int], rows: int, device: torch.device) -> torch.Tensor | None:
    """How strong an entry acts at each place, its weight included; None if everywhere alike.

    By ComfyUI's own functions: an area fades at its edges, as it does for a positive. A mask holds for all frames of a
    video, or has some of its own.

    Args:
        entry: a conditioning as a guider holds it, not yet encoded.
        sizes: those of the run's latent without batch and channels: ([frames,] height, width), or a sound's.
        rows: of the run's latent.

    Returns:
        (1 or rows, *sizes), float32, at least 0.

    Raises:
        ValueError: a mask for what is no picture.
    """
    entry = {name: entry[name] for name in (*REGION, "set_area_to_bounds") if entry.get(name) is not None}
    if entry.pop("set_area_to_bounds", False) and "mask" in entry:
        entry.pop("area", None)  # the mask says it all: outside of its bounds it is 0
    if not {"mask", "area"} & entry.keys():
        return None
    n_rows = 1
    if "mask" in entry:
        reason = unmaskable(len(sizes))
        if reason is not None:
            raise ValueError(reason)
        mask = _in_frames(entry["mask"].float(), sizes)
        n_rows, entry["mask"] = min(len(mask), rows), mask
    (resolved,) = resolved_regions([entry], sizes, device)
    latent = torch.ones(n_rows, 1, *sizes, device=device)
    part = comfy.samplers.get_area_and_mult({**resolved, "model_conds": {}, "uuid": None}, latent, None)
    mask, window = torch.zeros_like(latent), latent.ndim * [slice(None)]
    if part.area is not None:
        n = len(sizes)
        window[2:] = [slice(at, at + size) for size, at in zip(part.area[:n], part.area[n:])]
    mask[tuple(window)] = part.mult
    return comfy.utils.repeat_to_batch_size(mask[:, 0].clamp_min(0), 1 if n_rows == 1 else rows)


def resolved_regions(entries: list[dict], sizes: Sequence[int], device: torch.device) -> list[dict]:
    """Entries whose areas are in pixels of the latent, and whose masks are of its size."""
    entries = list(entries)
    comfy.samplers.resolve_areas_and_cond_masks_multidim(entries, torch.Size(sizes), device)
    return entries


def _in_frames(mask, sizes):
    """(1 or rows, [frames,] height, width) of a mask, which nodes give as (rows or frames, height, width)."""
    mask = mask if mask.ndim > 2 else mask.unsqueeze(0)
    if len(sizes) == 2:
        return mask
    n = sizes[0]
    if mask.ndim == 3:
        mask = mask.unsqueeze(1 if n == 1 else 0)  # a picture's rows, which some models take for videos of one frame
    n_given = mask.shape[1]
    if n_given in (1, n):
        return mask.expand(-1, n, -1, -1)
    per_frame, rest = divmod(n_given - 1, max(n - 1, 1))
    if rest == 0 and n > 1:  # as video models compress it: the first frame by itself, then some at a time
        others = mask[:, 1:].unflatten(1, (n - 1, per_frame)).mean(2)
        return torch.cat((mask[:, :1], others), 1)
    return torch.nn.functional.adaptive_avg_pool3d(mask, (n, *mask.shape[2:]))
