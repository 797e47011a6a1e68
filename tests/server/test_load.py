"""Two hundred prompts of eight clients wait in one queue: models, negatives and strengths mixed, with NAG and without.

Meanwhile the server is killed, once, and started again.
"""
import collections
import hashlib
import itertools
import json
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from graphs import node
from host.client import Client
from host.inside import COMFYUI
from host.server import PACK, ComfyServer

CENSUS = PACK / "tests" / "server" / "census.py"
CLIENTS, DISTINCT, TIMES = 8, 50, 4
KILLED = 50  # prompts, after which the server is killed
WARM = 13  # of each client's prompts, after which its memory is first looked at
MODELS = {  # (a prompt, negatives)
    "playground": ("a circle", ("red", "frame", "white")),
    "tiny Flux": ("a square", ("blue", "frame", "black")),
    "tiny SD3.5": ("a triangle", ("yellow", "frame", "gray")),
    "tiny SDXL": ("a circle on white", ("red", "frame", "green")),
    "tiny Wan": ("a circle moving", ("right", "red", "white")),
}
WAYS = ("NAGModel", "NAGConditioning", "NAGGuider")  # the last has no cfg


def graph_of(model, way, negative, nag_scale, strength, cfg, statistics):
    """A prompt that paints a small picture in two steps, by one of WAYS or without NAG."""
    clip = model == "tiny Wan"
    size = {"width": 64, "height": 64, "batch_size": 1}
    graph = {
        "loader": node("NAGPlaygroundLoader", model=model),
        "positive": node("CLIPTextEncode", clip=["loader", 1], text=MODELS[model][0]),
        "negative": node("CLIPTextEncode", clip=["loader", 1], text=negative),
        "latent": node("EmptyHunyuanLatentVideo", length=13, **size) if clip else node("EmptyLatentImage", **size),
        "decoded": node("VAEDecode", samples=["sampler", 0], vae=["loader", 2]),
        "picture": node("PreviewImage", images=["decoded", 0]),
    }
    nag = {"nag_scale": nag_scale, "strength": strength}
    if way is not None and statistics:
        acting = {"start_percent": 0.0, "end_percent": 1.0, "image_stream": "shared"}
        graph["options"] = node("NAGOptions", **acting, statistics=True)
        nag["options"] = ["options", 0]
    positive, guided = ["positive", 0], ["loader", 0]
    if way == "NAGGuider":
        graph |= {
            "nag": node(way, model=guided, conditioning=positive, nag_negative=["negative", 0], **nag),
            "noise": node("RandomNoise", noise_seed=0),
            "euler": node("KSamplerSelect", sampler_name="euler"),
            "sigmas": node("BasicScheduler", model=guided, scheduler="simple", steps=2, denoise=1.0),
            "sampler": node("SamplerCustomAdvanced", noise=["noise", 0], guider=["nag", 0], sampler=["euler", 0],
                            sigmas=["sigmas", 0], latent_image=["latent", 0]),
        }
        return graph
    if way == "NAGModel":
        graph["nag"] = node(way, model=guided, nag_negative=["negative", 0], **nag)
        guided = ["nag", 0]
    elif way == "NAGConditioning":
        graph["nag"] = node(way, positive=positive, negative=["negative", 0], **nag)
        positive = ["nag", 0]
    graph["sampler"] = node("KSampler", model=guided, seed=0, steps=2, cfg=cfg, sampler_name="euler",
                            scheduler="simple", positive=positive, negative=["negative", 0],
                            latent_image=["latent", 0], denoise=1.0)
    return graph


def distinct():
    """The prompts, no two of which paint the same: each way to NAG does, and at cfg 1 without NAG any negative."""
    with_nag = itertools.product(((3.0, 1.0), (5.0, 1.0), (5.0, 0.5)), (1.0, 3.0))
    settings = [*((WAYS, *each) for each in with_nag), ((None,), (None, None), 3.0)]
    choose = random.Random(17)
    asked = [(model, negative, *each) for model, (_, negatives) in MODELS.items() for negative in negatives
             for each in settings]
    return [graph_of(model, choose.choice(ways if cfg == 1 else ways[:2]), negative, *nag, cfg, choose.random() < 0.5)
            for model, negative, ways, nag, cfg in choose.sample(asked, DISTINCT)]


def digest(images):
    (shown,) = images.values()
    return hashlib.sha256(b"".join(image.tobytes() for image in shown)).hexdigest()


class Load:
    """What became of all prompts.

    painted: (which of the prompts, its picture's digest), as they came. lost: how many were queued when the server was
    killed. censuses: what it held when it was warm, and at the end.
    """

    def __init__(self, server, graphs):
        self.graphs, self.painted = graphs, []
        clients = [Client(server.url) for _ in range(CLIENTS)]
        order = list(range(DISTINCT)) * TIMES
        random.Random(23).shuffle(order)
        with ThreadPoolExecutor(CLIENTS) as pool:
            queued = list(pool.map(self._queue, clients, (order[i::CLIENTS] for i in range(CLIENTS))))
            warm = [pool.submit(self._paint, client, share[:WARM]) for client, share in zip(clients, queued)]
            while len(self.painted) < KILLED and not any(client.done() and client.exception() for client in warm):
                time.sleep(0.01)
            self.lost = len(json.loads(clients[0].get("/queue"))["queue_pending"])
            server.kill()
            server.start()
            for client in warm:
                client.result()
            self.censuses = [census(server)]
            list(pool.map(self._paint, clients, (share[WARM:] for share in queued)))
        self.censuses.append(census(server))

    def _queue(self, client, share):
        return [(which, client.submit(self.graphs[which])) for which in share]

    def _paint(self, client, queued):
        for which, prompt_id in queued:
            self.painted.append((which, digest(client.outlast(self.graphs[which], prompt_id))))


def census(server):
    """What an idle server holds when it has emptied its cache, which newer ComfyUIs keep as long as they can."""
    client = Client(server.url)
    client.post("/free", {"unload_models": True, "free_memory": True})
    for _ in range(2):  # the cache is empty when the first has run, or before it
        history = client.follow(client.submit({"census": node("Census")}))
    return {name: value for name, (value,) in history["outputs"]["census"].items()}


@pytest.fixture(scope="module")
def graphs():
    return distinct()


@pytest.fixture(scope="module")
def load(graphs, tmp_path_factory):
    with ComfyServer(tmp_path_factory.mktemp("load"), COMFYUI, packs=[CENSUS]) as server:
        yield Load(server, graphs)


@pytest.fixture(scope="module")
def alone(graphs, tmp_path_factory):
    """The digests of the prompts by a server that takes nothing from a cache, each after another neighbour."""
    with ComfyServer(tmp_path_factory.mktemp("alone"), COMFYUI, arguments=["--cache-none"]) as server:
        client = Client(server.url)
        yield [digest(client.run(graph)) for graph in graphs]


def test_none_is_lost(load):
    assert load.lost > CLIENTS, "the server was killed when nearly all was done"
    assert collections.Counter(which for which, _ in load.painted) == dict.fromkeys(range(DISTINCT), TIMES)


def test_each_gets_its_own_negative(load, alone):
    assert len(set(alone)) == DISTINCT, "not each NAG or negative had an effect"
    assert [load.graphs[which] for which, painted in load.painted if painted != alone[which]] == []


def test_memory_is_flat(load):
    """No tensor and no module stays of a hundred prompts, and of ours not one object for each prompt of a model.

    The process may grow by what its allocator does: a third of a megabyte a prompt, where a model takes at least four.
    """
    warm, end = load.censuses
    print(f"{(end['rss'] - warm['rss']) / 2**20:.1f} MB in {DISTINCT * TIMES - CLIENTS * WARM} prompts")
    assert warm["ours"] > 0, "the census does not see what is ours"
    assert [end[kept] for kept in ("tensors", "modules")] == [warm[kept] for kept in ("tensors", "modules")]
    assert end["ours"] < warm["ours"] + 10
    assert end["rss"] < warm["rss"] + 32 * 2**20
