"""Families whose image attends to the text where no override reaches: the prompts meet in front of the projection."""
from ..doors import Door, Doors
from ..projection import Projection
from ..transformer import NOBODYS, Transformer

PIXART = Transformer(
    families={"PixArt": NOBODYS},
    text_encoder="T5-XXL (CLIPLoader, type pixart)",
    doors=Doors(
        (Door("blocks", text="y", cross="cross_attn", projection=Projection("proj", queries="q_linear", text="cond")),)
    ),
    width="y_embedder.y_proj.fc1",
)

PROJECTED = {
    "comfy.ldm.pixart.pixartms.PixArtMS": PIXART,
}
