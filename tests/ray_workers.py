"""A worker as Raylight has them, one for each GPU, as far as a NAG node and a sampler meet it; on the CPU, by Ray.

Ray imports this module in the workers' processes, where no other part of ComfyUI has been imported yet.
"""
import os
import signal
import sys
from pathlib import Path

from host.environment import ROOT
from host.inside import COMFYUI, load_pack, start_comfyui

DATA_PARALLEL = {"is_xdit": False, "is_fsdp": False, "pipefusion_enabled": False, "dp_degree": 2}
STEPS = 4


def sampled(model, seed, positive, negative, latent, cfg=1.0, callback=None):
    """What a KSampler makes, on one thread: how many there are may change the last bits."""
    import comfy.sample
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            latent = comfy.sample.fix_empty_latent_channels(model, latent)
            noise = comfy.sample.prepare_noise(latent, seed)
            given = "euler", "simple", positive, negative, latent
            return comfy.sample.sample(model, noise, STEPS, cfg, *given, seed=seed, callback=callback)
    finally:
        torch.set_num_threads(threads)


class Worker:
    """A ComfyUI with the playground's model, and with the pack if its folder is given."""

    def __init__(self, folder=None):
        start_comfyui(COMFYUI, "--base-directory", str(ROOT / "tests"))
        if folder is not None:
            load_pack(folder)
        from playground import networks

        self.model = networks.load("playground")[0]
        self.parallel_dict = DATA_PARALLEL

    def get_parallel_dict(self):
        return self.parallel_dict

    def set_parallel_dict(self, parallel_dict):
        self.parallel_dict = parallel_dict

    def model_function_runner(self, fn, *args, **kwargs):
        self.model = fn(self.model, *args, **kwargs)

    def modules(self):
        """The names under which this process has the pack's."""
        return [name for name in sys.modules if name.endswith("patches.sampling.request")]

    def sample(self, *given, dies=None, **more):
        """As `sampled`. dies: a file; where it is not there yet, it is made, and the process is killed in mid-run."""

        def callback(step, *_):
            if dies is not None and step == 1 and not Path(dies).exists():
                Path(dies).touch()
                os.kill(os.getpid(), signal.SIGKILL)

        return sampled(self.model, *given, callback=callback, **more)
