"""What is to be known of a run before each of its predictions: whether NAG acts in it, and whether that has changed."""
from ..settings import single
from .caches import CacheRenewal
from .guidance import Guidance, GuidanceRows
from .request import KEY
from .witness import Witness


class Watch:
    """A PREDICT_NOISE wrapper of one run, in front of those of caches.

    Args:
        guider: of the run.
        witness: told of the predictions in which NAG is to act.
    """

    def __init__(self, guider, witness: Witness):
        self.guider, self.witness = guider, witness
        self.cache = CacheRenewal(guider)

    def __call__(self, executor, x, timestep, model_options, *rest, **more):
        uses = self._uses()
        if not all(guidance.always() and _is_always_used(conditioning) for conditioning, guidance in uses):
            sigma = float(timestep[0])  # makes the host wait for the device
            self.cache.at(model_options, frozenset(id(n) for _, guidance in uses for n in guidance.in_force(sigma)))
            uses = [use for use in uses if is_used_at(use[0], sigma) and use[1].acts_at(sigma)]
        if not uses:
            return executor(x, timestep, model_options, *rest, **more)
        with self.witness.prediction():
            return executor(x, timestep, model_options, *rest, **more)

    def _uses(self) -> list[tuple[dict, Guidance]]:
        """Each conditioning that is to be guided, with what guides it."""
        conditionings = [each for conditionings in self.guider.conds.values() for each in conditionings]
        carried = [(conditioning, conditioning["model_conds"].get(KEY)) for conditioning in conditionings]
        rows = [(conditioning, each.cond[0]) for conditioning, each in carried if isinstance(each, GuidanceRows)]
        return [(conditioning, each.guidance) for conditioning, each in rows if each.guided]


def _is_always_used(conditioning):
    return conditioning.get("timestep_start") is None and conditioning.get("timestep_end") is None


def is_used_at(conditioning: dict, sigma: float) -> bool:
    """Whether ComfyUI calls the model with a conditioning, as a guider holds it when it samples, at this sigma."""
    start, end = conditioning.get("timestep_start"), conditioning.get("timestep_end")
    return (start is None or sigma <= single(start)) and (end is None or sigma >= single(end))
