"""Every shipped workflow opens in the real frontend, as people would open it, and the server takes what it submits."""
import json

import pytest
from host.client import Client
from host.export import lacking, put_stand_ins
from host.server import PACK, PACK_NAME
from host.shipped import api_path, graphs, paths

GRAPHS = graphs()
RENDERERS = {
    "host's frontend": ("server", False),
    "newest frontend": ("newest_server", False),
    "newest frontend, Nodes 2.0": ("newest_server", True),
}
VUE_NODES = "Comfy.VueNodes.Enabled"
LOCALE = "Comfy.Locale"
LANGUAGES = {"en", "ko", "zh", "ja"}
ZOOM = 0.7  # at which a workflow opens, at least, on a canvas of 1600 by 1000
NODES = {"NAGModel", "NAGConditioning", "NAGGuider", "NAGCFGGuider", "NAGSampler", "NAGGrid", "NAGOptions"}
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
PLAYGROUNDS = ("playground", "playground_distilled", "playground_clips")
WITHOUT_FILES = {*PLAYGROUNDS, "playground_mask", "nag_grid"}
each_workflow = pytest.mark.parametrize("name", GRAPHS)


# What the template browser does with a graph that was chosen.
OPEN = "([graph, title]) => app.loadGraphData(graph, true, true, title, { openSource: 'template' })"
# The boxes [x, y, width, height] of what is drawn, in the graph's pixels: nodes with their titles, and groups.
DRAWN = """() => {
    const { scale, offset } = app.canvas.ds
    const { left, top } = app.canvas.canvas.getBoundingClientRect()
    const drawn = node => {
        const box = document.querySelector(`[data-node-id="${node.id}"]`)?.getBoundingClientRect()
        if (!box) return [...node.getBounding()]
        return [(box.left - left) / scale - offset[0], (box.top - top) / scale - offset[1],
            box.width / scale, box.height / scale]
    }
    return {
        nodes: app.graph._nodes.map(node => [`${node.title} #${node.id}`, drawn(node)]),
        groups: app.graph._groups.map(group => [group.title, [...group._bounding]]),
    }
}"""
SCALE = "() => [app.canvas.ds.scale, app.canvas.canvas.clientWidth, app.canvas.canvas.clientHeight]"
NOTE = "() => app.graph._nodes.find(node => node.type === 'MarkdownNote').widgets[0].value"
BROWSE = "() => app.extensionManager.command.execute('Comfy.BrowseTemplates')"


@pytest.fixture(scope="module", params=RENDERERS)
def workflow_editor(request, browser):
    """One page for all workflows, on a server that has something under the name of each file they need."""
    from host.browser import Editor

    server, vue_nodes = RENDERERS[request.param]
    server = request.getfixturevalue(server)
    put_stand_ins(server.base)
    with Editor(browser, server.url, {VUE_NODES: vue_nodes}) as editor:
        editor.vue_nodes = vue_nodes
        yield editor
    Client(server.url).post("/settings", {VUE_NODES: False})


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


def open_template(editor, name):
    """Open a workflow as the template browser does."""
    editor.page.evaluate(OPEN, [GRAPHS[name], paths()[name].stem])
    editor.page.wait_for_timeout(500)  # what is missing shows up a moment later, and the view is fitted in a frame


def meet(one, other):
    """Whether two boxes [x, y, width, height] have a pixel in common."""
    return all(one[axis] + 1 <= other[axis] + other[axis + 2] and other[axis] + 1 <= one[axis] + one[axis + 2]
               for axis in (0, 1))


def inside(box, outer):
    return all(outer[axis] <= box[axis] + 1 and box[axis] + box[axis + 2] <= outer[axis] + outer[axis + 2] + 1
               for axis in (0, 1))


def in_the_way(drawn):
    """Pairs of nodes, and of groups, that lie on each other, and of a node and a group out of which it sticks."""
    nodes, groups = drawn["nodes"], drawn["groups"]
    return [(one, other) for kind in (nodes, groups) for at, (one, box) in enumerate(kind)
            for other, where in kind[at + 1:] if meet(box, where)] + [
        (node, group) for node, box in nodes for group, where in groups if meet(box, where) and not inside(box, where)]


@each_workflow
def test_workflow(workflow_editor, nodes, name):
    skip_if_lacking(name, nodes)
    editor = workflow_editor
    editor.dismiss()  # what a workflow before it may have left
    editor.errors.clear()
    open_template(editor, name)
    assert editor.red_nodes() == []
    # Dialogs and messages on missing nodes and models; no text of ours has the word.
    assert editor.page.get_by_text("missing", exact=False).locator("visible=true").all_inner_texts() == []
    editor.screenshot(f"workflow {name}{', Nodes 2.0' if editor.vue_nodes else ''}")
    scale, width, height = editor.page.evaluate(SCALE)  # up to 1.28 the canvas lies beside the frontend's bars
    assert scale >= ZOOM * min(width / 1600, height / 1000)
    assert in_the_way(editor.page.evaluate(DRAWN)) == []
    prompt, saved = editor.prompt(), json.loads(api_path(name).read_text(encoding="utf-8"))
    assert list(prompt) == list(saved)
    assert essence(prompt, saved) == essence(saved, saved), "run `make workflows`"
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
    open_template(workflow_editor, "playground")
    prompt_id = workflow_editor.run()
    client = Client(workflow_editor.url)
    rows = [[image.tobytes() for image in images] for images in client.images(client.history(prompt_id)).values()]
    assert [len(row) for row in rows] == [6, 6, 6]
    pictures = [picture for row in rows for picture in row]
    assert len(set(pictures)) == len(pictures), "some pictures are the same: guidance had no effect"
    assert all(len(set(picture)) > 10 for picture in pictures), "a picture is plain"
    workflow_editor.page.wait_for_timeout(1500)  # for the pictures to be fetched and drawn
    workflow_editor.screenshot(f"playground after a run{', Nodes 2.0' if workflow_editor.vue_nodes else ''}")
    assert in_the_way(workflow_editor.page.evaluate(DRAWN)) == []  # pictures make nodes taller


def note_of(graph):
    (note,) = (node for node in graph["nodes"] if node["type"] == "MarkdownNote")
    return note


# By node of ours: which shows both, and which is one click from it.
BOTH = {"NAG Model": "flux_schnell", "NAG Conditioning": "sd15", "NAG Sampler": "sdxl_lightning"}
ONE_CLICK = {"NAG Model": "wan21_t2v", "NAG Conditioning": "wan22_t2v", "two": "regional",
             "NAG Guider": "flux_dev", "NAG CFG Guider": "sd35_large"}


def press_compare(editor, pressed):
    """Press the button for with and without, which must say until then whether both are there."""
    button = editor.page.locator(f".nag-compare[aria-pressed={str(pressed).lower()}]").first
    button.wait_for()
    button.dispatch_event("click")
    editor.page.locator(f".nag-compare[aria-pressed={str(not pressed).lower()}]").first.wait_for()


@pytest.mark.parametrize("name", BOTH.values(), ids=BOTH)
def test_what_shows_both_shows_one_at_a_click(workflow_editor, name):
    open_template(workflow_editor, name)
    press_compare(workflow_editor, pressed=True)
    prompt, saved = workflow_editor.prompt(), json.loads(api_path(name).read_text(encoding="utf-8"))
    left = {key for key, node in saved.items()
            if node["class_type"] != "PrimitiveInt" and node["_meta"]["title"] != "without NAG"}
    assert prompt.keys() == left
    assert [seed for node in prompt.values() for seed in [node["inputs"].get("seed")] if seed is not None] == [7]


@pytest.mark.parametrize("name", ONE_CLICK.values(), ids=ONE_CLICK)
def test_what_is_one_click_from_both(workflow_editor, name):
    open_template(workflow_editor, name)
    before = samplers(workflow_editor.graph())
    press_compare(workflow_editor, pressed=False)
    assert len(samplers(workflow_editor.graph())) == 2 * len(before)


@pytest.mark.parametrize("locale", sorted(LANGUAGES - {"en"}))
def test_the_note_speaks_the_language(browser, frontend_server, locale):
    from host.browser import Editor

    texts = note_of(GRAPHS["playground"])["properties"]["nag_note"]
    try:
        with Editor(browser, frontend_server.url, {LOCALE: locale}) as editor:
            open_template(editor, "playground")
            assert editor.page.evaluate(NOTE) == texts[locale]
            saved = editor.graph()
            note_of(saved)["widgets_values"] = ["What the user has written."]
            editor.load(saved)
            assert editor.page.evaluate(NOTE) == "What the user has written."
    finally:
        Client(frontend_server.url).post("/settings", {LOCALE: "en"})


def test_a_note_that_was_saved_in_another_language(workflow_editor):
    open_template(workflow_editor, "playground")
    saved = workflow_editor.graph()
    texts = note_of(saved)["properties"]["nag_note"]
    for locale in LANGUAGES:
        note_of(saved)["widgets_values"] = [texts[locale]]
        workflow_editor.load(saved)
        assert workflow_editor.page.evaluate(NOTE) == texts["en"]


def test_the_template_browser(browser, frontend_server):
    """It shows the files' names as titles, under the pack's in the user's language, and opens what is chosen."""
    from host.browser import Editor

    title = paths()["playground"].stem
    category = json.loads((PACK / "locales" / "en" / "main.json").read_text(encoding="utf-8"))
    with Editor(browser, frontend_server.url) as editor:
        editor.page.evaluate(BROWSE)
        editor.page.get_by_text(category["templateWorkflows"]["category"][PACK_NAME]).first.click()
        editor.page.get_by_text(title).first.scroll_into_view_if_needed()
        editor.screenshot("template browser")
        if any(error.startswith("Error fetching workflow templates") for error in editor.errors):
            pytest.skip("This frontend opens no template while ComfyUI's own are not installed.")
        editor.page.get_by_text(title).first.click()
        opened = "() => app.graph._nodes.some(node => node.type === 'NAGPlaygroundLoader')"
        editor.page.wait_for_function(opened, polling=100)


def test_each_is_explained():
    for name, graph in GRAPHS.items():
        note = note_of(graph)
        texts = note["properties"]["nag_note"]
        assert texts.keys() == LANGUAGES and len(set(texts.values())) == len(texts), name
        assert note["widgets_values"] == [texts["en"]], name
        files = [model for node in graph["nodes"] for model in node["properties"].get("models", [])]
        packs = packs_of(graph)  # whose nodes may fetch their files by themselves
        assert bool(files) == (name not in WITHOUT_FILES and not packs)
        for text in texts.values():
            assert all(address in text for address in packs), name
            for model in files:
                assert f"[{model['name']}]({model['url']})" in text and f"`models/{model['directory']}`" in text, name
        assert sorted(group["title"] for group in graph["groups"]) == sorted(GROUPS), name


def samplers(graph):
    return [node for node in graph["nodes"] if "Sampler" in node["type"] and node["type"] != "KSamplerSelect"]


def test_with_and_without_nag():
    """Each shows both: side by side with one seed, or by a button of which its note speaks."""
    for name, graph in GRAPHS.items():
        said = note_of(graph)["properties"]["nag_note"]["en"]
        if name in WITHOUT_FILES or "adds the same seed without NAG" in said:
            continue
        assert "the same seed with NAG and without" in said, name
        (seed,) = (node for node in graph["nodes"] if node["type"] == "PrimitiveInt")
        one, other = samplers(graph)
        assert {link[3] for link in graph["links"] if link[1] == seed["id"]} == {one["id"], other["id"]}, name
        assert one["widgets_values"][:7] == other["widgets_values"][:7], name
        shown = [node["title"] for node in graph["nodes"] if node["type"] in {"SaveImage", "PreviewImage"}]
        assert shown == ["with NAG", "without NAG"], name


@pytest.mark.parametrize("name", PLAYGROUNDS)
def test_the_playgrounds_show_three_ways(name):
    """With one seed, and nothing but cfg and the model's NAG differs."""
    graph = GRAPHS[name]
    (seed,) = (node for node in graph["nodes"] if node["type"] == "PrimitiveInt")
    (nag,) = (node for node in graph["nodes"] if node["type"] == "NAGModel")
    three = samplers(graph)
    cfg = {node["title"]: node["widgets_values"][3] for node in three}
    assert cfg == {"no guidance": 1, "CFG 3": 3, "NAG": 1}
    assert {link[3] for link in graph["links"] if link[1] == seed["id"]} == {node["id"] for node in three}
    assert {link[3] for link in graph["links"] if link[1] == nag["id"]} == {three[2]["id"]}
    assert len({tuple(value for at, value in enumerate(node["widgets_values"]) if at != 3) for node in three}) == 1


def test_each_has_a_thumbnail():
    for name in GRAPHS:
        thumbnail = paths()[name].with_suffix(".jpg")
        assert thumbnail.stat().st_size < THUMBNAIL, name


def test_together_they_show_every_node():
    assert NODES <= {node["type"] for graph in GRAPHS.values() for node in graph["nodes"]}
    statistics = [node["widgets_values"][3] for graph in GRAPHS.values() for node in graph["nodes"]
                  if node["type"] == "NAGOptions"]
    assert True in statistics


def test_each_has_its_api_format():
    assert sorted(GRAPHS) == sorted(path.stem for path in (PACK / "workflows" / "api").glob("*.json"))


def test_the_playground_comes_first():
    """In the template browser, where it sorts by name: the one that needs no download."""
    assert next(iter(GRAPHS)) == "playground"
