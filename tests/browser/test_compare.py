"""The compare button: what a NAG node leads to, once more without NAG, in every frontend and renderer."""
import pytest
import test_editor
from host.client import Client
from host.export import graphs, lacking, put_stand_ins
from test_editor import FIND, VALUES, Panel, add, connect, notice, put, the, undo, with_nag

editor = test_editor.editor  # a fixture
STOCK = {"NAGSampler": "KSampler", "NAGGuider": "BasicGuider", "NAGCFGGuider": "CFGGuider"}
NAG_INPUTS = {"nag_scale", "nag_tau", "nag_alpha", "strength", "nag_sigma_end", "nag_negative", "options"}
PASSES = {"NAGModel": "model", "NAGConditioning": "positive"}
NAG_NODES = {*STOCK, *PASSES}
# Of the graph that is shown: a panel of one before it may still be in the page.
BUTTON = """() => [...app.canvas.graph._nodes].sort((a, b) => a.id - b.id).flatMap(node => node.widgets ?? [])
    .find(widget => widget.name === "nag_picture")?.element.querySelector(".nag-compare")"""
# What is shown, but for the numbers that only ever grow, and what a preview gets when it first shows a picture.
SHOWN = """() => {
    const { nodes, links, groups } = JSON.parse(JSON.stringify(app.graph.serialize()))
    for (const node of nodes.filter(node => node.type === "PreviewImage")) {
        delete node.widgets_values
        delete node.widgets_values_named
    }
    for (const output of nodes.flatMap(node => node.outputs ?? [])) if (!output.links?.length) output.links = null
    return { nodes: nodes.sort((a, b) => a.id - b.id), links: links.sort((a, b) => a[0] - b[0]), groups }
}"""
COMPARES = "() => Boolean(LiteGraph.vueNodesMode && 'ImageCompare' in LiteGraph.registered_node_types)"
# What was added covers nothing.
COVERED = """() => {
    const added = app.graph._nodes.filter(node => node.properties.nag_compare && !/^NAG/.test(node.type))
    const title = LiteGraph.NODE_TITLE_HEIGHT
    const box = ({ pos, size }) => [pos[0], pos[1] - title, size[0], size[1] + title]  // also before it is drawn
    const meets = (one, other) => one !== other && LiteGraph.overlapBounding(box(one), box(other))
    return added.flatMap(one => app.graph._nodes.filter(other => meets(one, other)).map(other => [one.id, other.id]))
}"""


def made_of(prompt, link):
    """What a link brings, as nested tuples; a number that a node holds is that number."""
    node = prompt[link[0]]
    if node["class_type"] == "PrimitiveInt":
        return node["inputs"]["value"]
    inputs = {name: made_of(prompt, value) if isinstance(value, list) else value
              for name, value in node["inputs"].items()}
    return node["class_type"], link[1], tuple(sorted(inputs.items(), key=str))


def without_nag(prompt):
    """The prompt with its NAG nodes taken out by hand."""
    left = {}

    def past(value):
        while isinstance(value, list) and prompt[value[0]]["class_type"] in PASSES:
            node = prompt[value[0]]
            value = node["inputs"][PASSES[node["class_type"]]]
        return value

    for node_id, node in prompt.items():
        kind, inputs = node["class_type"], {name: past(value) for name, value in node["inputs"].items()}
        if kind in STOCK:
            kind = STOCK[kind]
            inputs = {name: value for name, value in inputs.items() if name not in NAG_INPUTS}
        if kind not in PASSES:
            left[node_id] = {**node, "class_type": kind, "inputs": inputs}
    return left


def kinds_before(prompt, node_id):
    """The types of a node and of all that it is made of."""
    node = prompt[node_id]
    links = [value for value in node["inputs"].values() if isinstance(value, list)]
    return {node["class_type"]}.union(*(kinds_before(prompt, link[0]) for link in links))


def shown_by(prompt):
    """{title: what a node of ours shows}: of the comparer by its sides."""
    found = {}
    for node in prompt.values():
        titles, links = node["_meta"]["title"].split(" | "), [v for v in node["inputs"].values() if isinstance(v, list)]
        if titles[0] in ("without NAG", "with NAG"):
            found.update(zip(titles, links, strict=True))
    return found


def press(editor):
    """By the keyboard, the button of the first node that has one."""
    page = editor.page
    page.wait_for_function(f"() => ({BUTTON})()?.offsetParent && ({BUTTON})().ariaPressed", polling=50)
    button = page.evaluate_handle(BUTTON)
    before = button.get_attribute("aria-pressed")
    button.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("([button, was]) => button.ariaPressed !== was", arg=[button, before], polling=50)
    notice(editor)


def check(editor, before):
    """Before: the prompt. What is shown now as without NAG is what the graph makes without it."""
    prompt = editor.prompt()
    shown = shown_by(prompt)
    kinds = {node["class_type"] for node in prompt.values()}
    original = next(node["inputs"]["images"] for node in before.values() if node["class_type"] == "PreviewImage")
    assert made_of(prompt, shown["with NAG"]) == made_of(before, original)
    assert made_of(prompt, shown["without NAG"]) == made_of(without_nag(before), original)
    assert made_of(prompt, shown["without NAG"]) != made_of(before, original)
    return kinds


def pictures(editor, prompt_id):
    """{title: pixels} of what a run showed; the comparer's sides, too."""
    client = Client(editor.url)
    outputs = client.history(prompt_id)["outputs"]
    found = {}
    for node_id, node in editor.prompt().items():
        titles, shown = node["_meta"]["title"].split(" | "), outputs.get(node_id, {})
        lists = [shown[name] for name in ("images", "a_images", "b_images") if name in shown]
        found.update({title: client._image(**files[0]).tobytes() for title, files in zip(titles, lists)})
    return found


def test_both_pictures_in_one_run(editor):
    plain = pictures(editor, editor.run())
    panel = with_nag(editor)
    panel.says("in all 8 steps")
    before, shown = editor.prompt(), editor.page.evaluate(SHOWN)
    press(editor)
    undo(editor)
    assert editor.page.evaluate(SHOWN) == shown
    panel.says("in all 8 steps")
    press(editor)
    kinds = check(editor, before)
    assert ("ImageCompare" in kinds) == editor.page.evaluate(COMPARES)
    assert editor.page.evaluate(COVERED) == []
    found = pictures(editor, editor.run())
    assert [found["without NAG"]] == list(plain.values()) != [found["with NAG"]]
    editor.show()
    editor.screenshot(f"compare{' Nodes 2.0' * editor.vue_nodes}")
    editor.load(editor.graph())  # as a saved graph
    panel.says("in all 8 steps")
    press(editor)
    assert editor.page.evaluate(SHOWN) == shown


def test_seeds_stay_equal(editor):
    with_nag(editor).says("in all 8 steps")
    sampler = the(editor, "KSampler")
    put(editor, sampler, seed=41, control_after_generate="increment")
    press(editor)
    seeds = []
    for _ in range(2):
        prompt = editor.prompt()
        seeds.append({made_of(prompt, node["inputs"]["seed"])
                      for node in prompt.values() if node["class_type"] == "KSampler"})
        editor.run()
    assert seeds == [{41}, {42}]
    press(editor)
    values = editor.page.evaluate(VALUES, sampler)
    assert (values["seed"], values["control_after_generate"]) == (43, "increment")
    assert editor.prompt()[str(sampler)]["inputs"]["seed"] == 43


def nag_conditioning(editor):
    """Two regions, each with a negative of its own."""
    yes, no = editor.page.evaluate(FIND, "CLIPTextEncode")
    sampler, combine = the(editor, "KSampler"), add(editor, "ConditioningCombine", 460, 1000)
    for at in (1, 2):
        nag = add(editor, "NAGConditioning", 460, 400 * at)
        connect(editor, yes, "CONDITIONING", nag, "positive")
        connect(editor, no, "CONDITIONING", nag, "negative")
        connect(editor, nag, "CONDITIONING", combine, f"conditioning_{at}")
    connect(editor, combine, "CONDITIONING", sampler, "positive")


def nodes_behind_nag_model(editor):
    nag, flux = add(editor, "NAGModel"), add(editor, "ModelSamplingFlux", 460, 500)
    reroute = add(editor, "Reroute", 460, 450)
    connect(editor, the(editor, "NAGPlaygroundLoader"), "MODEL", nag, "model")
    editor.page.evaluate("""ids => {
        const [nag, reroute, flux] = ids.map(id => app.graph.getNodeById(id))
        nag.connect(0, reroute, 0)
        reroute.connect(0, flux, 0)
    }""", [nag, reroute, flux])  # fmt: skip
    connect(editor, flux, "MODEL", the(editor, "KSampler"), "model")


def nag_sampler(editor):
    stock, nag = the(editor, "KSampler"), add(editor, "NAGSampler", 460, 400, seed=3, steps=6, sampler_name="euler")
    yes, no = editor.page.evaluate(FIND, "CLIPTextEncode")
    connect(editor, the(editor, "NAGPlaygroundLoader"), "MODEL", nag, "model")
    connect(editor, yes, "CONDITIONING", nag, "positive")
    connect(editor, no, "CONDITIONING", nag, "negative")
    connect(editor, the(editor, "EmptyLatentImage"), "LATENT", nag, "latent_image")
    connect(editor, nag, "LATENT", the(editor, "VAEDecode"), "samples")
    editor.page.evaluate("id => app.graph.remove(app.graph.getNodeById(id))", stock)


def guider(kind):
    def build(editor):
        yes, no = editor.page.evaluate(FIND, "CLIPTextEncode")
        load, nag = the(editor, "NAGPlaygroundLoader"), add(editor, kind, 460, 400)
        sampler = add(editor, "SamplerCustomAdvanced", 900, 400)
        connect(editor, load, "MODEL", nag, "model")
        connect(editor, yes, "CONDITIONING", nag, "conditioning" if kind == "NAGGuider" else "positive")
        if kind == "NAGCFGGuider":
            connect(editor, no, "CONDITIONING", nag, "negative")
            put(editor, nag, cfg=1.5)
        connect(editor, no, "CONDITIONING", nag, "nag_negative")
        connect(editor, nag, "GUIDER", sampler, "guider")
        for other, output, name in (("RandomNoise", "NOISE", "noise"), ("KSamplerSelect", "SAMPLER", "sampler"),
                                    ("BasicScheduler", "SIGMAS", "sigmas")):
            made = add(editor, other, 460, 900)
            connect(editor, made, output, sampler, name)
            if other == "BasicScheduler":
                connect(editor, load, "MODEL", made, "model")
        connect(editor, the(editor, "EmptyLatentImage"), "LATENT", sampler, "latent_image")
        connect(editor, sampler, "output", the(editor, "VAEDecode"), "samples")

    return build


def one_sampler_after_another(editor):
    """As for Wan 2.2; a widget's value of another node's goes into both."""
    nag, first = add(editor, "NAGModel"), the(editor, "KSampler")
    second, denoise = add(editor, "KSampler", 900, 400, denoise=0.5), add(editor, "PrimitiveFloat", 460, 900, value=0.7)
    yes, no = editor.page.evaluate(FIND, "CLIPTextEncode")
    connect(editor, the(editor, "NAGPlaygroundLoader"), "MODEL", nag, "model")
    for sampler in (first, second):
        connect(editor, nag, "MODEL", sampler, "model")
        connect(editor, yes, "CONDITIONING", sampler, "positive")
        connect(editor, no, "CONDITIONING", sampler, "negative")
    connect(editor, denoise, "FLOAT", first, "denoise")
    connect(editor, first, "LATENT", second, "latent_image")
    connect(editor, second, "LATENT", the(editor, "VAEDecode"), "samples")


BUILDS = [nag_conditioning, nodes_behind_nag_model, nag_sampler, guider("NAGGuider"), guider("NAGCFGGuider"),
          one_sampler_after_another]


@pytest.mark.parametrize("build", BUILDS, ids=["NAGConditioning", "behind NAGModel", "NAGSampler", "NAGGuider",
                                               "NAGCFGGuider", "two samplers"])
def test_the_way_without_nag(editor, build):
    build(editor)
    notice(editor)
    panel = Panel(editor)
    panel.says("NAG on")
    before, shown = editor.prompt(), editor.page.evaluate(SHOWN)
    press(editor)
    check(editor, before)
    assert editor.page.evaluate(COVERED) == []
    press(editor)
    assert editor.page.evaluate(SHOWN) == shown


def test_in_a_subgraph(editor):
    with_nag(editor).says("in all 8 steps")
    before = editor.prompt()
    inside = [the(editor, kind) for kind in ("NAGModel", "KSampler", "VAEDecode")]
    editor.page.evaluate("""ids => {
        const { node } = app.graph.convertToSubgraph(new Set(ids.map(id => app.graph.getNodeById(id))))
        app.canvas.openSubgraph(node.subgraph, node)
    }""", inside)  # fmt: skip
    notice(editor)
    shown = editor.page.evaluate(SHOWN.replace("app.graph.", "app.canvas.graph."))
    press(editor)
    prompt = editor.prompt()
    shows = shown_by(prompt)
    (original,) = [node["inputs"]["images"] for node in before.values() if node["class_type"] == "PreviewImage"]
    assert made_of(prompt, shows["with NAG"]) == made_of(before, original)
    assert made_of(prompt, shows["without NAG"]) == made_of(without_nag(before), original)
    press(editor)
    assert editor.page.evaluate(SHOWN.replace("app.graph.", "app.canvas.graph.")) == shown


def test_what_it_leads_to_is_a_subgraph(editor):
    """With more inputs than outputs; its seed, where newer frontends make it an input, is for both."""
    panel = with_nag(editor)
    panel.says("in all 8 steps")
    before = editor.prompt()
    ids = [the(editor, kind) for kind in ("KSampler", "VAEDecode")]
    nodes = "ids.map(id => app.graph.getNodeById(id))"
    editor.page.evaluate(f"ids => {{ app.graph.convertToSubgraph(new Set({nodes})) }}", ids)
    notice(editor)
    panel.says("in all 8 steps")
    press(editor)
    check(editor, before)
    own = editor.page.evaluate("() => app.graph._nodes.some(n => n.isSubgraphNode?.() && n.findInputSlot('seed') >= 0)")
    seeds = [node["inputs"]["seed"] for node in editor.prompt().values() if node["class_type"] == "KSampler"]
    assert len(seeds) == 2 and all(isinstance(seed, list) == own for seed in seeds)


def test_no_sampler_no_button(editor):
    with_nag(editor).says("in all 8 steps")
    button = Panel(editor).root.locator("button.nag-compare")
    assert button.is_visible()
    editor.page.evaluate("id => { app.graph.getNodeById(id).disconnectInput(0) }", the(editor, "KSampler"))
    notice(editor)
    button.wait_for(state="hidden")


def test_each_shipped_workflow(browser, server):
    """Of what the button adds nothing has to do with NAG but what shows the two, and the server takes it."""
    from host.browser import Editor

    put_stand_ins(server.base)
    client = Client(server.url)
    nodes = client.object_info()
    tried = {name: graph for name, graph in graphs().items() if not lacking(graph, nodes)}
    with Editor(browser, server.url) as editor:
        for name, graph in tried.items():
            if not any(node["type"] in (*STOCK, *PASSES) for node in graph["nodes"]):
                continue
            editor.load(graph)
            if any("nag_compare" in node["properties"] for node in graph["nodes"]):
                press(editor)  # it has it, and is to be without
            before = editor.prompt()
            press(editor)
            prompt = editor.prompt()
            added = {key: node for key, node in prompt.items() if key not in before}
            assert len(added) > 1, name
            guided = [node for key, node in added.items() if NAG_NODES & kinds_before(prompt, key)]
            assert {node["_meta"]["title"] for node in guided} <= {"with NAG", "without NAG | with NAG"}, name
            assert editor.page.evaluate(COVERED) == [], name
            prompt_id = client.submit(prompt)  # raises if it is not accepted
            client.post("/queue", {"delete": [prompt_id]})
            client.post("/interrupt", {})
