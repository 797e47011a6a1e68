"""ComfyUI-NAG's samplers in the server, also where a pack beside ours registers nodes of the same names."""
import asyncio
import logging
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import comfy.samplers
import nodes as comfy_nodes
import pytest
import torch
from aiohttp import web
from graphs import node, painting
from host.client import Client, PromptRejected
from host.inside import COMFYUI
from host.server import PACK_NAME, ComfyServer, make_base_directory
from listening import messages_of

from strangers import Unknown, unknown_model

OTHER = "Other-NAG"
SAMPLERS = ["KSamplerWithNAG", "KSamplerWithNAG (Advanced)", "SamplerCustomWithNAG"]
SHARED = sorted([*SAMPLERS, "NAGGuider", "NAGCFGGuider"])
LINE = f"NAG: {OTHER}, too, has the nodes {', '.join(SHARED)}. Those of {PACK_NAME} are used."
OTHERS_SOURCE = Path(__file__).with_name("other_nag.py")
ORDERS = pytest.mark.parametrize("order", [(OTHER, PACK_NAME), (PACK_NAME, OTHER)], ids=["ours last", "theirs last"])


def make_packs(base):
    """A folder with our pack in custom_nodes, and beside it another with nodes of the same names."""
    make_base_directory(base)
    other = base / "custom_nodes" / OTHER
    other.mkdir()
    shutil.copyfile(OTHERS_SOURCE, other / "__init__.py")
    return base / "custom_nodes"


class Host:
    """ComfyUI as far as it loads packs and starts: its registry is a copy, its server a bare aiohttp one."""

    def __init__(self, monkeypatch, packs):
        for registry in ("NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "LOADED_MODULE_DIRS"):
            monkeypatch.setattr(comfy_nodes, registry, dict(getattr(comfy_nodes, registry)))
        self.app = web.Application()
        instance = SimpleNamespace(app=self.app, routes=web.RouteTableDef())
        monkeypatch.setitem(sys.modules, "server", SimpleNamespace(PromptServer=SimpleNamespace(instance=instance)))
        self.packs = packs

    def start(self, *names, own_ids=()):
        """Load the packs in this order and start."""

        async def start():
            for name in names:
                assert await comfy_nodes.load_custom_node(str(self.packs / name), own_ids)
            self.app.freeze()
            await self.app.startup()

        asyncio.run(start())

    def origin(self, node_id):
        return comfy_nodes.NODE_CLASS_MAPPINGS[node_id].RELATIVE_PYTHON_MODULE


@pytest.fixture
def host(monkeypatch, tmp_path):
    return Host(monkeypatch, make_packs(tmp_path))


def said(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@ORDERS
def test_ours_are_used_in_either_order(host, caplog, order):
    host.start(*order)
    assert {host.origin(node_id) for node_id in SHARED} == {f"custom_nodes.{PACK_NAME}"}
    assert host.origin("OnlyTheirs") == f"custom_nodes.{OTHER}"
    names = comfy_nodes.NODE_DISPLAY_NAME_MAPPINGS
    assert "Theirs" not in [names[node_id] for node_id in SHARED] and names["OnlyTheirs"] == "Theirs"
    assert said(caplog) == [LINE]


def test_alone_there_is_nothing_to_say(host, caplog):
    host.start(PACK_NAME)
    assert said(caplog) == []


def test_comfyuis_own_ids_stay_its_own(host, caplog):
    class Stock:
        RELATIVE_PYTHON_MODULE = "comfy_extras.nodes_nag"

    comfy_nodes.NODE_CLASS_MAPPINGS["NAGModel"] = Stock
    host.start(PACK_NAME, own_ids={"NAGModel"})
    assert comfy_nodes.NODE_CLASS_MAPPINGS["NAGModel"] is Stock
    assert said(caplog) == []


def test_without_a_server(host, monkeypatch, caplog):
    """A script that uses ComfyUI's modules has none."""
    monkeypatch.delitem(sys.modules, "server")
    host.start(OTHER, PACK_NAME)
    assert said(caplog) == []


def inputs_of(node_id):
    """Something for each input of one of our nodes of a shared name, with a model that NAG can't guide."""
    numbers = {"nag_scale": 5.0, "nag_tau": 2.5, "nag_alpha": 0.25, "nag_sigma_end": 0.0}
    conditioning = [[torch.zeros(1, 4, 8), {}]]
    known = {"model": unknown_model(), "latent_image": {}, **numbers, "options": None, "strength": 1.0}
    declared = comfy_nodes.NODE_CLASS_MAPPINGS[node_id].INPUT_TYPES()
    kinds = {name: kind for group in ("required", "optional") for name, (kind, *_) in declared[group].items()}
    return {
        name: known[name] if name in known else conditioning if kind == "CONDITIONING" else object()
        for name, kind in kinds.items()
    }


def called(node_id, inputs):
    """The output of a node as ComfyUI would call it."""
    return comfy_nodes.NODE_CLASS_MAPPINGS[node_id].execute(**inputs).result[0]


@ORDERS
def test_theirs_do_what_ours_can_not(host, caplog, order):
    host.start(*order)
    for node_id in SHARED:
        inputs = inputs_of(node_id)
        caplog.clear()
        given = called(node_id, inputs)["inputs"]
        del inputs["options"]
        inputs.pop("strength", None)
        assert given.keys() == inputs.keys() and all(given[name] is value for name, value in inputs.items())
        (line,) = said(caplog)
        assert Unknown.__qualname__ in line and line.endswith(f"{OTHER}'s {node_id} does it instead.")


def test_theirs_take_no_options(host, caplog):
    host.start(OTHER, PACK_NAME)
    options = comfy_nodes.NODE_CLASS_MAPPINGS["NAGOptions"].execute(0.0, 0.5, "shared").result[0]
    called("NAGGuider", {**inputs_of("NAGGuider"), "options": options})
    assert said(caplog)[-1].endswith("NAGGuider does it instead. NAG Options has no effect on it.")


@pytest.mark.parametrize("node_id", SHARED)
def test_where_theirs_can_not_either_ours_say_so(host, node_id):
    host.start(PACK_NAME)
    with pytest.raises(ValueError, match="has no adapter for it yet"):
        called(node_id, inputs_of(node_id))


def test_theirs_get_numbers_for_auto(host):
    host.start(OTHER, PACK_NAME)
    inputs = {**inputs_of("NAGGuider"), "nag_scale": "auto", "nag_tau": "", "nag_alpha": "0,5"}
    del inputs["nag_sigma_end"]
    given = called("NAGGuider", inputs)["inputs"]
    numbers = {name: value for name, value in given.items() if name.startswith("nag_") and name != "nag_negative"}
    assert numbers == {"nag_scale": 5.0, "nag_tau": 2.5, "nag_alpha": 0.5, "nag_sigma_end": 0.0}


def test_theirs_are_not_called_without_what_they_need(host):
    host.start(OTHER, PACK_NAME)
    with pytest.raises(ValueError, match="has no adapter for it yet"):
        called("NAGGuider", {**inputs_of("NAGGuider"), "latent_image": None})


def test_what_is_off_needs_neither(host, caplog):
    host.start(OTHER, PACK_NAME)
    guider = called("NAGGuider", {**inputs_of("NAGGuider"), "nag_scale": 1.0})
    assert type(guider) is comfy.samplers.CFGGuider
    assert said(caplog) == [LINE]


@pytest.fixture(scope="module")
def server_with_both(tmp_path_factory):
    base = tmp_path_factory.mktemp("both")
    make_packs(base)
    with ComfyServer(base, COMFYUI, arguments=["--whitelist-custom-nodes", PACK_NAME, OTHER]) as running:
        yield running


@pytest.fixture(scope="module")
def both(server_with_both):
    return Client(server_with_both.url)


def test_ours_are_listed(both):
    listed = both.object_info()
    assert listed["OnlyTheirs"]["python_module"] == f"custom_nodes.{OTHER}"
    assert {listed[node_id]["python_module"] for node_id in SHARED} == {f"custom_nodes.{PACK_NAME}"}
    assert all(listed[node_id]["deprecated"] for node_id in SAMPLERS)


def test_the_log_says_it_once(server_with_both):
    assert server_with_both.read_log().count(LINE) == 1


def test_the_log_says_nothing_of_us_alone(server):
    assert "Those of" not in server.read_log()


STRENGTH = {"nag_scale": 5.0, "nag_tau": 2.5, "nag_alpha": 0.25}
PROMPTS = {"positive": ["prompt", 0], "negative": ["negative", 0], "nag_negative": ["negative", 0]}
WIRES = {"model": ["loader", 0], **PROMPTS, "latent_image": ["latent", 0]}
COMMON = {**WIRES, "cfg": 1.0, **STRENGTH, "nag_sigma_end": 0.0}
WIDGETS = {"steps": 4, "sampler_name": "euler", "scheduler": "simple"}
GRAPHS = {
    "KSamplerWithNAG": {"seed": 0, **WIDGETS, "denoise": 1.0},
    "KSamplerWithNAG (Advanced)": {
        "noise_seed": 0, **WIDGETS, "add_noise": "enable", "start_at_step": 0, "end_at_step": 10000,
        "return_with_leftover_noise": "disable",
    },
    "SamplerCustomWithNAG": {"noise_seed": 0, "add_noise": True, "sampler": ["euler", 0], "sigmas": ["sigmas", 0]},
}  # fmt: skip


def legacy_painting(class_type, **changes):
    """The graph of `painting`, its sampler ComfyUI-NAG's."""
    graph = painting()
    del graph["nag"]
    graph["sampler"] = node(class_type, **{**COMMON, **GRAPHS[class_type], **changes})
    graph["euler"] = node("KSamplerSelect", sampler_name="euler")
    graph["sigmas"] = node("BasicScheduler", model=["loader", 0], scheduler="simple", steps=4, denoise=1.0)
    return graph


def pixels(client, graph):
    return [image.tobytes() for image in client.run(graph)["picture"]]


@pytest.fixture(scope="module")
def new_way(both):
    return pixels(both, painting(**STRENGTH))


@pytest.mark.parametrize("class_type", GRAPHS)
def test_they_paint_what_nag_model_paints(both, new_way, class_type):
    assert pixels(both, legacy_painting(class_type)) == new_way
    assert pixels(both, legacy_painting(class_type, nag_scale=1.0)) != new_way


@pytest.mark.parametrize("class_type", GRAPHS)
def test_theirs_sample_what_ours_do_not_know(both, server_with_both, class_type):
    """They leave the latent as it is."""
    graph = legacy_painting(class_type)
    graph["unknown"] = node("MakeUnknown", model=["loader", 0])
    graph["sampler"]["inputs"]["model"] = ["unknown", 0]
    graph["blue"] = node("EmptyImage", width=128, height=128, batch_size=1, color=255)
    graph["latent"] = node("VAEEncode", pixels=["blue", 0], vae=["loader", 2])
    assert set(pixels(both, graph)) == {bytes([0, 0, 255] * 128 * 128)}
    assert f"{OTHER}'s {class_type} does it instead." in server_with_both.read_log()


@pytest.mark.parametrize("class_type", GRAPHS)
def test_a_bad_number_is_rejected(both, class_type):
    with pytest.raises(PromptRejected, match="nag_tau"):
        both.submit(legacy_painting(class_type, nag_tau=11.0))


@pytest.mark.parametrize("class_type", GRAPHS)
def test_a_missing_negative_is_rejected(both, class_type):
    graph = legacy_painting(class_type)
    del graph["sampler"]["inputs"]["nag_negative"]
    with pytest.raises(PromptRejected, match="nag_negative"):
        both.submit(graph)


@pytest.mark.parametrize("class_type", GRAPHS)
def test_their_statistics_name_them(both, class_type):
    graph = legacy_painting(class_type, options=["options", 0])
    options = {"start_percent": 0.0, "end_percent": 1.0, "image_stream": "shared", "statistics": True}
    graph["options"] = node("NAGOptions", **options)
    _, messages = asyncio.run(messages_of(both, graph))
    assert [(message["node"], message["step"]) for message in messages] == [("sampler", step) for step in range(4)]
