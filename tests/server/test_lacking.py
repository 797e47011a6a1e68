"""A server whose ComfyUI has dropped something that NAG stands on."""
import pytest
from graphs import custom_painting, painting
from host.client import Client, ExecutionError
from host.inside import COMFYUI
from host.server import ComfyServer

LOST = "comfy.hooks.TransformerOptionsHook"
PRESTARTUP = """
import comfy.hooks
del comfy.hooks.TransformerOptionsHook
"""


@pytest.fixture(scope="module")
def server_without(tmp_path_factory):
    base = tmp_path_factory.mktemp("lacking")
    pack = base / "dropping"
    pack.mkdir()
    (pack / "prestartup_script.py").write_text(PRESTARTUP)
    (pack / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n")
    with ComfyServer(base / "comfyui", COMFYUI, packs=[pack]) as running:
        yield running


@pytest.fixture
def without(server_without):
    return Client(server_without.url)


def test_the_log_says_what_is_missing(server_without):
    assert server_without.read_log().count(LOST) == 1


def test_the_nodes_are_there(without, client):
    of_nag = lambda nodes: {name for name, node in nodes.items() if "nag" in node["python_module"]}
    assert of_nag(without.object_info()) == of_nag(client.object_info())


GUIDER = {"model": ["loader", 0], "conditioning": ["prompt", 0], "nag_negative": ["negative", 0], "nag_scale": 5.0,
          "nag_tau": 2.5, "nag_alpha": 0.25, "nag_sigma_end": 0.0}
GRAPHS = {"NAGModel": painting(), "NAGGuider": custom_painting("NAGGuider", **GUIDER)}


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_they_refuse_to_run(without, graph):
    with pytest.raises(ExecutionError, match=f"lacks {LOST}".replace(".", r"\.")) as caught:
        without.run(graph)
    assert "NAG" in caught.value.details["node_type"]


def test_without_them_comfyui_works(without, client):
    graph = painting(guided=False)
    ours, theirs = (each.run(graph)["picture"] for each in (without, client))
    assert [image.tobytes() for image in ours] == [image.tobytes() for image in theirs]
