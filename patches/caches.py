"""Keeps ComfyUI's EasyCache and LazyCache from answering a step with NAG by one without it, or the other way round.

They skip a step of the sampling by taking the last step's change for it. Where NAG turns on or off, that would be the
change by another guidance: there the caches begin anew, as at the start of a run.
"""
from collections.abc import Sequence

from comfy.patcher_extension import WrappersMP

from .conditioning import Guidance

HOLDER = "easycache"  # under which both keep in the transformer_options what they remember


def renew_at_changes(key: str, guider, guidances: Sequence[Guidance]) -> None:
    """Watch the steps of a run, if it has such a cache and NAG does not act the same way in all of them.

    Args:
        key: names the wrapper that this adds to the run's own model_options.
        guider: of the run.
        guidances: of the run's conditionings.
    """
    options = guider.model_options.get("transformer_options", {})
    if not hasattr(options.get(HOLDER), "clone") or all(guidance.always() for guidance in guidances):
        return
    wrappers = options.setdefault("wrappers", {})
    others = dict(wrappers.get(WrappersMP.PREDICT_NOISE, {}))
    watches = [*others.pop(key, ()), _Watch(guider, guidances)]
    wrappers[WrappersMP.PREDICT_NOISE] = {key: watches, **others}  # in front of LazyCache's


class _Watch:
    """A PREDICT_NOISE wrapper."""

    def __init__(self, guider, guidances):
        self.guider, self.guidances = guider, guidances
        self.in_force = None

    def __call__(self, executor, x, timestep, model_options, *rest, **more):
        sigma = float(timestep[0])
        in_force = [
            guidance.low <= sigma <= guidance.high and negative.low <= sigma <= negative.high
            for guidance in self.guidances
            for negative in guidance.negatives
        ]
        if self.in_force not in (None, in_force):
            options = model_options["transformer_options"]
            options[HOLDER] = options[HOLDER].clone().prepare_timesteps(self.guider.inner_model.model_sampling)
        self.in_force = in_force
        return executor(x, timestep, model_options, *rest, **more)
