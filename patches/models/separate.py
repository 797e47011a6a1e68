"""image_stream "separate": in Flux's single blocks the image is computed once for each prompt, as in the authors' code.

The negative's image waits at the doors as the negative's text does. It begins in the first block in which NAG acts, as
a copy of the positive's, and ends where a block is not chosen: there the image is computed once.
"""
import torch

from ..attention.override import OVERRIDE
from ..attention.separate import SeparateAttention
from ..attention.sizes import Sizes
from .arguments import OPTIONS, Arguments


class TwoImageStreams:
    """Hooks that put the negative's image behind the sequence inside of a block, and take it off behind it.

    Args:
        visit: whose blocks these are.
        control: residuals of a ControlNet, as ComfyUI passes them, or None.
    """

    def __init__(self, visit, control: dict | None):
        self.visit = visit
        self.residuals = (control or {}).get("output", ())
        self.image = None  # the negative's, between two blocks, and inside of one in which NAG acts
        self.sizes = self.places = None
        self.n_controlled = 0  # blocks whose residuals it has

    @property
    def start(self) -> int:
        """Where it begins in a block's sequence."""
        return sum(self.sizes.each[:3])

    def enter(self, index: int, given: Arguments):
        """A hook for `in_front` of the block of this number."""
        if not self.visit.acts:
            self.image = None
            return None
        n_text = self.visit.sizes.text
        tokens, places = given["x"], given["pe"]
        if self.image is None:
            self.image = tokens[:, n_text:]
            n_image = self.image.shape[1]
            self.sizes = Sizes(*self.visit.sizes.each[:2], n_image, n_image)
        else:
            self._add_control(index)
        self.n_controlled = index
        options = given[OPTIONS]
        earlier = {OVERRIDE: options[OVERRIDE].earlier}
        attention = SeparateAttention(self.visit.equation, earlier, self.sizes, self.visit.lengths)
        return given.changed(
            x=torch.cat((tokens, self.image), 1),
            pe=torch.cat((places, places[:, :, n_text:]), 2),
            transformer_options=attention.install(options),
        )

    def leave(self, block, args, tokens):
        if not self.visit.acts:
            return None
        self.image = tokens[:, self.start :]
        return tokens[:, : self.start]

    def _add_control(self, index):
        """The model adds residuals to the first image only, also behind blocks that another node skips.

        index: of the block that comes next.
        """
        for residual in self.residuals[self.n_controlled : index]:
            if residual is not None:
                self.image[:, : residual.shape[1]] += residual
