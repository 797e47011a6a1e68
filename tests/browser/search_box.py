"""The frontend's search box, as someone uses it with mouse and keyboard."""
import pytest

COUNT = "() => app.graph._nodes.length"
HANGS = "() => app.graph._nodes.some(node => node.flags?.ghost)"
BOX = "[role=search]"
CHOSEN = "[role=option]:is(.p-focus, [aria-selected=true])"  # what Enter takes


def open_search_box(page, place):
    """Double-click on the canvas, again if nothing came of it: a busy page may take it for two clicks."""
    from playwright.sync_api import TimeoutError

    for _ in range(5):
        page.wait_for_timeout(500)  # until the canvas is drawn, and a double click before this one is past
        if not page.locator(BOX).count():  # else it came late, and a click would be one into it
            page.mouse.dblclick(*place)
        try:
            page.wait_for_function(f"() => document.activeElement?.matches('{BOX} input')", polling=50, timeout=5000)
            return
        except TimeoutError:
            pass
    pytest.fail("No search box.")


def add_by_search(page, name, place):
    """Search for what is called so, take it by Enter, and put it down."""
    before = page.evaluate(COUNT)
    open_search_box(page, place)
    page.keyboard.type(name, delay=20)
    page.locator(CHOSEN, has_text=name).wait_for()  # it searches when one stops typing
    page.keyboard.press("Enter")
    page.wait_for_function(f"before => ({COUNT})() > before", arg=before, polling=50)
    page.locator(BOX).wait_for(state="detached")  # it goes after the node has come: a click too soon is one into it
    while page.evaluate(HANGS):  # newer frontends let the node hang on the mouse until one clicks
        page.mouse.click(*place)
        page.wait_for_timeout(500)
    assert page.evaluate(COUNT) == before + 1
