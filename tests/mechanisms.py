"""One row for each mechanism by which NAG gets into a model: for tests of what no family's facts can change.

What a family has of its own (its text, its positions, what else it is given) is tested for each of them elsewhere. Here
a further family is only a row where NAG gets into it in a further way.
"""
import pytest

import door_families
import families

BY_NAME = families.BY_NAME | door_families.BY_NAME
MECHANISMS = [
    BY_NAME[name]
    for name in (
        "sdxl",  # the UNet's own patches
        "sd35_large",  # two streams, of which the text's has a vector for each prompt
        "sd35_medium",  # ... and the image attends to itself alone, too
        "sd3_context_processor",  # ... and a module mixes the text's tokens
        "flux_dev",  # two streams, then one, with a vector for each prompt
        "wan21_i2v",  # cross-attention, to an image's keys, too
        "wan21_vace",  # cross-attention in blocks of two kinds
        "z_image",  # doors: one stream; the image's positions begin behind the text's
        "qwen_image",  # doors: two streams
        "chroma",  # doors: two streams, then one
        "hunyuan_video",  # ... with a vector for each prompt; in some ComfyUI the text is behind the image
        "hidream_without_experts",  # ... behind the image, with text of its own for each block
        "mochi",  # two streams, the text behind the image and in front of its padding
        "cosmos_predict2",  # doors: cross-attention
        "ltx2",  # doors: cross-attention to two texts, with masks
        "pixart_sigma",  # doors: cross-attention that no override reaches
        "stable_cascade",  # ... in the block itself, and the text has another name
        "ernie_image",  # doors: one stream, which no override reaches
    )
]


def is_here(family):
    """Whether this ComfyUI has the model. Where it has not, `family.patcher()` skips the test."""
    try:
        family.patcher()
    except pytest.skip.Exception:
        return False
    return True


MECHANISM_AND_STREAM = [(family, stream) for family in MECHANISMS for stream in family.image_streams]
