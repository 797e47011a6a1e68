"""The page on which people vote on pictures."""
import json

import pytest
from evidence.real import eyes
from evidence.real.pairs import Pair
from PIL import Image

ROWS = {"no guidance": "red", "NAG": "blue"}


@pytest.fixture(params=[False, True], ids=["named", "blind"])
def page(request, browser, tmp_path):
    """Two pairs, the second with words that HTML and JavaScript would take for their own."""
    painted = {}
    for pair in (Pair(1, "a circle", "frame"), Pair(2, "a <b>square</b> </script>", '"quoted"')):
        for row, colour in ROWS.items():
            file = tmp_path / f"{pair.number} {row}.png"
            Image.new("RGB", (16, 16), colour).save(file)
            painted.setdefault((pair, 5), {})[row] = [file]
    opened = browser.new_page(accept_downloads=True)
    errors = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.goto(eyes.write(painted, tmp_path, "A title", blind=request.param).as_uri())
    opened.wait_for_function("() => [...document.images].every(image => image.complete && image.naturalWidth === 16)")
    yield opened
    opened.close()
    assert errors == []


def test_votes_are_kept_saved_and_counted(page, tmp_path):
    said = page.locator("section p").all_inner_texts()
    assert said == ["Prompt: a circle. Negative: frame.", 'Prompt: a <b>square</b> </script>. Negative: "quoted".']
    count = page.locator("#count")
    assert page.title() == "A title" and count.inner_text() == "0 of 4 pictures voted on"
    key = json.loads((tmp_path / eyes.KEY).read_text(encoding="utf-8"))
    labels = page.locator("figcaption").all_inner_texts()
    assert labels == (["A", "B"] * 2 if key["blind"] else [*ROWS, *ROWS])

    answers = {"unwanted": "no", "wanted": "yes"}  # of all but the last, on which the first question is answered only
    for name in [f"{pair}-5-0-{letter}" for pair in (1, 2) for letter in "AB"]:
        for what, answer in answers.items():
            if (name, what) != ("2-5-0-B", "wanted"):
                field = page.locator("fieldset", has=page.locator(f'input[name="{name} {what}"]'))
                field.get_by_label(answer).check()
    assert count.inner_text() == "3 of 4 pictures voted on"
    page.wait_for_timeout(5000)  # what is stored within moments of a browser's start it may forget
    page.reload()
    assert count.inner_text() == "3 of 4 pictures voted on" and page.locator("input:checked").count() == 7

    with page.expect_download() as saved:
        page.get_by_role("button").click()
    saved.value.save_as(tmp_path / "votes.json")
    title, judged = eyes.tally(tmp_path, [tmp_path / "votes.json"])
    assert title == "A title" and all(each.said == {"unwanted": 0.0, "wanted": 1.0} for each in judged)
    first, second = key["order"]["1-5-0"], key["order"]["2-5-0"]
    assert {(each.pair.number, each.row) for each in judged} == {*((1, row) for row in first), (2, second[0])}
