"""The help pages in the frontend's help panel."""
import pytest
from host.server import PACK, PACK_NAME

PAGES = sorted((PACK / "web" / "docs").glob("*.md"))
SELECT = """type => {
    app.graph.clear()
    const node = LiteGraph.createNode(type)
    node.pos = [400, 300]
    app.graph.add(node)
    app.canvas.selectNode(node)
}"""
HELP = ".node-help-content"
LOADED = f"""() => {{
    const images = [...document.querySelectorAll('{HELP} img')]
    return images.length && images.every(image => image.complete) && images.map(image => image.naturalWidth)
}}"""


def open_help(editor, node):
    """Press the info button over a node of this type. Gives the widths of the page's pictures once all have loaded, 0
    for one that could not."""
    editor.page.evaluate(SELECT, node)
    editor.show()
    editor.page.get_by_test_id("info-button").click()
    editor.page.locator(HELP).wait_for()
    return editor.page.wait_for_function(LOADED, polling=100).json_value()


def forget_language(editor, node):
    """The frontend first asks for the page in the user's language, which it logs if there is none."""
    address = f"/extensions/{PACK_NAME}/docs/{node}/en.md".replace(" ", "%20")
    editor.errors = [error for error in editor.errors if not error.endswith(f"{address})")]


@pytest.mark.parametrize("node", ["NAGModel", "NAGOptions", "KSamplerWithNAG (Advanced)"])
def test_the_panel_shows_the_page_and_its_pictures(editor, node):
    source = (PACK / "web" / "docs" / f"{node}.md").read_text(encoding="utf-8")
    widths = open_help(editor, node)
    assert len(widths) == source.count("](images/") and all(widths)
    shown = editor.page.locator(HELP)
    assert shown.locator("h1").inner_text() == source.splitlines()[0].removeprefix("# ")
    assert shown.locator("table").count() == source.count("|---|\n")
    assert "sum|z~| / sum|z+|" in shown.inner_text()
    editor.screenshot(f"help of {node}")
    forget_language(editor, node)
