"""Keeps ComfyUI's EasyCache and LazyCache from answering a step with NAG by one without it, or the other way round.

They skip a step of the sampling by taking the last step's change for it. Where NAG turns on or off, that would be the
change by another guidance: there the caches begin anew, as at the start of a run.
"""
from collections.abc import Hashable

HOLDER = "easycache"  # under which both keep in the transformer_options what they remember


class CacheRenewal:
    """Renews such a cache in one run, if there is one.

    Args:
        guider: of the run.
    """

    def __init__(self, guider):
        self.guider, self.in_force = guider, None

    @property
    def needed(self) -> bool:
        """Whether the run has such a cache."""
        return hasattr(self.guider.model_options.get("transformer_options", {}).get(HOLDER), "clone")

    def at(self, model_options: dict, in_force: Hashable) -> None:
        """To be called before each prediction. `in_force`: what guides it; if that has changed, the cache is new."""
        if self.in_force not in (None, in_force) and self.needed:
            options = model_options["transformer_options"]
            options[HOLDER] = options[HOLDER].clone().prepare_timesteps(self.guider.inner_model.model_sampling)
        self.in_force = in_force
