"""Times of steps, of several methods by turns, each sampling as ComfyUI does."""
import gc
import statistics
import time
from dataclasses import dataclass, field

import comfy.k_diffusion.sampling
import comfy.samplers
import torch


@dataclass
class Figures:
    """What was measured of one method. A round's runs lie close together, so ratios are taken within it.

    Args:
        steps: seconds of each step, run by run.
        peak: bytes of GPU memory that a run needed, weights included.
        reason: why there are no figures, if there are none.
    """

    steps: list[list[float]] = field(default_factory=list)
    peak: int = 0
    reason: str = ""

    def per_step(self, first=0):
        return [statistics.fmean(run[first:]) for run in self.steps]

    def ratios(self, base, first=0):
        """(lower quartile, median, upper quartile) of the time per step over base's in the same round."""
        ratios = [a / b for a, b in zip(self.per_step(first), base.per_step())]
        return quartiles(ratios)


def quartiles(values):
    if len(values) == 1:
        return values * 3
    return statistics.quantiles(values, n=4, method="inclusive")


class Stopwatch:
    """Seconds between marks: on a GPU by its own events, which keep nobody waiting; on a CPU those that this thread,
    the only one that computes, has worked, so that other programs hardly matter."""

    def __init__(self, device):
        self.on_gpu, self.marks = device.type == "cuda", []

    def mark(self):
        if self.on_gpu:
            self.marks.append(torch.cuda.Event(enable_timing=True))
            self.marks[-1].record()
        else:
            self.marks.append(time.thread_time())

    def seconds(self):
        if self.on_gpu:
            torch.cuda.synchronize()
            return [a.elapsed_time(b) / 1000 for a, b in zip(self.marks, self.marks[1:])]
        return [b - a for a, b in zip(self.marks, self.marks[1:])]


def timed_euler(stopwatch):
    """ComfyUI's euler, which marks its beginning and the end of each step."""

    def sample(model, x, sigmas, extra_args=None, callback=None, disable=None):
        if not stopwatch.on_gpu:  # a first step has to fetch memory from the system, which PyTorch keeps on a GPU only
            model(x, sigmas[:1], **extra_args)
        stopwatch.mark()
        return comfy.k_diffusion.sampling.sample_euler(
            model, x, sigmas, extra_args=extra_args, callback=lambda _: stopwatch.mark(), disable=True
        )

    return comfy.samplers.KSAMPLER(sample)


@torch.inference_mode()
def run(guider, size, steps):
    """Sample once: (seconds of each step, peak memory)."""
    patcher = guider.model_patcher
    device = patcher.load_device
    sigmas = comfy.samplers.calculate_sigmas(patcher.model.model_sampling, "simple", steps)
    generator = torch.Generator().manual_seed(7)
    noise = size.latents(lambda *shape: torch.randn(shape, generator=generator))
    stopwatch = Stopwatch(device)
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    out = guider.sample(noise, size.latents(torch.zeros), timed_euler(stopwatch), sigmas, disable_pbar=True, seed=7)
    parts = out.unbind() if getattr(out, "is_nested", False) else (out,)
    if not all(part.isfinite().all() for part in parts):
        raise ArithmeticError("the result is not finite")
    return stopwatch.seconds(), torch.cuda.max_memory_allocated() if device.type == "cuda" else 0


@dataclass(frozen=True)
class Plan:
    """
    Args:
        steps: of each run.
        rounds: in which each method runs once; at most so many,
        seconds: and none begun after so many, but at least three.
    """

    steps: int
    rounds: int
    seconds: float


def measure(patcher, size, methods, plan):
    """Figures of each method, by key."""
    figures, guiders = {method.key: Figures() for method in methods}, {}
    for method in methods:  # warm up, and see what runs at all
        guiders[method.key] = attempt(figures[method.key], lambda m=method: _warmed_up(m.guider(patcher, size), size))
    began = time.monotonic()
    for turn in range(plan.rounds):
        if turn >= 3 and time.monotonic() - began > plan.seconds:
            break
        running = [method for method in methods if not figures[method.key].reason]
        for method in running[::-1] if turn % 2 else running:
            found = figures[method.key]
            result = attempt(found, lambda m=method: run(guiders[m.key], size, m.steps or plan.steps))
            if result:
                found.steps.append(result[0])
                found.peak = max(found.peak, result[1])
    return figures


def _warmed_up(guider, size):
    run(guider, size, 1)
    return guider


def attempt(figures, action):
    """What the action gives; None if it fails, with the reason among the figures."""
    try:
        return action()
    except torch.cuda.OutOfMemoryError:
        figures.reason = "does not fit in memory"
    except Exception as error:
        message = str(error).strip().splitlines() or [""]
        figures.reason = f"{type(error).__name__}: {message[0][:120]}"
    free_memory()
    return None


def free_memory():
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
