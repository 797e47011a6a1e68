"""What the tests of ComfyUI's EasyCache and LazyCache have in common."""
import pytest

STEPS = 6
# When NAG acts, and the steps that run: two, from which the cache learns, at the start and where NAG turns on or off.
WINDOWS = {
    "throughout": ({}, {0, 1}),
    "stops early": ({"end_percent": 0.45}, {0, 1, 3, 4}),
    "starts late": ({"start_percent": 0.45}, {0, 1, 3, 4}),
}
every_window = pytest.mark.parametrize("window", WINDOWS)
SKIPPING_ALL = {"reuse_threshold": 1e9, "start_percent": 0.0, "end_percent": 1.0, "verbose": False}


class OfDenoised:
    """The oracle of LazyCache, a PREDICT_NOISE wrapper.

    In other steps than these, the last change of x by the denoising is taken.
    """

    def __init__(self, computed):
        self.computed, self.step, self.change = computed, 0, None

    def __call__(self, executor, x, *args):
        if self.step in self.computed:
            self.change = executor(x, *args) - x
        self.step += 1
        return x + self.change
