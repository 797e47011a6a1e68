"""What the server tells a person about the pack's nodes."""
import asyncio

import pytest
from host.client import Client
from host.server import PACK_NAME

OURS = f"custom_nodes.{PACK_NAME}"


@pytest.fixture(scope="module")
def listed(server):
    return Client(server.url).object_info()


@pytest.fixture(scope="module")
def ours(listed):
    return {node: info for node, info in listed.items() if info["python_module"] == OURS}


def test_every_node_is_listed(pack, ours):
    async def nodes():
        return await (await pack.comfy_entrypoint()).get_node_list()

    assert sorted(ours) == sorted(node.GET_SCHEMA().node_id for node in asyncio.run(nodes()))


def test_every_node_is_described(ours):
    assert [node for node, info in ours.items() if not info["description"] or not info["display_name"]] == []


def test_every_input_has_a_tooltip(ours):
    bare = [
        f"{node}.{name}"
        for node, info in ours.items()
        for kind in ("required", "optional")
        for name, (_, *options) in info["input"].get(kind, {}).items()
        if not (options and options[0].get("tooltip"))
    ]
    assert bare == []


def test_every_output_has_a_tooltip(ours):
    assert [node for node, info in ours.items() if not all(info.get("output_tooltips") or [None])] == []


def test_categories_are_comfyuis_own(listed, ours):
    stock = {info["category"] for node, info in listed.items() if node not in ours}
    assert {node: info["category"] for node, info in ours.items() if info["category"] not in stock} == {}


def test_the_pack_starts_without_complaint(server):
    started, _, _ = server.read_log().partition("To see the GUI go to")
    about_us = [line for line in started.splitlines() if f"custom_nodes/{PACK_NAME}" in line.replace("\\", "/")]
    assert len(about_us) == 1, about_us  # the time its import took; a warning or a traceback would be more lines
    assert "FAILED" not in about_us[0]


@pytest.mark.parametrize("guider", ["NAGGuider", "NAGCFGGuider"])
def test_the_editor_is_not_told_of_what_nothing_needs(client, guider):
    told = client.object_info()[guider]
    named = [*told["input_order"]["required"], *told["input_order"]["optional"]]
    assert named == [*told["input"]["required"], *told["input"]["optional"]]
    assert "latent_image" not in named and named[-2:] == ["options", "strength"]
