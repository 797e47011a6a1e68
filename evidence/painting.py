"""Painting rows: by ComfyUI's own sampling, and this pack's own nodes and ComfyUI's as people connect them."""
import sys
from dataclasses import dataclass

import torch
from host.inside import load_pack
from playground.measure import pack_nodes

from .variants import equation

SEEDS_APART = 1000  # of one prompt and the next: no two pictures of a row begin with the same noise
BATCH = {"cpu": 64, "cuda": 1024}


class Nodes:
    """This pack's nodes, applied by the names of their settings."""

    def __init__(self):
        self.pack = load_pack()
        nodes = pack_nodes(self.pack)
        self.model, self.options = nodes["NAGModel"], nodes["NAGOptions"]

    @property
    def equations(self):
        """The equations that NAG Options offers beside the paper's; none where there is no choice."""
        found = {each.id: each for each in self.options.define_schema().inputs}.get("equation")
        return tuple(name for name in (found.options if found else ()) if name != "nag")

    def guided(self, model, row):
        """The model as a row's nodes patch it."""
        if row.pag:
            model = with_pag(model, row.pag)
        if row.nag is None:
            return model
        of_options = {each.id for each in self.options.define_schema().inputs}
        settings = dict(row.nag)
        options = {name: settings.pop(name) for name in list(settings) if name in of_options}
        if options:
            settings["options"] = self.options.execute(**{"end_percent": 1.0, **options}).result[0]
        return self.model.execute(model=model, **settings).result[0]


def with_pag(model, scale):
    """The model as ComfyUI's PerturbedAttentionGuidance patches it."""
    from comfy_extras.nodes_pag import PerturbedAttentionGuidance as Node

    return Node.execute(model, scale).result[0] if hasattr(Node, "execute") else Node().patch(model, scale)[0]


@dataclass(frozen=True)
class Prompts:
    """The prompts of a row's pictures, each encoded once.

    Args:
        texts: (positive, negative) of each case.
        case, seed: of each picture.
    """

    texts: tuple[tuple[str, str], ...]
    case: tuple[int, ...]
    seed: tuple[int, ...]

    @classmethod
    def of(cls, texts, seeds, first=0):
        """`seeds` pictures of each case, the first of it with this seed, and SEEDS_APART more for each case before."""
        pictures = [(case, SEEDS_APART * case + first + seed) for case in range(len(texts)) for seed in range(seeds)]
        return cls(tuple(texts), *map(tuple, zip(*pictures)))


class Painter:
    """Paints rows with one model's weights.

    Args:
        name: of the model, for playground.networks.
        loaded: (ModelPatcher, CLIP, VAE).
        nodes: Nodes.
        prompts: Prompts.
        batch: how many pictures at once.
    """

    @torch.inference_mode()
    def __init__(self, name, loaded, nodes, prompts, batch):
        import comfy.sample
        from playground import networks

        self.nodes, self.prompts, self.batch = nodes, prompts, batch
        self.model, clip, _ = loaded
        texts = dict.fromkeys(text for case in prompts.texts for text in case)
        self.encoded = {text: clip.encode_from_tokens_scheduled(clip.tokenize(text))[0] for text in texts}
        self.latent = torch.zeros(1, *networks.latent_shape(name))
        self.noise = torch.cat([comfy.sample.prepare_noise(self.latent, seed) for seed in prompts.seed])

    @torch.inference_mode()
    def paint(self, row):
        """(pictures, 3, ...) from -1 to 1, in the order of the prompts: what KSampler and VAEDecode give, before the
        decoder enlarges it."""
        from playground import networks

        model, texts = self.nodes.guided(self.model, row), [self.prompts.texts[case] for case in self.prompts.case]
        latents = torch.empty_like(self.noise)
        with equation(self.nodes.pack, row.variant):
            for indices in self._batches(texts):
                positive, negative = (self._stacked([texts[i][which] for i in indices]) for which in (0, 1))
                latents[indices] = self._sampled(model, row, positive, negative, self.noise[indices])
        return networks.to_picture(latents).clamp(-1, 1)

    def _sampled(self, model, row, positive, negative, noise):
        import comfy.sample

        return comfy.sample.sample(model, noise, row.steps, row.cfg, "euler", "simple", positive, negative,
                                   torch.zeros_like(noise), disable_pbar=True, seed=0).to(noise)

    def _batches(self, texts):
        """Lists of pictures whose prompts are as long, and their negatives, too."""
        alike = {}
        for i, pair in enumerate(texts):
            alike.setdefault(tuple(self.encoded[text][0].shape for text in pair), []).append(i)
        return [of[at:at + self.batch] for of in alike.values() for at in range(0, len(of), self.batch)]

    def _stacked(self, texts):
        """One conditioning with a row for each text."""
        parts = [self.encoded[text] for text in texts]
        further = dict(parts[0][1])
        if torch.is_tensor(further.get("pooled_output")):
            further["pooled_output"] = torch.cat([more["pooled_output"] for _, more in parts])
        return [[torch.cat([tokens for tokens, _ in parts]), further]]


def start(device):
    """ComfyUI in this process, on "cpu" or "cuda". To be called before anything imports a part of it."""
    from benchmarks.host import start as start_comfyui

    start_comfyui(device == "cuda")
    if device == "cuda":  # tiny models: the products of matrices are as exact as on a CPU
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def versions():
    """What a run was made with, for the notes of its results."""
    from comfyui_version import __version__ as comfyui

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return {"comfyui": comfyui, "torch": torch.__version__, "python": sys.version.split()[0], "device": device}
