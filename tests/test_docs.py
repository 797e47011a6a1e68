"""The README and the help pages: nothing is missing, nothing dangles, and their numbers are the code's."""
import re

import pytest
from host import tables
from host.server import PACK

PAGES = PACK / "web" / "docs"
README = PACK / "README.md"
LINK = re.compile(r"!?\[[^]]*\]\(([^)\s]+)\)")
BUDGET = 60_000  # bytes a picture


def pages():
    return sorted(PAGES.glob("*.md"))


def documents():
    return [*sorted(PACK.glob("*.md")), *sorted(PACK.glob("*/*.md")), *pages()]


def links(document):
    """What a document links to or shows, but for the web and for places in itself."""
    return [link for link in LINK.findall(document.read_text(encoding="utf-8")) if not re.match("https?:|#", link)]


@pytest.fixture(scope="module")
def schemas(nodes):
    return {schema.node_id: schema for schema in (node.GET_SCHEMA() for node in [*nodes.NODES, *nodes.BESIDE_RAYLIGHT])}


def test_every_node_has_a_page_and_every_page_a_node(schemas):
    assert sorted(page.stem for page in pages()) == sorted(schemas)


def test_every_input_is_on_its_nodes_page(schemas):
    """By its id, and as the node names it."""
    missing = [
        f"{node_id}.{name}"
        for node_id, schema in schemas.items()
        for given in schema.inputs
        for name in {given.id, given.display_name or given.id}
        if f"`{name}`" not in (PAGES / f"{node_id}.md").read_text(encoding="utf-8")
    ]
    assert missing == []


def test_every_node_and_every_setting_is_in_the_readme(schemas):
    text = README.read_text(encoding="utf-8")
    # What is in brackets is for the search, but for names that are ids.
    names = [s.display_name if s.is_deprecated else s.display_name.split(" (")[0] for s in schemas.values()]
    settings = {given.id for given in schemas["NAGOptions"].inputs} | {"nag_scale", "nag_tau", "nag_alpha"}
    assert [name for name in (*names, *(f"`{setting}`" for setting in sorted(settings))) if name not in text] == []


def test_every_workflow_is_in_the_readme():
    files = sorted(path.stem for path in (PACK / "workflows").glob("*.json"))
    listed = README.read_text(encoding="utf-8").partition("## Workflows")[2].partition("##")[0]
    assert sorted(re.findall(r"^\| ([^|]+) \| `", listed, re.MULTILINE)) == files


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(PACK)))
def test_links_lead_somewhere(document):
    assert [link for link in links(document) if not (document.parent / link.split("#")[0]).exists()] == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_pages_work_in_the_help_panel(page):
    """It finds pictures under web/docs/; other relative links it takes for places in ComfyUI's page."""
    assert [link for link in links(page) if not link.startswith("images/")] == []
    assert links(page)


def test_every_picture_is_shown_and_small():
    pictures = {f"images/{path.name}" for path in (PAGES / "images").iterdir()}
    assert pictures == {link for page in pages() for link in links(page)}
    assert [path.name for path in (PAGES / "images").iterdir() if path.stat().st_size > BUDGET] == []


def test_tables_are_what_make_tables_writes(pack):
    made = tables.tables(pack)
    texts = {path.name: path.read_text(encoding="utf-8") for path in tables.documents()}
    assert [name for name, text in texts.items() if tables.filled(text, made) != text] == []
    without = {path.stem for path in (README, *pages())} - {path.stem for path in tables.documents()}
    assert without == {"NAGGrid", "NAGPlaygroundLoader", "NAGRaylight"}
