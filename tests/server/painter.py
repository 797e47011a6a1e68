"""Prompts that sample a tiny model, by every way to NAG, and a client that wants their latents' digests."""
import time

from graphs import node
from host.client import Client, ExecutionError

STEPS = 3
PATIENCE = 120  # seconds for a prompt
STRENGTH = {"nag_scale": 5.0, "nag_tau": 2.5, "nag_alpha": 0.25, "nag_sigma_end": 0.0}
SAMPLING = {"seed": 0, "steps": STEPS, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
PROMPTS = {"positive": ["positive", 0], "negative": ["negative", 0]}
NAG_NEGATIVE = {"nag_negative": ["negative", 0]}
WAYS = ("NAGModel", "separate", "NAGConditioning", "NAGGuider", "NAGSampler")


def sources(family):
    """A family's tiny model, its prompts and its latent."""
    return {
        "model": node("TinyModel", family=family),
        "positive": node("TinyText", family=family, seed=1, wrong="no"),
        "negative": node("TinyText", family=family, seed=2, wrong="no"),
        "latent": node("TinyLatent", family=family),
    }


def sampling(family, way=None, fault=None, fault_first=True):
    """A prompt that samples, by one of WAYS or without NAG, with a fault in it or without.

    fault: the inputs of a Fault. fault_first: whether it is in front of NAG Model, or else behind it.
    """
    graph = {**sources(family), "report": node("Report", latent=["sampler", 0])}
    if fault is None:
        return graph | _sampled(way, ["model", 0])
    graph["fault"] = node("Fault", model=["model", 0], **fault)
    if fault_first:
        return graph | _sampled(way, ["fault", 0])
    graph |= _sampled(way, ["model", 0])
    graph["fault"]["inputs"]["model"], graph["sampler"]["inputs"]["model"] = ["nag", 0], ["fault", 0]
    return graph


def _sampled(way, model):
    """The nodes from a model to the node "sampler"; what NAGModel and NAGConditioning give comes from "nag"."""
    latent = {"latent_image": ["latent", 0]}
    if way == "NAGGuider":
        return {
            "guider": node("NAGGuider", model=model, conditioning=["positive", 0], **NAG_NEGATIVE, **STRENGTH),
            **custom_sampler(model, steps=STEPS),
        }
    if way == "NAGSampler":
        return {"sampler": node("NAGSampler", model=model, **PROMPTS, **latent, **SAMPLING)}
    nodes, positive = {}, ["positive", 0]
    if way == "NAGConditioning":
        nodes["nag"] = node("NAGConditioning", **PROMPTS)
        positive = ["nag", 0]
    elif way is not None:
        nodes["nag"] = node("NAGModel", model=model, **NAG_NEGATIVE)
        model = ["nag", 0]
    if way == "separate":
        nodes["options"] = node("NAGOptions", start_percent=0.0, end_percent=1.0, image_stream="separate")
        nodes["nag"]["inputs"]["options"] = ["options", 0]
    inputs = {"model": model, **PROMPTS, "positive": positive, **latent, **SAMPLING}
    return nodes | {"sampler": node("KSampler", **inputs)}


def custom_sampler(model, steps):
    """SamplerCustomAdvanced as the node "sampler", with the guider of the node "guider"."""
    wires = {"noise": ["noise", 0], "guider": ["guider", 0], "sampler": ["euler", 0], "sigmas": ["sigmas", 0]}
    return {
        "noise": node("RandomNoise", noise_seed=0),
        "euler": node("KSamplerSelect", sampler_name="euler"),
        "sigmas": node("BasicScheduler", model=model, scheduler="simple", steps=steps, denoise=1.0),
        "sampler": node("SamplerCustomAdvanced", **wires, latent_image=["latent", 0]),
    }


class Painter(Client):
    """A client that waits without a websocket, since its prompts take no time."""

    def ended(self, prompt_id):
        """The history of a prompt when it has ended. Raises ExecutionError if it failed."""
        until = time.monotonic() + PATIENCE
        while (history := self.history(prompt_id)) is None:
            assert time.monotonic() < until, "the prompt does not end"
            time.sleep(0.005)
        for kind, details in history["status"]["messages"]:
            if kind in ("execution_error", "execution_interrupted"):
                raise ExecutionError(details)
        return history

    def digest(self, prompt_id):
        """The digest of a finished prompt's latent, which was sampled for it and is finite."""
        history = self.ended(prompt_id)
        assert "sampler" not in dict(history["status"]["messages"])["execution_cached"]["nodes"]
        report = history["outputs"]["report"]
        assert report["finite"] == [True]
        return report["digest"]

    def paint(self, graph):
        return self.digest(self.submit(graph))
