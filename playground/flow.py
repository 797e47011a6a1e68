"""A network of the playground and its text model as one function, for training: and plain sampling with it."""
import copy
import pathlib

import comfy.samplers
import torch

from . import networks

# Of how many prompts a network in training is not told the pooled text, as Stable Diffusion 3 was not of 46 % (its
# paper): so it reads all of a prompt from the tokens, too, which are what guidance of attention works on.
WITHHELD = 0.5


class Flow(torch.nn.Module):
    """The velocity of noisy latents, given prompts.

    name: one of networks.NAMES. base: its comfy.model_base.BaseModel. clip: its comfy.sd.CLIP.
    """

    def __init__(self, name, base, clip):
        super().__init__()
        self.name, self.sampling = name, base.model_sampling
        self.model, self.encoder = base.diffusion_model.float(), networks.text_model(clip).float()

    @classmethod
    def untrained(cls, name):
        flow = cls(name, *networks.build(name))
        networks.initialise(name, flow.model, flow.encoder)
        return flow

    @classmethod
    def load(cls, name, which):
        """which: what networks.load() takes."""
        model, clip, _ = networks.load(which)
        return cls(name, model.model, clip)

    def forward(self, x, sigma, tokens, cfg=1.0):
        """x: (B, *latent_shape(name)). sigma: (B,), 1 for all noise, 0 for none. tokens: (B, L) long. cfg: against the
        empty prompt. Gives (B, *latent_shape(name)), from picture to noise."""
        if cfg != 1:
            x, sigma = torch.cat([x, x]), torch.cat([sigma, sigma])
            tokens = torch.cat([tokens, self.empty(tokens.device).expand_as(tokens)])
        context, pooled = networks.encode(self.encoder, tokens)
        if self.training:
            pooled = pooled * (torch.rand(len(pooled), 1, device=pooled.device) >= WITHHELD)
        velocity = networks.velocity(self.name, self.model, x, sigma, context, pooled)
        if cfg == 1:
            return velocity
        positive, negative = velocity.chunk(2)
        return torch.lerp(negative, positive, cfg)

    def empty(self, device):
        """(1, L): the tokens of the empty prompt."""
        if not hasattr(self, "_empty"):
            self.register_buffer("_empty", networks.tokens(self.name, [""]).to(device), persistent=False)
        return self._empty

    def sigmas(self, steps):
        """steps + 1 floats: what KSampler's scheduler "simple" gives."""
        return comfy.samplers.calculate_sigmas(self.sampling, "simple", steps).tolist()

    @torch.no_grad()
    def sample(self, noise, tokens, steps, cfg=1.0, batch=512):
        """What KSampler gives with "euler" and "simple". noise: (B, *latent_shape(name)). tokens: (B, L)."""
        sigmas, done = self.sigmas(steps), []
        for x, words in zip(noise.split(batch), tokens.split(batch)):
            for sigma, after in zip(sigmas, sigmas[1:]):
                x = x + (after - sigma) * self(x, x.new_full((len(x),), sigma), words, cfg)
            done.append(x)
        return torch.cat(done)

    def save(self, path, notes):
        """notes: metadata, names to strings."""
        networks.save(self.name, self.model, self.encoder, pathlib.Path(path), notes)

    def average(self):
        """A copy that does not learn, to hold the moving average of the weights."""
        sampling, self.sampling = self.sampling, None
        copied = copy.deepcopy(self).requires_grad_(False).eval()
        self.sampling = copied.sampling = sampling
        return copied


def shifted(times, shift):
    """Times from 0 to 1 moved towards 1, the noise; a shift of 1 leaves them."""
    return shift * times / (1 + (shift - 1) * times)
