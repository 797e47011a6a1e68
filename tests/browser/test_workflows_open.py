"""Every shipped workflow opens in the real frontend, as people would open it, and the server takes what it submits."""
import json

import pytest
from host.client import Client
from host.export import api_path, export, graphs, lacking, put_stand_ins
from host.server import PACK

GRAPHS = graphs()
NODES = {"NAGModel", "NAGConditioning", "NAGGuider", "NAGCFGGuider", "NAGSampler", "NAGOptions"}
GROUPS = ["Models", "Prompts", "NAG", "Sampling", "Result"]
# Nodes that came after the oldest ComfyUI which must pass. A graph that needs one is tested where it is there.
NEWER = {"EmptyAceStep1.5LatentAudio", "EmptyFlux2LatentImage", "EmptyHunyuanVideo15Latent", "Flux2Scheduler",
         "LTXAVTextEncoderLoader", "LTXVAudioVAEDecode", "LTXVAudioVAELoader", "LTXVConcatAVLatent",
         "LTXVEmptyLatentAudio", "LTXVSeparateAVLatent", "ManualSigmas", "TextEncodeAceStepAudio1.5"}
# Nodes of other packs, by where a pack is to be had. A graph with them is tested where EXTRA_MODELS names a checkout.
OTHERS = {"https://github.com/Efficient-Large-Model/ComfyUI_ExtraModels": {
    "EmptySanaLatentImage", "ExtraVAELoader", "GemmaLoader", "GemmaTextEncode", "SanaCheckpointLoader",
    "SanaResolutionSelect", "SanaTextEncode", "ScmModelSampling"}}
THUMBNAIL = 60_000  # bytes at most
each_workflow = pytest.mark.parametrize("name", GRAPHS)


@pytest.fixture(scope="module")
def workflow_editor(browser, frontend_server):
    """One page for all workflows, on a server that has something under the name of each file they need."""
    from host.browser import Editor

    put_stand_ins(frontend_server.base)
    with Editor(browser, frontend_server.url) as editor:
        yield editor


@pytest.fixture(scope="module")
def nodes(workflow_editor):
    """What nodes the server has, by type."""
    return Client(workflow_editor.url).object_info()


def packs_of(graph):
    """Where the packs are to be had whose nodes a graph has."""
    types = {node["type"] for node in graph["nodes"]}
    return [address for address, theirs in OTHERS.items() if types & theirs]


def skip_if_lacking(name, nodes):
    """Skip where the host lacks what a graph needs, and may lack it."""
    missing = lacking(GRAPHS[name], nodes)
    assert NEWER.union(*OTHERS.values()).issuperset(missing)
    if missing:
        pytest.skip(f"This ComfyUI has no {', '.join(missing)}.")


def essence(prompt, like):
    """An API prompt without what the host decides: titles, and inputs that newer hosts give to nodes of their own."""
    return {key: (node["class_type"], {name: value for name, value in node["inputs"].items()
                                       if name in like[key]["inputs"] or node["class_type"] in NODES})
            for key, node in prompt.items()}


def overlapping(graph):
    """Pairs of nodes that lie on each other; a node's title is 30 pixels above its position."""
    boxes = [(node["id"], *node["pos"], *node["size"]) for node in graph["nodes"]]
    return [(a, b) for a, ax, ay, aw, ah in boxes for b, bx, by, bw, bh in boxes
            if a < b and ax < bx + bw and bx < ax + aw and ay - 30 < by + bh and by - 30 < ay + ah]


@each_workflow
def test_workflow(workflow_editor, nodes, name):
    skip_if_lacking(name, nodes)
    editor = workflow_editor
    editor.dismiss()  # what a workflow before it may have left
    editor.errors.clear()
    prompt = export(editor, GRAPHS[name])
    editor.page.wait_for_timeout(500)  # what is missing shows up a moment later
    assert editor.red_nodes() == []
    # Dialogs and messages on missing nodes and models; no text of ours has the word.
    assert editor.page.get_by_text("missing", exact=False).locator("visible=true").all_inner_texts() == []
    editor.show()
    editor.screenshot(f"workflow {name}")
    saved = json.loads(api_path(name).read_text(encoding="utf-8"))
    assert list(prompt) == list(saved)
    assert essence(prompt, saved) == essence(saved, saved), "run `make workflows`"
    assert overlapping(editor.graph()) == []
    assert editor.errors == []


@each_workflow
def test_the_server_accepts_it(workflow_editor, nodes, name):
    """Queued in front of the stand-ins for models it would fail when it runs, so it is taken back at once."""
    skip_if_lacking(name, nodes)
    client = Client(workflow_editor.url)
    prompt_id = client.submit(json.loads(api_path(name).read_text(encoding="utf-8")))  # raises if it is not accepted
    client.post("/queue", {"delete": [prompt_id]})
    client.post("/interrupt", {})


def test_the_playground_runs(workflow_editor):
    workflow_editor.load(GRAPHS["playground"])
    prompt_id = workflow_editor.run()
    client = Client(workflow_editor.url)
    rows = [[image.tobytes() for image in images] for images in client.images(client.history(prompt_id)).values()]
    assert [len(row) for row in rows] == [6, 6, 6]
    pictures = [picture for row in rows for picture in row]
    assert len(set(pictures)) == len(pictures), "some pictures are the same: guidance had no effect"
    assert all(len(set(picture)) > 10 for picture in pictures), "a picture is plain"
    workflow_editor.page.wait_for_timeout(1500)  # for the pictures to be fetched and drawn
    workflow_editor.show()
    workflow_editor.screenshot("playground after a run")


def test_each_is_explained():
    for name, graph in GRAPHS.items():
        (note,) = (node for node in graph["nodes"] if node["type"] == "MarkdownNote")
        text = note["widgets_values"][0]
        files = [model for node in graph["nodes"] for model in node["properties"].get("models", [])]
        packs = packs_of(graph)  # whose nodes may fetch their files by themselves
        assert bool(files) == (name not in ("playground", "nag_grid") and not packs)
        assert all(address in text for address in packs), name
        for model in files:
            assert f"[{model['name']}]({model['url']})" in text and f"`models/{model['directory']}`" in text, name
        assert sorted(group["title"] for group in graph["groups"]) == sorted(GROUPS), name


def test_each_has_a_thumbnail():
    for name in GRAPHS:
        thumbnail = PACK / "workflows" / f"{name}.jpg"
        assert thumbnail.stat().st_size < THUMBNAIL, name


def test_together_they_show_every_node():
    assert NODES <= {node["type"] for graph in GRAPHS.values() for node in graph["nodes"]}
    statistics = [node["widgets_values"][3] for graph in GRAPHS.values() for node in graph["nodes"]
                  if node["type"] == "NAGOptions"]
    assert True in statistics


def test_each_has_its_api_format():
    assert sorted(GRAPHS) == sorted(path.stem for path in (PACK / "workflows" / "api").glob("*.json"))
