"""The subgraph blueprint, on hosts that show those of packs: found by its name, dropped onto a graph, and run."""
import json
import urllib.error

import pytest
from host.client import Client
from host.server import PACK
from search_box import add_by_search

(BLUEPRINT,) = (PACK / "subgraphs").glob("*.json")
MIDDLE = (800, 600)  # of the canvas, which is empty
# The playground around the node that is there, which guides the second of two samplers with the same seed.
BUILD = """() => {
    const [guided] = app.graph._nodes
    const add = (type, x, y, widgets = {}) => {
        const node = LiteGraph.createNode(type)
        node.pos = [x, y]
        app.graph.add(node)
        for (const [name, value] of Object.entries(widgets)) node.widgets.find(w => w.name === name).value = value
        return node
    }
    guided.pos = [500, 0]
    const load = add("NAGPlaygroundLoader", 0, 0)
    const yes = add("CLIPTextEncode", 0, 180, { text: "a blue square" })
    const no = add("CLIPTextEncode", 0, 440, { text: "white" })
    const latent = add("EmptyLatentImage", 0, 700, { width: 128, height: 128 })
    load.connect(0, guided, 0); load.connect(1, yes, 0); load.connect(1, no, 0); no.connect(0, guided, 1)
    for (const [at, model] of [load, guided].entries()) {
        const sampler = add("KSampler", 900, at * 400,
            { seed: 1, control_after_generate: "fixed", steps: 4, cfg: 1, sampler_name: "euler", scheduler: "simple" })
        const decode = add("VAEDecode", 1240, at * 400)
        const preview = add("PreviewImage", 1240, at * 400 + 100)
        for (const [slot, node] of [model, yes, no, latent].entries()) node.connect(0, sampler, slot)
        sampler.connect(0, decode, 0); load.connect(2, decode, 1); decode.connect(0, preview, 0)
    }
}"""
PROMOTED = "() => app.graph._nodes[0].widgets.map(({ name, value }) => [name, value])"
SET = "value => { app.graph._nodes[0].widgets[0].value = value }"


@pytest.fixture(autouse=True)
def _hosts_that_show_blueprints(frontend_server):
    client = Client(frontend_server.url)
    try:
        listed = json.loads(client.get("/global_subgraphs"))
    except urllib.error.HTTPError:
        pytest.skip("This ComfyUI shows no blueprints of packs.")
    assert BLUEPRINT.stem in {entry["name"] for entry in listed.values()}


def pictures(editor):
    """The bytes of the pictures, one a sampler: without the blueprint and with it."""
    client = Client(editor.url)
    shown = client.images(client.history(editor.run()))
    return [images[0].tobytes() for _, images in sorted(shown.items(), key=lambda item: int(item[0]))]


def test_the_blueprint(editor):
    editor.page.evaluate("() => app.graph.clear()")
    add_by_search(editor.page, BLUEPRINT.stem, MIDDLE)
    editor.screenshot("blueprint")
    assert editor.page.evaluate(PROMOTED) == [["strength", 1]]
    editor.page.evaluate(BUILD)
    editor.show()
    plain, guided = pictures(editor)
    assert plain != guided
    editor.page.evaluate(SET, 0)
    plain, guided = pictures(editor)
    assert plain == guided, "strength 0 is off"
