"""What the panel says and keeps of a run with statistics."""
import pytest
import test_editor
from test_editor import SEEDS, notice, put, the, with_nag

editor = test_editor.editor  # the fixture
STORE = "nag.statistics"
NARROW = """id => {
    const node = app.graph.getNodeById(id)
    node.setSize([150, node.size[1]])
    app.graph.setDirtyCanvas(true, true)
}"""
# Which sentence goes with which averages, each beside the next one's edge.
ADVICE = [
    ({"clipped": 0.2, "moved": 0.61}, "adviceFar"),
    ({"clipped": 0.9, "moved": 0.02}, "adviceTauHolds"),
    ({"clipped": 0.4, "moved": 0.02}, "adviceHardly"),
    ({"clipped": 0.0, "moved": 0.04}, "adviceTauIdle"),
    ({"clipped": 0.019, "moved": 0.59}, "adviceTauIdle"),
    ({"clipped": 0.021, "moved": 0.2}, "adviceTauSome"),
    ({"clipped": 0.49, "moved": 0.2}, "adviceTauSome"),
    ({"clipped": 0.51, "moved": 0.2}, "adviceTauMost"),
]
ADVISE = """async ([cases, language]) => {
    const { advice } = await import("/extensions/nag/editor/legend.js")
    const { text } = await import("/extensions/nag/editor/text.js")
    return cases.map(measured => [advice((...said) => said[0], measured, "dial"),
                                  advice(text(language), measured, "dial")])
}"""
KEEP = """async () => {
    const { Statistics } = await import("/extensions/nag/editor/statistics.js")
    const found = {}
    const storage = { getItem: () => null, setItem: (name, text) => { found[name] = text } }
    const statistics = new Statistics(storage)
    const steps = 400
    for (let node = 0; node < 40; node++) {
        const plan = { settings: {}, runs: [{ steps, on: null, sigmas: null }] }
        for (let step = 0; step < steps; step++)
            statistics.add({ node: String(node), prompt_id: "p", run: "r", steps, step, sigma: 0.123, on: true,
                             ratio: 1.23456789, clipped: 0.123456789, moved: 0.123456789 })
        statistics.of(String(node), plan, true, "graph")
    }
    return Object.entries(found).map(([name, text]) => [name, text.length, JSON.parse(text)[0][0]])
}"""


def run_with_statistics(editor):
    panel = with_nag(editor, statistics=True)
    panel.says("in all 8 steps")
    put(editor, the(editor, "KSampler"), seed=next(SEEDS))
    editor.run()
    panel.says("held back", ".nag-measures")
    editor.page.wait_for_timeout(500)
    return panel


def measures(panel):
    return [panel.root.locator(part).all_text_contents() for part in ("g.step title", ".nag-legend", ".nag-detail")]


def reopen(editor):
    """Load the page anew, and in it the graph as it was."""
    graph = editor.graph()
    editor.open()
    editor.load(graph)
    editor.show()


def test_the_last_run_outlives_a_reload(editor):
    panel = run_with_statistics(editor)
    before = measures(panel)
    assert "nag" not in str(editor.graph().get("extra", {})).lower()
    reopen(editor)
    panel.says("held back", ".nag-measures")
    assert panel.bars() == ["done"] * 8 and measures(panel) == before
    nag = the(editor, "NAGModel")
    put(editor, nag, nag_scale=7)
    panel.says("scale 7", ".nag-detail")
    assert panel.bars() == ["on"] * 8  # what was measured belongs to another plan
    graph = editor.graph()
    graph["id"] = "00000000-0000-4000-8000-000000000000"
    editor.open()
    editor.load(graph)
    put(editor, nag, nag_scale="auto")
    panel.says("scale 5", ".nag-detail")
    assert panel.bars() == ["on"] * 8  # or to another graph


def test_without_storage_a_run_shows_all_the_same(editor):
    editor.page.add_init_script("""const set = Storage.prototype.setItem
        Storage.prototype.setItem = function (name, value) {
            if (name.startsWith("nag.")) throw new DOMException("full", "QuotaExceededError")
            set.call(this, name, value)
        }""")
    graph = editor.graph()
    editor.open()
    editor.load(graph)
    run_with_statistics(editor)
    reopen(editor)
    notice(editor)
    editor.page.wait_for_timeout(1000)
    assert editor.page.locator(".nag-panel g.done").count() == 0


@pytest.fixture(scope="module")
def page(browser, server):
    from host.browser import Editor

    with Editor(browser, server.url) as page:
        yield page.page


def test_what_is_kept_stays_small(page):
    """Of 40 nodes with runs of 400 steps the last few, in one entry."""
    ((name, length, first),) = page.evaluate(KEEP)
    assert (name, first) == (STORE, ["graph", "39"]) and 10_000 < length <= 100_000


@pytest.mark.parametrize("language", ["en", "ko", "zh", "ja"])
def test_advice(page, language):
    said = page.evaluate(ADVISE, [[measured for measured, _ in ADVICE], language])
    assert [key for key, _ in said] == [key for _, key in ADVICE]
    sentences = {key: sentence for key, sentence in said}
    assert len(set(sentences.values())) == len(sentences)
    assert not any(set("{}") & set(sentence) for sentence in sentences.values())
    assert all(("dial" in sentences[key]) == (key in ("adviceFar", "adviceHardly")) for key in sentences)
    if language != "en":
        assert not any("tau h" in sentence or "moved" in sentence for sentence in sentences.values())


def test_scales_and_a_sentence_in_the_picture(editor):
    panel = run_with_statistics(editor)
    assert panel.root.locator(".nag-advice").inner_text().startswith("tau ")
    shown = panel.root.locator(".nag-axes span")
    assert sorted(shown.all_inner_texts()) == ["100%", "tau 2.5×"]
    editor.show(the(editor, "NAGModel"))
    editor.screenshot(f"statistics{' Nodes 2.0' * editor.vue_nodes}")
    editor.page.evaluate(NARROW, the(editor, "NAGModel"))
    narrow = "() => document.querySelector('.nag-panel').offsetWidth < 160"
    if not editor.vue_nodes:  # there a node has a least width
        editor.page.wait_for_function(narrow, polling=50, timeout=15000)
    editor.screenshot(f"statistics, narrow{' Nodes 2.0' * editor.vue_nodes}")
    for part in (".nag-headline", ".nag-plot", ".nag-measures", ".nag-advice", ".nag-controls"):
        inner, outer = (panel.root.locator(each).bounding_box() for each in (part, "xpath=."))
        assert inner["height"] > 8 and inner["y"] + inner["height"] <= outer["y"] + outer["height"] + 1, part
