"""Tells a run in which NAG guided nothing, though it should have, from one in which there was nothing to do."""
from .settings import single

NOTHING_GUIDED = (
    "NAG was to act in this sampling run, but no attention was guided: the result would have been the one without NAG. "
    "Another node has put its own attention or its own sampling in the place of ComfyUI's, or a cache has skipped the "
    "steps in which NAG was to act. Take the other nodes that change the model out, one by one, to find which; or take "
    "out NAG."
)


class Witness:
    """What happened in one sampling run.

    Attributes:
        guided: attention was guided. Set where the model is traced, too, so it is never read there.
    """

    def __init__(self):
        self.guided = False
        self._came = self._acting = False

    def see_call(self, acting: bool) -> None:
        """A model call had rows with guidance; `acting`: NAG was to act at its sigma."""
        self._came = True
        self._acting |= acting

    def check(self, expected: bool) -> None:
        """At the end of the run. `expected`: by the run's sigmas, NAG was to act at some step.

        Raises:
            RuntimeError: no attention was guided, though NAG was to act in a call, or in a step of which no call came.
        """
        if not self.guided and (self._acting or expected and not self._came):
            raise RuntimeError(NOTHING_GUIDED)


def is_used_at(conditioning: dict, sigma: float) -> bool:
    """Whether ComfyUI calls the model with a conditioning, as a guider holds it when it samples, at this sigma."""
    start, end = conditioning.get("timestep_start"), conditioning.get("timestep_end")
    return (start is None or sigma <= single(start)) and (end is None or sigma >= single(end))
