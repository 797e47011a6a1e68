"""The search box finds the nodes by what people call what they do, in the canvas renderer and in Nodes 2.0."""
import pytest
from host.client import Client
from search_box import open_search_box
from test_editor import NOWHERE, RENDERERS, VUE_NODES

# At which place, at most, the first of ours is. What is in front has the word in its name, which always comes first.
PLACES = {"nag": 1, "negative": 2, "negative prompt": 2, "cfg 1": 1, "distilled": 1, "normalized": 3, "guidance": 16}
OF_THE_MODEL = ("nag", "negative", "negative prompt")  # among ours NAG Model is there
NOTHING = {"nodes": [], "links": [], "groups": [], "version": 0.4, "last_node_id": 0, "last_link_id": 0, "config": {},
           "extra": {}}


@pytest.fixture(params=RENDERERS)
def editor(request, browser):
    from host.browser import Editor

    server, vue_nodes = RENDERERS[request.param]
    server = request.getfixturevalue(server)
    try:
        with Editor(browser, server.url, {VUE_NODES: vue_nodes}) as page:
            page.load(NOTHING)
            yield page
            assert page.errors == []
    finally:
        Client(server.url).post("/settings", {VUE_NODES: False})


def found(page):
    """The names in the list, first to last."""
    rows = (row.splitlines() for row in page.locator("[role=option]").all_inner_texts())
    return [row[0].strip() for row in rows if row]


def test_words_find_the_nodes(editor):
    page = editor.page
    open_search_box(page, NOWHERE)
    places = {}
    for words in PLACES:
        page.keyboard.press("Control+a")
        page.keyboard.type(words, delay=20)
        page.wait_for_timeout(1000)  # it waits until one stops typing
        names = found(page)
        ours = [name for name in names if name.startswith("NAG ")]
        assert ours, (words, names)
        places[words] = names.index(ours[0]) + 1
        assert words not in OF_THE_MODEL or any(name.startswith("NAG Model") for name in ours), (words, names)
    editor.screenshot("search")
    assert {words: place for words, place in places.items() if place > PLACES[words]} == {}, places


def test_the_node_library_finds_them(editor):
    page = editor.page
    page.mouse.click(700, 500)
    page.keyboard.press("n")
    field = page.locator(".comfy-vue-side-bar-container input, .side-bar-panel input").first
    field.fill("negative prompt")
    page.get_by_text("NAG Model").first.wait_for(timeout=15000)
    editor.screenshot("search in the node library")
