"""Families whose image attends to the text where no override reaches."""
from oracle.lockstep import Tokens

from .builder import NOBODYS, TEXT, DoorFamily, model, patches_of

PIXART = {
    "image_model": "pixart_sigma", "hidden_size": 96, "depth": 2, "num_heads": 4, "caption_channels": TEXT,
    "model_max_length": 30, "micro_condition": False, "pe_interpolation": 2,
}  # fmt: skip
WIDE = (4, 8, 60)  # PixArt counts places in units of pictures of this size


def sizes():
    return {"width": 96, "height": 64, "aspect_ratio": 0.7}


of_pixart = Tokens(patches_of(2), cross=True, projection="blocks.N.cross_attn.proj")
PROJECTED = [
    DoorFamily("pixart_sigma", model("PixArt", "PixArtSigma", **PIXART), None, NOBODYS, WIDE, tokens=of_pixart),
    DoorFamily(
        "pixart_alpha",
        model("PixArt", "PixArtAlpha", **{**PIXART, "image_model": "pixart_alpha", "micro_condition": True}),
        None, NOBODYS, WIDE,
        tokens=of_pixart, inputs=sizes,
    ),
]  # fmt: skip
