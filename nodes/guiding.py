"""What the nodes that ask for NAG have in common."""
from types import ModuleType

from comfy_api.latest import io

from ..patches import capabilities
from ..patches.sampling.request import Request
from ..patches.settings import Settings
from .report import Advice, BlankNegative, Failure, report_of


class GuidingNode(io.ComfyNode):
    """A node that asks for NAG, in its own name. Its schema has `**inputs.OWN_NAME`."""

    @classmethod
    def guided_model(cls, model, negative: list | None, settings: Settings):
        """A model with NAG; negative: a CONDITIONING, or None for that of the sampler. For errors see guide_model."""
        return engine().guide_model(model, cls.request(settings, negative))

    @classmethod
    def guided_conditioning(cls, positive: list, negative: list, settings: Settings) -> list:
        """A conditioning with NAG. For errors see guide_conditioning."""
        return engine().guide_conditioning(positive, cls.request(settings, negative))

    @classmethod
    def request(cls, settings: Settings, negative: list | None) -> Request:
        """What the node asks for."""
        node_id = cls.hidden and cls.hidden.unique_id
        return Request(
            settings,
            negative,
            report=report_of(node_id),
            advise=Advice(node_id),
            fail=Failure(node_id),
            has_blank_negative=BlankNegative(node_id),
        )


def engine() -> ModuleType:
    """The module `patches.sampling.entry`, imported only here: the nodes are there on any ComfyUI.

    Raises:
        RuntimeError: this ComfyUI lacks what the engine stands on; it names that.
    """
    capabilities.check()
    from ..patches.sampling import entry

    return entry
