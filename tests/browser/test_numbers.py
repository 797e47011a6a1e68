"""nag_scale and its kin as people set them: number widgets that may be "auto". In each frontend and renderer."""
import json

import test_editor
from host.client import Client
from host.server import PACK
from test_editor import (
    MORE_POSITION,
    VALUES,
    Panel,
    add,
    chosen,
    notice,
    one_more,
    put,
    the,
    undo,
    with_nag,
)

editor = test_editor.editor  # the fixture
SAVED = sorted((PACK / "tests" / "saved").glob("*.json"))
NAMES = ("nag_scale", "nag_tau", "nag_alpha")
AUTO = dict.fromkeys(NAMES, "auto")
LABELS = """id => Object.fromEntries(
    app.graph.getNodeById(id).widgets.filter(w => w.serialize !== false).map(w => [w.name, w.label ?? w.name]))"""


def sent(editor, node):
    """What a prompt has of a node's widgets."""
    inputs = editor.prompt()[str(node)]["inputs"]
    return {name: value for name, value in inputs.items() if not isinstance(value, list)}


def plan_of(editor, prompt):
    """The settings in effect of each NAG node of a prompt."""
    nodes = {key: {"type": node["class_type"], "mode": 0, "inputs": node["inputs"]} for key, node in prompt.items()}
    plan = json.loads(Client(editor.url).post("/nag/plan", {"nodes": nodes}))
    return {key: node["settings"] for key, node in plan["nodes"].items()}


def test_graphs_of_the_version_before(editor):
    """They load with the same inputs and links, and mean the same."""
    assert len(SAVED) > 10
    for path in SAVED:
        saved = json.loads(path.read_text(encoding="utf-8"))
        editor.load(saved["graph"])
        prompt = editor.prompt()
        plan = plan_of(editor, prompt)
        assert plan == plan_of(editor, saved["prompt"]), path.stem
        of_saved = lambda now, names: names and {name: now[name] for name in names}
        known = {key: of_saved(plan[key], names) for key, names in saved["settings"].items()}
        assert plan.keys() == known.keys() and known == saved["settings"], path.stem
        links = lambda prompt: {(key, name, *value) for key, node in prompt.items()
                                for name, value in node["inputs"].items() if isinstance(value, list)}  # fmt: skip
        assert links(prompt) == links(saved["prompt"]), path.stem
        texts = lambda prompt: [str(value).strip().lower() == "auto" for node in prompt.values()
                                for name, value in node["inputs"].items() if name in NAMES]  # fmt: skip
        assert texts(prompt) == texts(saved["prompt"]), path.stem
        assert editor.red_nodes() == []


def test_numbers_by_hand(editor):
    panel = with_nag(editor)
    nag = the(editor, "NAGModel")
    panel.says("NAG on in all 8 steps")
    assert sent(editor, nag) == {**AUTO, "strength": 1}
    assert editor.page.evaluate(LABELS, nag)["nag_scale"] == "nag_scale · auto"
    one_more(editor, nag, "nag_scale")
    panel.says("scale 5.1", ".nag-detail")
    notice(editor)  # Nodes 2.0 does so one click later
    assert sent(editor, nag) == {**AUTO, "nag_scale": 5.1, "strength": 1}
    assert editor.page.evaluate(LABELS, nag) == {
        "nag_scale": "nag_scale", "nag_tau": "nag_tau · auto", "nag_alpha": "nag_alpha · auto", "strength": "strength"
    }  # fmt: skip
    assert chosen(panel) == "custom: 5.1 / 2.5 / 0.25"
    one_more(editor, nag, "strength")
    panel.says("alpha 0.275", ".nag-detail")
    notice(editor)
    assert sent(editor, nag)["strength"] == 1.05
    for _ in range(4):  # Nodes 2.0 may take more steps for a click
        if sent(editor, nag) != {**AUTO, "strength": 1}:
            undo(editor)
            editor.page.wait_for_timeout(300)
    Panel(editor).says("scale 5 ", ".nag-detail")
    assert sent(editor, nag) == {**AUTO, "strength": 1}


def type_into(editor, node, name, text):
    """Into the field of a number, as people do, and Enter."""
    if editor.vue_nodes:
        field = editor.page.locator(f'[data-node-id="{node}"]').get_by_label(name, exact=True)
        field.locator("xpath=descendant-or-self::*[@role='spinbutton']").focus()
    else:
        x, y = editor.page.evaluate(MORE_POSITION, [node, name])
        editor.page.mouse.click(x - 80 * editor.page.evaluate("() => app.canvas.ds.scale"), y)
        editor.page.locator(".graphdialog .value").wait_for()
    editor.page.keyboard.press("Control+A")
    editor.page.keyboard.type(text) if text else editor.page.keyboard.press("Delete")
    editor.page.keyboard.press("Enter")
    editor.page.wait_for_timeout(200)


def test_what_is_typed(editor):
    """With a decimal comma, and nothing, which is auto."""
    panel = with_nag(editor)
    nag = the(editor, "NAGModel")
    panel.says("NAG on in all 8 steps")
    for name, text, value in (("nag_alpha", "0,4", 0.4), ("nag_scale", "7", 7), ("nag_alpha", "", "auto"),
                              ("strength", "1,25", 1.25), ("strength", "", 1), ("nag_scale", "200", 100)):
        type_into(editor, nag, name, text)
        assert sent(editor, nag)[name] == value
    assert editor.page.evaluate(VALUES, nag)["nag_alpha"] == 0.25


def test_auto_is_kept(editor):
    """By copies, by files, by undo, in a subgraph, and when the model changes what it stands for."""
    panel = with_nag(editor)
    nag = the(editor, "NAGModel")
    panel.says("NAG on")
    put(editor, nag, nag_alpha=0.3)
    expected = {**AUTO, "nag_alpha": 0.3, "strength": 1}
    graph = editor.graph()
    (node,) = (each for each in graph["nodes"] if each["type"] == "NAGModel")
    assert node["widgets_values"] == ["auto", "auto", 0.3, 1]
    editor.load(graph)
    assert sent(editor, nag) == expected
    copy = editor.page.evaluate("""id => {
        const copy = app.graph.getNodeById(id).clone()
        app.graph.add(copy)
        return copy.id
    }""", nag)  # fmt: skip
    assert sent(editor, copy) == expected and editor.page.evaluate(VALUES, copy)["nag_scale"] == 5
    editor.page.evaluate("id => app.graph.remove(app.graph.getNodeById(id))", copy)
    editor.page.evaluate("id => { app.graph.convertToSubgraph(new Set([app.graph.getNodeById(id)])) }", nag)
    notice(editor)
    (inner,) = [key for key, node in editor.prompt().items() if node["class_type"] == "NAGModel"]
    assert ":" in inner and sent(editor, inner) == expected


def test_what_scripts_set(editor):
    panel = with_nag(editor)
    nag = the(editor, "NAGModel")
    panel.says("NAG on")
    for value, number in ((7, 7), ("auto", "auto"), ("2,5", 2.5), ("", "auto"), (" 4 ", 4), ("AUTO", "auto")):
        put(editor, nag, nag_scale=value)
        panel.says(f"scale {5 if number == 'auto' else number} ", ".nag-detail")
        assert sent(editor, nag)["nag_scale"] == number


def test_an_api_prompt_as_a_graph(editor):
    """Values come by the widgets' callbacks there."""
    with_nag(editor).says("NAG on")
    nag, prompt = the(editor, "NAGModel"), editor.prompt()
    for values in ({"nag_scale": "3", "nag_tau": "auto", "nag_alpha": 0.25}, {"nag_scale": "auto"}):
        inputs = {name: value for name, value in prompt[str(nag)]["inputs"].items() if name == "model"}
        changed = {**prompt, str(nag): {**prompt[str(nag)], "inputs": {**inputs, **values}}}
        editor.page.evaluate("prompt => app.loadApiJson(prompt, 'prompt')", changed)
        expected = {**AUTO, **values, "strength": 1}
        if "nag_tau" in values:
            expected |= {"nag_scale": 3}
        assert sent(editor, the(editor, "NAGModel")) == expected


def test_a_guider_has_only_what_is_used(editor):
    for kind in ("NAGGuider", "NAGCFGGuider"):
        node = add(editor, kind, 400, 1100)
        names = editor.page.evaluate("id => app.graph.getNodeById(id).inputs.map(input => input.name)", node)
        assert "latent_image" not in names and "nag_negative" in names
        assert set(sent(editor, node).items()) >= {*AUTO.items(), ("nag_sigma_end", "auto"), ("strength", 1)}


def test_older_samplers_keep_plain_numbers(editor):
    node = add(editor, "KSamplerWithNAG", 400, 1100)
    assert {name: sent(editor, node)[name] for name in NAMES} == {"nag_scale": 5, "nag_tau": 2.5, "nag_alpha": 0.25}
    notice(editor)
    panel = Panel(editor)
    panel.says("[a-z]")
    assert chosen(panel).endswith("5 / 2.5 / 0.25") and not chosen(panel).startswith("auto")
