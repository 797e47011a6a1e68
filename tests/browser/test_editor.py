"""The panel on NAG nodes, as someone sees and uses it: in the canvas renderer and in Nodes 2.0."""
import itertools
import re

import pytest
from host.client import Client
from search_box import add_by_search

SEEDS = itertools.count(1)  # a graph that ComfyUI has run before does not run again
RENDERERS = {
    "host's frontend": ("server", False),
    "newest frontend": ("newest_server", False),
    "newest frontend, Nodes 2.0": ("newest_server", True),
}
NOWHERE = (1150, 950)  # on the canvas, where these tests have no node and the frontend nothing else
VUE_NODES = "Comfy.VueNodes.Enabled"

ADD = """([type, x, y, widgets]) => {
    const node = LiteGraph.createNode(type)
    node.pos = [x, y]
    app.graph.add(node)
    for (const [name, value] of Object.entries(widgets)) node.widgets.find(w => w.name === name).value = value
    return node.id
}"""
# The playground's loader, two prompts, a latent, a KSampler and what shows its picture: no NAG yet.
BUILD = """seed => {
    const add = (type, x, y, widgets = {}) => app.graph.getNodeById((ADD)([type, x, y, widgets]))
    app.graph.clear()
    const load = add("NAGPlaygroundLoader", 0, 0)
    const yes = add("CLIPTextEncode", 0, 180, { text: "a blue square" })
    const no = add("CLIPTextEncode", 0, 440, { text: "white" })
    const latent = add("EmptyLatentImage", 0, 700, { width: 128, height: 128 })
    const sampler = add("KSampler", 900, 0,
        { seed, steps: 8, cfg: 1, sampler_name: "euler", scheduler: "simple", "control_after_generate": "fixed" })
    const decode = add("VAEDecode", 1240, 0)
    const preview = add("PreviewImage", 1240, 160)
    load.connect(0, sampler, 0); load.connect(1, yes, 0); load.connect(1, no, 0); load.connect(2, decode, 1)
    yes.connect(0, sampler, 1); no.connect(0, sampler, 2); latent.connect(0, sampler, 3)
    sampler.connect(0, decode, 0); decode.connect(0, preview, 0)
    const { id, ...graph } = JSON.parse(JSON.stringify(app.graph.serialize())) // a new graph gets a new id
    return graph
}""".replace("(ADD)", f"({ADD})")
CONNECT = """([from, output, to, input]) => {
    const [origin, target] = [app.graph.getNodeById(from), app.graph.getNodeById(to)]
    origin.connect(origin.findOutputSlot(output), target, target.findInputSlot(input))
}"""
FIND = "type => app.graph._nodes.filter(node => node.type === type).map(node => node.id)"
SET = """([id, values]) => {
    const node = app.graph.getNodeById(id)
    for (const [name, value] of Object.entries(values)) {
        if (name === "mode") node.mode = value
        else node.widgets.find(w => w.name === name).value = value
    }
}"""
VALUES = """id => Object.fromEntries(
    app.graph.getNodeById(id).widgets.filter(w => w.serialize !== false).map(w => [w.name, w.value]))"""
# As the frontend does after each click or key of the user, whose place these tests' scripts take.
NOTICE = """() => {
    const tracker = app.extensionManager.workflow.activeWorkflow.changeTracker
    ;(tracker.captureCanvasState ?? tracker.checkState).call(tracker)
}"""
# In the page: where a slot is, or the right end of a widget, where a number's arrow for more is.
SLOT_POSITION = """([id, is_input, name]) => {
    const node = app.graph.getNodeById(id)
    const slot = is_input ? node.findInputSlot(name) : node.findOutputSlot(name)
    const [x, y] = is_input ? node.getInputPos(slot) : node.getOutputPos(slot)
    const { left, top } = app.canvas.canvas.getBoundingClientRect()
    const { scale, offset } = app.canvas.ds
    return [(x + offset[0]) * scale + left, (y + offset[1]) * scale + top]
}"""
MORE_POSITION = """([id, name]) => {
    const node = app.graph.getNodeById(id)
    const widget = node.widgets.find(w => w.name === name)
    const [x, y] = [node.pos[0] + node.size[0] - 24, node.pos[1] + widget.y + 10]
    const { left, top } = app.canvas.canvas.getBoundingClientRect()
    const { scale, offset } = app.canvas.ds
    return [(x + offset[0]) * scale + left, (y + offset[1]) * scale + top]
}"""


@pytest.fixture(params=RENDERERS)
def editor(request, browser):
    """A fresh page with the playground's graph, in each frontend and renderer; its console must stay free of errors."""
    from host.browser import Editor

    server, vue_nodes = RENDERERS[request.param]
    server = request.getfixturevalue(server)
    Client(server.url).post("/settings", {VUE_NODES: vue_nodes})
    with Editor(browser, server.url) as page:
        page.vue_nodes = vue_nodes
        page.load(page.page.evaluate(BUILD, next(SEEDS)))
        yield page
        assert page.errors == []
    Client(server.url).post("/settings", {VUE_NODES: False})


class Panel:
    """The panel of a node."""

    def __init__(self, editor, number=0):
        self.page, self.number = editor.page, number
        self.root = editor.page.locator(".nag-panel").nth(number)

    def says(self, pattern, where=".nag-headline"):
        """Wait until the headline, or another part, says this."""
        said = "([at, where, what]) => new RegExp(what).test(document.querySelectorAll(where)[at]?.textContent)"
        told = [self.number, f".nag-panel {where}", pattern]
        self.page.wait_for_function(said, arg=told, polling=50, timeout=15000)

    def bars(self):
        """How each step is drawn."""
        steps = self.root.locator("g.step")
        return steps.evaluate_all("all => all.map(step => step.getAttribute('class').split(' ')[1])")

    def detail(self):
        return self.root.locator(".nag-detail").inner_text()


def add(editor, kind, x=460, y=0, **widgets):
    return editor.page.evaluate(ADD, [kind, x, y, widgets])


def connect(editor, *link):
    editor.page.evaluate(CONNECT, list(link))


def put(editor, node, **values):
    """Change widgets, or the mode, of a node."""
    editor.page.evaluate(SET, [node, values])
    notice(editor)


def notice(editor):
    editor.page.evaluate(NOTICE)


def the(editor, kind):
    (found,) = editor.page.evaluate(FIND, kind)
    return found


def with_nag(editor, **options):
    """Put NAG Model in, and NAG Options if there are any. Gives the panel."""
    nag, load, sampler = add(editor, "NAGModel"), the(editor, "NAGPlaygroundLoader"), the(editor, "KSampler")
    connect(editor, load, "MODEL", nag, "model")
    connect(editor, nag, "MODEL", sampler, "model")
    if options:
        connect(editor, add(editor, "NAGOptions", 460, 480, **options), "options", nag, "options")
    notice(editor)
    editor.show()
    return Panel(editor)


def drag(editor, origin, output, target, name):
    """Draw a link with the mouse, again if nothing came of it: Nodes 2.0 may not have laid out the nodes yet."""
    page = editor.page
    linked = """([id, name, origin]) => {
        const node = app.graph.getNodeById(id)
        return node.getInputLink(node.findInputSlot(name))?.origin_id === origin
    }"""
    for _ in range(5):
        page.wait_for_timeout(500)  # until the nodes are drawn where they are
        slots = [origin, False, output], [target, True, name]
        start, end = (page.evaluate(SLOT_POSITION, slot) for slot in slots)
        page.mouse.move(*start)
        page.mouse.down()
        page.mouse.move(*(sum(pair) / 2 for pair in zip(start, end)), steps=4)
        page.mouse.move(*end, steps=4)
        page.mouse.up()
        if page.evaluate(linked, [target, name, origin]):
            return
    pytest.fail(f"No link from {output} to {name}.")


def one_more(editor, node, widget):
    """Press the arrow, or the plus, of a number."""
    if editor.vue_nodes:
        field = editor.page.locator(f'[data-node-id="{node}"]').get_by_label(widget, exact=True)
        field.locator("xpath=ancestor-or-self::*[.//button][1]").locator("button").last.click()
    else:
        editor.page.mouse.click(*editor.page.evaluate(MORE_POSITION, [node, widget]))


def test_from_the_search_box_to_the_statistics(editor):
    page = editor.page
    editor.show()
    add_by_search(page, "NAG Model", NOWHERE)
    nag, load, sampler = (the(editor, kind) for kind in ("NAGModel", "NAGPlaygroundLoader", "KSampler"))
    panel = Panel(editor)
    panel.says("not connected to a sampler")
    page.evaluate("id => { app.graph.getNodeById(id).pos = [460, 0] }", nag)
    editor.show()

    drag(editor, load, "MODEL", nag, "model")
    drag(editor, nag, "MODEL", sampler, "model")
    panel.says("NAG on in all 8 steps · σ 1 → ")
    assert panel.detail() == "Flux: scale 5 · tau 2.5 · alpha 0.25"
    one_more(editor, sampler, "steps")
    panel.says("NAG on in all 9 steps")
    assert panel.bars() == ["on"] * 9

    panel.root.get_by_role("button", name="statistics").click()
    options = the(editor, "NAGOptions")
    put(editor, options, end_percent=0.5)
    panel.says(r"NAG on in steps 1–\d of 9 · σ 1 → 0\.\d+$")
    planned = panel.bars()
    editor.show()
    editor.screenshot(f"editor planned{' Nodes 2.0' * editor.vue_nodes}")

    editor.run()
    panel.says(r"growth \d\.\d+×.*held back \d+%.*moved \d+%", ".nag-measures")
    page.wait_for_timeout(500)
    assert panel.bars() == ["done" if bar == "on" else bar for bar in planned]
    assert panel.root.locator("g.done .clipped").count() == planned.count("on")
    assert panel.root.locator("polyline.ratio").count() == panel.root.locator("polyline.tau").count() == 1
    editor.screenshot(f"editor statistics{' Nodes 2.0' * editor.vue_nodes}")

    panel.root.locator("g.step").nth(1).hover()
    panel.says(r"step 2 of 9 · σ 0\.\d+ · NAG on")
    title = panel.root.locator("g.step title").nth(1).text_content()
    measures = re.search(r" · (growth \S+) · (held back \S+) · (moved \S+)$", title).groups()
    assert tuple(panel.root.locator(".nag-legend").all_text_contents()) == measures
    panel.root.locator("g.step").nth(8).hover()
    panel.says(r"step 9 of 9 · σ 0\.\d+ · NAG off")
    panel.root.locator(".nag-detail").hover()
    panel.says("NAG on in steps")

    put(editor, options, end_percent=1)
    panel.says("NAG on in all 9 steps")
    assert panel.bars() == ["on"] * 9  # what was measured belongs to another plan


def test_what_was_wrong_with_a_run_is_said_until_it_is_right(editor):
    """The plan does not know that another loader's text encoder is the same."""
    panel, (yes, no) = with_nag(editor), editor.page.evaluate(FIND, "CLIPTextEncode")
    loader = add(editor, "NAGPlaygroundLoader", 0, 900)
    connect(editor, loader, "CLIP", no, "clip")
    text_of = editor.page.evaluate(VALUES, yes)["text"]
    same = "same as the positive"
    for text, said, warns in [(text_of, same, True), ("white", "NAG on in all 8 steps", False), (text_of, same, True)]:
        put(editor, no, text=text)
        put(editor, the(editor, "KSampler"), seed=next(SEEDS))
        panel.says("NAG on in all 8 steps" if warns else same)  # of before
        editor.run()
        panel.says(said)
        assert panel.root.locator(".nag-headline.nag-warning").count() == warns
        assert panel.root.locator("svg").is_visible() == (not warns)
    another = add(editor, "CLIPTextEncode", 0, 1050, text="red")
    connect(editor, loader, "CLIP", another, "clip")
    connect(editor, another, "CONDITIONING", the(editor, "NAGModel"), "nag_negative")
    notice(editor)
    panel.says("NAG on in all 8 steps")  # of another graph nothing is known yet


def test_statistics_begin_anew_with_each_prompt(editor):
    panel = with_nag(editor, statistics=True)
    panel.says("in all 8 steps")
    for _ in range(2):
        put(editor, the(editor, "KSampler"), seed=next(SEEDS))
        editor.run()
        panel.says("held back", ".nag-measures")
        editor.page.wait_for_timeout(500)
        assert panel.bars() == ["done"] * 8


def test_graph_and_prompt_are_those_without_the_panel(editor):
    with_nag(editor, end_percent=0.5)
    for i, kind in enumerate(["NAGConditioning", "NAGGuider", "NAGCFGGuider", "NAGSampler", "KSamplerWithNAG"]):
        add(editor, kind, 400 * i, 1100)
    graph, prompt = editor.graph(), editor.prompt()
    assert editor.page.locator(".nag-panel").count() == 6
    editor.load(graph)
    assert editor.graph() == graph
    editor.load(graph)
    assert (editor.graph(), editor.prompt()) == (graph, prompt)

    client = Client(editor.url)
    client.post("/settings", {"Comfy.Extension.Disabled": ["nag.editor"]})
    try:
        editor.open()
        editor.load(graph)
        assert editor.page.locator(".nag-panel").count() == 0
        assert (without_size(editor.graph()), editor.prompt()) == (without_size(graph), prompt)
    finally:
        client.post("/settings", {"Comfy.Extension.Disabled": []})


def without_size(graph):
    return {**graph, "nodes": [{k: v for k, v in node.items() if k != "size"} for node in graph["nodes"]]}


def choose(panel, label):
    """From the list of recommended settings."""
    values = panel.root.locator("select option").all_inner_texts()
    panel.root.locator("select").select_option(index=next(i for i, v in enumerate(values) if label in v))


def undo(editor):
    editor.page.mouse.click(*NOWHERE)
    editor.page.keyboard.press("Control+z")
    editor.page.wait_for_timeout(700)


def chosen(panel):
    """What the list shows as set."""
    return panel.root.locator("select").evaluate("list => list.options[0].textContent")


def test_recommended_settings(editor):
    panel = with_nag(editor)
    nag = the(editor, "NAGModel")
    auto = {"nag_scale": 5, "nag_tau": 2.5, "nag_alpha": 0.25, "strength": 1}
    panel.says("NAG on")
    labels = panel.root.locator("select option").all_inner_texts()
    assert labels[:2] == ["auto (Flux): 5 / 2.5 / 0.25"] * 2
    assert labels[2] == "Flux (this model): 5 / 2.5 / 0.25 (the paper)"
    choose(panel, "Wan:")
    assert editor.page.evaluate(VALUES, nag) == {**auto, "nag_scale": 11}
    assert chosen(panel) == "Wan’s, this is Flux: 11 / 2.5 / 0.25"
    panel.says("scale 11", ".nag-detail")
    assert editor.prompt()[str(nag)]["inputs"]["nag_scale"] == 11
    undo(editor)
    panel = Panel(editor)
    panel.says("scale 5", ".nag-detail")
    assert editor.page.evaluate(VALUES, nag) == auto
    assert editor.prompt()[str(nag)]["inputs"]["nag_scale"] == "auto"
    choose(panel, "Flux.1 Kontext")
    assert chosen(panel) == "Flux.1 Kontext: 3 / 2.5 / 0.25"
    put(editor, nag, nag_tau=3)
    panel.says("tau 3", ".nag-detail")
    assert chosen(panel) == "custom: 3 / 3 / 0.25"
    choose(panel, "auto")
    assert editor.page.evaluate(VALUES, nag) == auto
    assert editor.prompt()[str(nag)]["inputs"]["nag_scale"] == "auto"


def test_recommended_settings_of_a_guider(editor):
    nag = add(editor, "NAGGuider")
    connect(editor, the(editor, "NAGPlaygroundLoader"), "MODEL", nag, "model")
    notice(editor)
    editor.show()
    panel = Panel(editor)
    panel.says("not connected")
    assert chosen(panel) == "auto: known when it runs"
    choose(panel, "Stable Diffusion XL")
    values = editor.page.evaluate(VALUES, nag)
    assert values == {"nag_scale": 3, "nag_tau": 2.5, "nag_alpha": 0.5, "nag_sigma_end": 0, "strength": 1}
    inputs = editor.prompt()[str(nag)]["inputs"]
    assert (inputs["nag_scale"], inputs["nag_sigma_end"]) == (3, "auto")


def test_statistics_button(editor):
    panel = with_nag(editor)
    panel.says("NAG on")
    before = len(editor.graph()["nodes"])
    panel.root.get_by_role("button", name="statistics").click()
    options, nag = the(editor, "NAGOptions"), the(editor, "NAGModel")
    assert editor.page.evaluate(VALUES, options)["statistics"] is True
    assert editor.prompt()[str(options)]["inputs"]["end_percent"] == "auto"  # the picture stays the same
    assert editor.prompt()[str(nag)]["inputs"]["options"] == [str(options), 0]
    covers = """id => app.graph._nodes.filter(node => node.id !== id && LiteGraph.overlapBounding(
        [...node.pos, ...node.size], [...app.graph.getNodeById(id).pos, ...app.graph.getNodeById(id).size])).length"""
    assert editor.page.evaluate(covers, options) == 0
    pressed = panel.root.locator(".nag-statistics[aria-pressed=true]")
    pressed.wait_for()
    pressed.click()
    panel.root.locator(".nag-statistics[aria-pressed=false]").wait_for()
    assert editor.page.evaluate(VALUES, options)["statistics"] is False
    undo(editor)
    undo(editor)
    editor.page.wait_for_function(f"() => app.graph._nodes.length === {before}", polling=100, timeout=10000)


def test_other_states(editor):
    panel = with_nag(editor)
    nag, sampler = the(editor, "NAGModel"), the(editor, "KSampler")
    for node, name, value, back, says in (
        (nag, "nag_scale", "1", "auto", "^nag_scale is 1, which is off"),
        (nag, "nag_tau", "<img src=x>", "auto", 'nag_tau must be .*<img src=x>'),
        (nag, "mode", 4, 0, "^bypassed"),
        (nag, "mode", 2, 0, "^muted"),
        (sampler, "mode", 2, 0, "not connected to a sampler"),
        (sampler, "denoise", 0.5, 1, "σ 0.75 → "),
    ):
        for now, expected in ((value, says), (back, "in all 8 steps")):
            put(editor, node, **{name: now})
            panel.says(expected)
    assert not panel.root.locator("img").count()


HEIGHTS = "bars => bars.map(bar => Number(bar.getAttribute('height')))"


def heights(panel):
    """Of the steps' bars, in percent."""
    return panel.root.locator("g.step .bar").evaluate_all(HEIGHTS)


def test_a_schedule_is_drawn_as_heights(editor):
    panel = with_nag(editor, schedule="list", strengths="1, 0.5, 0.1, 0")
    nag, options = the(editor, "NAGModel"), the(editor, "NAGOptions")
    panel.says("NAG on in steps 1–3 of 8")
    assert panel.bars() == ["on"] * 3 + ["off"] * 5
    assert heights(panel) == pytest.approx([100, 50, 10] + [100] * 5)
    assert panel.root.locator("g.on .rest").count() == 2
    panel.root.locator("g.step").nth(1).hover()
    panel.says(r"step 2 of 8 · σ 0\.\d+ · NAG on · strength 0\.5$")
    put(editor, nag, strength=0.5)
    panel.root.locator(".nag-detail").hover()
    panel.says("alpha 0.125", ".nag-detail")
    assert heights(panel) == pytest.approx([100, 50, 10] + [100] * 5)  # beside the node's own
    panel.root.locator("g.step").nth(1).hover()
    panel.says(r"NAG on · strength 0\.25$")
    put(editor, nag, strength=1)
    put(editor, options, strengths="1, strong")
    panel.says("^strengths must be numbers with commas between")
    put(editor, options, schedule="linear")
    panel.says("in all 8 steps")
    assert heights(panel) == pytest.approx([100 - 12.5 * step for step in range(8)])
    editor.screenshot(f"editor schedule{' Nodes 2.0' * editor.vue_nodes}")
    put(editor, options, schedule="constant")
    panel.says("in all 8 steps")
    editor.page.wait_for_function("() => !document.querySelector('.nag-panel .rest')", polling=50, timeout=15000)
    assert heights(panel) == [100] * 8


def test_what_is_not_as_usual_is_said(editor):
    panel = with_nag(editor, equation="vsf")
    nag, options = the(editor, "NAGModel"), the(editor, "NAGOptions")
    no = editor.page.evaluate(FIND, "CLIPTextEncode")[1]
    panel.says("^vsf · Flux: scale 1.25$", ".nag-detail")
    assert chosen(panel) == "auto (Flux): 1.25"
    put(editor, options, equation="orthogonal", blocks="double")
    panel.says("^orthogonal · 2 of 4 blocks · Flux: scale 5 · tau 2.5 · alpha 0.25$", ".nag-detail")
    put(editor, options, equation="nag", blocks="middle")
    panel.says("^'middle' in blocks is not in this model. It has double 0 to 1 and single 0 to 1")
    assert not panel.root.locator("svg").is_visible()
    put(editor, options, blocks="all")
    panel.says("^Flux: scale 5", ".nag-detail")
    area = add(editor, "ConditioningSetAreaPercentage", 0, 900, width=1.0, height=0.5, strength=0.4)
    connect(editor, no, "CONDITIONING", area, "conditioning")
    connect(editor, area, "CONDITIONING", nag, "nag_negative")
    notice(editor)
    panel.says("^weight 0.4 · in a part of the picture · Flux: scale 5", ".nag-detail")


CHOOSE = """([id, values]) => {
    const node = app.graph.getNodeById(id)
    for (const [name, value] of Object.entries(values)) {
        const widget = node.widgets.find(w => w.name === name)
        widget.value = value
        widget.callback?.(value, app.canvas, node)
    }
    app.graph.setDirtyCanvas(true, true)
}"""
SHOWN_DISABLED = "([id, n]) => document.querySelectorAll(`[data-node-id='${id}'] input:disabled`).length === n"
DISABLED = "id => app.graph.getNodeById(id).widgets.filter(w => w.disabled).map(w => w.name)"


def test_what_has_no_effect_is_disabled(editor):
    """And keeps its value."""
    options = add(editor, "NAGOptions", vsf_offset=0.5, strengths="1, 0")
    editor.show(options)
    steps = [({}, {"vsf_offset", "strengths"}), ({"equation": "vsf"}, {"strengths"}), ({"schedule": "list"}, set()),
             ({"equation": "nasa"}, {"vsf_offset"})]  # fmt: skip
    for values, disabled in steps:
        editor.page.evaluate(CHOOSE, [options, values])
        assert set(editor.page.evaluate(DISABLED, options)) == disabled
        if editor.vue_nodes:
            editor.page.wait_for_function(SHOWN_DISABLED, arg=[options, len(disabled)], polling=50, timeout=15000)
    graph = editor.graph()
    editor.load(graph)
    assert editor.page.evaluate(DISABLED, options) == ["vsf_offset"]
    assert editor.page.evaluate(VALUES, options).items() >= {"vsf_offset": 0.5, "strengths": "1, 0"}.items()


def test_options_that_other_nodes_give(editor):
    panel = with_nag(editor, blocks="all")
    text = add(editor, "PrimitiveString", 100, 950, value="single 0")
    connect(editor, text, "STRING", the(editor, "NAGOptions"), "blocks")
    notice(editor)
    panel.says("^1 of 4 blocks", ".nag-detail")


def test_options_that_were_saved_with_fewer_inputs(editor):
    with_nag(editor, end_percent=0.5, statistics=True)
    graph = editor.graph()
    (options,) = (node for node in graph["nodes"] if node["type"] == "NAGOptions")
    options["widgets_values"] = options["widgets_values"][:6]
    options.pop("widgets_values_named", None)
    names = {widget["name"] for widget in options["inputs"] if "widget" in widget}
    options["inputs"] = [each for each in options["inputs"] if each["name"] in names - {"equation", "blocks"}]
    editor.load(graph)
    panel = Panel(editor)
    panel.says(r"NAG on in steps 1–\d of 8")
    assert panel.detail() == "Flux: scale 5 · tau 2.5 · alpha 0.25"
    inputs = editor.prompt()[str(options["id"])]["inputs"]
    assert inputs["end_percent"] == 0.5 and inputs["statistics"] is True
    assert [inputs[name] for name in ("equation", "schedule", "blocks")] == ["nag", "constant", "all"]


def test_two_samplers_one_after_another(editor):
    """As Wan2.2's workflows have them, with one NAG Conditioning."""
    load, yes, *_ = editor.graph()["nodes"]
    first = add(editor, "KSamplerAdvanced", 860, 400, steps=6, end_at_step=2, return_with_leftover_noise="enable")
    second = add(editor, "KSamplerAdvanced", 1260, 400, steps=6, start_at_step=2, add_noise="disable")
    nag = add(editor, "NAGConditioning")
    no = editor.page.evaluate(FIND, "CLIPTextEncode")[1]
    connect(editor, yes["id"], "CONDITIONING", nag, "positive")
    connect(editor, no, "CONDITIONING", nag, "negative")
    for sampler in (first, second):
        connect(editor, nag, "CONDITIONING", sampler, "positive")
        connect(editor, no, "CONDITIONING", sampler, "negative")
        connect(editor, load["id"], "MODEL", sampler, "model")
    connect(editor, first, "LATENT", second, "latent_image")
    notice(editor)
    editor.show()
    panel = Panel(editor)
    panel.says("in all 6 steps")
    xs = panel.root.locator("g.step .bar").evaluate_all("bars => bars.map(bar => Number(bar.getAttribute('x')))")
    assert [b - a > 1.1 for a, b in zip(xs, xs[1:])] == [False, True, False, False, False]


def test_inside_a_subgraph_and_behind_a_reroute(editor):
    panel = with_nag(editor, statistics=True)
    panel.says("in all 8 steps")
    nag, load = the(editor, "NAGModel"), the(editor, "NAGPlaygroundLoader")
    reroute = add(editor, "Reroute", 320, 40)
    editor.page.evaluate("""([load, reroute, nag]) => {
        const [from, via, to] = [load, reroute, nag].map(id => app.graph.getNodeById(id))
        from.connect(0, via, 0)
        via.connect(0, to, 0)
    }""", [load, reroute, nag])  # fmt: skip
    notice(editor)
    editor.page.wait_for_timeout(500)
    panel.says("in all 8 steps")
    assert panel.detail().startswith("Flux")
    editor.page.evaluate("id => { app.graph.convertToSubgraph(new Set([app.graph.getNodeById(id)])) }", nag)
    notice(editor)
    with editor.page.expect_request("**/nag/plan") as asked:
        put(editor, the(editor, "KSampler"), steps=7)
    nodes = asked.value.post_data_json["nodes"]
    (inner,) = [node_id for node_id, node in nodes.items() if node["type"] == "NAGModel"]
    assert re.fullmatch(r"\d+:\d+", inner) and inner in editor.prompt()
    assert nodes[inner]["inputs"]["model"] == [str(load), 0]
    assert nodes[str(the(editor, "KSampler"))]["inputs"]["model"] == [inner, 0]


LOCALES = {"ko": "8스텝 모두에서", "zh": "全部 8 步", "ja": "全8ステップ", "fr": "all 8 steps"}


@pytest.mark.parametrize("locale, says", LOCALES.items())
def test_languages(browser, server, locale, says):
    from host.browser import Editor

    client = Client(server.url)
    client.post("/settings", {"Comfy.Locale": locale})
    try:
        with Editor(browser, server.url) as editor:
            editor.load(editor.page.evaluate(BUILD, next(SEEDS)))
            with_nag(editor).says(says)
    finally:
        client.post("/settings", {"Comfy.Locale": "en"})


def test_server_that_makes_no_plans(editor):
    asked = []

    def refuse(route):
        asked.append(route)
        route.fulfill(status=404)

    editor.page.route("**/nag/plan", refuse)
    panel = with_nag(editor)
    for _ in range(3):
        add(editor, "NAGModel", 0, 1000)
        notice(editor)
        editor.page.wait_for_timeout(400)
    assert len(asked) == 1 and panel.root.locator(".nag-headline").inner_text() == ""
    editor.run()
    (noted,) = (error for error in editor.errors if "/nag/plan" in error)  # by Chromium itself
    editor.errors.remove(noted)
