"""Where NAG will not act, or has failed: a sentence in the place of the picture."""
import json

import pytest
import test_editor
from host.browser import PromptRejected
from host.client import Client, ExecutionError
from test_editor import FIND, SEEDS, Panel, add, connect, notice, put, the, with_nag

editor = test_editor.editor

DISCONNECT = """([id, input]) => {
    const node = app.graph.getNodeById(id)
    node.disconnectInput(node.findInputSlot(input))
}"""


def disconnect(editor, node, name):
    editor.page.evaluate(DISCONNECT, [node, name])
    notice(editor)


def shows_picture(panel):
    return panel.root.locator("svg").is_visible()


def shot(editor, name):
    editor.show()
    editor.screenshot(f"{name}{' Nodes 2.0' * editor.vue_nodes}")


def says_only(panel, pattern):
    """An orange sentence, whole, and no picture."""
    panel.says(pattern)
    assert not shows_picture(panel)
    headline = panel.root.locator(".nag-headline.nag-warning")
    assert headline.evaluate("it => it.scrollHeight <= it.clientHeight + 2"), headline.inner_text()
    inside = "it => { const [a, b] = [it, it.closest('.nag-panel')].map(e => e.getBoundingClientRect()); " \
             "return a.bottom <= b.bottom && a.right <= b.right }"
    assert headline.evaluate(inside) and panel.root.locator(".nag-controls").evaluate(inside)


def prompts(editor):
    """The positive's and the negative's nodes."""
    return editor.page.evaluate(FIND, "CLIPTextEncode")


def test_negatives_that_take_nothing_away(editor):
    panel = with_nag(editor)
    panel.says("in all 8 steps")
    assert shows_picture(panel)
    (_, no), sampler = prompts(editor), the(editor, "KSampler")
    for text, says in (("", "text of the NAG negative is empty"), ("a blue square", "same as the positive")):
        put(editor, no, text=text)
        says_only(panel, says)
        shot(editor, f"idle {text or 'empty'}")
        if not text:
            editor.run()  # which says it, too: until the text is written
            says_only(panel, says)
        put(editor, no, text="white")
        panel.says("in all 8 steps")
        assert shows_picture(panel)
    zero = add(editor, "ConditioningZeroOut", 460, 700)
    connect(editor, no, "CONDITIONING", zero, "conditioning")
    connect(editor, zero, "CONDITIONING", sampler, "negative")
    notice(editor)
    says_only(panel, "negative is zeroed")
    words = add(editor, "PrimitiveStringMultiline", 0, 950, value="white")
    connect(editor, no, "CONDITIONING", sampler, "negative")
    connect(editor, words, "STRING", no, "text")
    notice(editor)
    panel.says("in all 8 steps")
    put(editor, words, value=" ")
    says_only(panel, "text of the NAG negative is empty")


def test_typing_asks_for_nothing_new(editor):
    panel = with_nag(editor)
    panel.says("in all 8 steps")
    asked = []
    editor.page.on("request", lambda request: asked.append(request) if "/nag/plan" in request.url else None)
    _, no = prompts(editor)
    for text in ("w", "wh", "whi", "a long text, " * 100, "white "):
        put(editor, no, text=text)
        editor.page.wait_for_timeout(400)
    assert not asked
    put(editor, no, text="")
    says_only(panel, "is empty")
    assert len(asked) == 1 and "white" not in asked[0].post_data


def test_what_stands_in_its_way(editor):
    panel = with_nag(editor)
    panel.says("in all 8 steps")
    nag, sampler = the(editor, "NAGModel"), the(editor, "KSampler")
    (yes, no) = prompts(editor)
    second = add(editor, "NAGModel", 460, 560)
    connect(editor, nag, "MODEL", second, "model")
    connect(editor, second, "MODEL", sampler, "model")
    notice(editor)
    says_only(panel, f"Replaced by NAG Model #{second} behind it")
    Panel(editor, 1).says("in all 8 steps")
    shot(editor, "idle replaced")
    put(editor, second, mode=4)
    panel.says("in all 8 steps")

    conditioning = add(editor, "NAGConditioning", 460, 860)
    connect(editor, yes, "CONDITIONING", conditioning, "positive")
    connect(editor, no, "CONDITIONING", conditioning, "negative")
    connect(editor, conditioning, "CONDITIONING", sampler, "positive")
    notice(editor)
    says_only(panel, f"Replaced by NAG Conditioning #{conditioning} on the positive")
    connect(editor, yes, "CONDITIONING", sampler, "positive")
    connect(editor, conditioning, "CONDITIONING", sampler, "negative")
    notice(editor)
    says_only(Panel(editor, 2), "goes into a sampler's negative")
    says_only(panel, "goes into a sampler's negative")
    shot(editor, "idle in the negative")


def test_an_error_in_the_samplers_run(editor):
    """Which the plan does not know of here. ComfyUI frames the sampler; the node that asked for NAG says why."""

    def unknowing(route):
        answer = route.fetch()
        plan = answer.json()
        for node in plan["nodes"].values():
            node["message"] = None
            node["runs"] = [{**run, "on": [True] * run["steps"], "why": None} for run in node["runs"]]
        route.fulfill(response=answer, body=json.dumps(plan))

    editor.page.route("**/nag/plan", unknowing)
    panel = with_nag(editor)
    panel.says("in all 8 steps")
    (yes, no), sampler = prompts(editor), the(editor, "KSampler")
    conditioning = add(editor, "NAGConditioning", 460, 560)
    connect(editor, yes, "CONDITIONING", conditioning, "positive")
    connect(editor, no, "CONDITIONING", conditioning, "negative")
    connect(editor, conditioning, "CONDITIONING", sampler, "negative")
    put(editor, sampler, seed=next(SEEDS))
    panel.says("in all 8 steps")
    with pytest.raises(ExecutionError, match="NAG Conditioning goes into a sampler's negative"):
        editor.run()
    said = "^The output of NAG Conditioning goes into a sampler's negative"
    says_only(panel, said)
    editor.dismiss()
    shot(editor, "idle error")
    put(editor, sampler, seed=next(SEEDS))
    editor.page.wait_for_timeout(500)
    says_only(panel, said)  # nothing is right yet
    connect(editor, no, "CONDITIONING", sampler, "negative")
    notice(editor)
    panel.says("in all 8 steps")
    assert shows_picture(panel)
    connect(editor, conditioning, "CONDITIONING", sampler, "negative")
    put(editor, sampler, seed=next(SEEDS))
    with pytest.raises(ExecutionError):
        editor.run()
    says_only(panel, said)
    editor.dismiss()
    connect(editor, no, "CONDITIONING", sampler, "negative")
    put(editor, sampler, seed=next(SEEDS))
    editor.run()
    panel.says("in all 8 steps")
    forget_own(editor)


def forget_own(editor):
    """What the frontend itself logs of a prompt that has failed."""
    editor.errors[:] = [error for error in editor.errors if "nag/" in error]


def test_a_prompt_that_is_refused(editor):
    panel = with_nag(editor)
    panel.says("in all 8 steps")
    nag, load = the(editor, "NAGModel"), the(editor, "NAGPlaygroundLoader")
    disconnect(editor, nag, "model")
    with pytest.raises(PromptRejected):
        editor.queue()
    says_only(panel, "^Required input is missing: model$")
    editor.dismiss()
    shot(editor, "idle refused")
    connect(editor, load, "MODEL", nag, "model")
    notice(editor)
    panel.says("in all 8 steps")
    forget_own(editor)


@pytest.mark.parametrize("kind, hint", [
    ("NAGModel", "First connect a model"), ("NAGConditioning", "First connect a positive"),
    ("NAGCFGGuider", "First connect a model and the prompts"),
])  # fmt: skip
def test_what_to_do_first(editor, kind, hint):
    node = add(editor, kind)
    notice(editor)
    panel = Panel(editor)
    panel.says("not connected to a sampler")
    panel.says(hint, ".nag-hint")
    assert not shows_picture(panel)
    hint = panel.root.locator(".nag-hint")
    assert hint.evaluate("it => it.scrollHeight <= it.clientHeight + 1")
    shot(editor, f"hint {kind}")
    put(editor, node, mode=2)
    panel.says("^muted")
    assert not hint.is_visible()


SIDE_PANEL = "Comfy.RightSidePanel.IsOpen"  # frontends from 1.34 on have it


@pytest.fixture
def with_side_panel(editor):
    """The editor with the panel at the right open, which shows the parameters of what is selected."""
    client = Client(editor.url)
    client.post("/settings", {SIDE_PANEL: True})
    try:
        graph = editor.graph()
        editor.open()
        editor.load(graph)
        yield editor
    finally:
        client.post("/settings", {SIDE_PANEL: False})


def test_the_side_panel(with_side_panel):
    """It shows no row for the picture, which stays as wide as the node."""
    editor = with_side_panel
    panel = with_nag(editor)
    panel.says("in all 8 steps")
    nag = the(editor, "NAGModel")
    editor.page.evaluate("id => app.canvas.selectNode(app.graph.getNodeById(id))", nag)
    editor.page.wait_for_timeout(1500)  # until it shows the node, with each of its widgets
    editor.screenshot(f"side panel{' Nodes 2.0' * editor.vue_nodes}")
    for width in (500, 300):
        editor.page.evaluate("""([id, width]) => {
            const node = app.graph.getNodeById(id)
            node.setSize([width, node.size[1]])
            app.graph.setDirtyCanvas(true, true)
        }""", [nag, width])  # fmt: skip
        editor.page.wait_for_timeout(700)
        shown = panel.root.bounding_box()["width"] / editor.page.evaluate("() => app.canvas.ds.scale")
        assert width - 60 < shown <= width
    assert editor.page.get_by_text("nag_picture").count() == 0
