"""A prompt that can't work says so, in words that name the input."""
import json

import pytest
from graphs import custom_painting, node, painting
from host.client import ExecutionError, PromptRejected

GUIDER = {"model": ["loader", 0], "conditioning": ["prompt", 0], "nag_negative": ["negative", 0], "nag_scale": 5.0,
          "nag_tau": 2.5, "nag_alpha": 0.25, "nag_sigma_end": 0.0}
OPTIONS = {"start_percent": 0.0, "end_percent": 1.0, "image_stream": "shared"}


def with_options(**options):
    graph = painting(options=["options", 0])
    graph["options"] = node("NAGOptions", **OPTIONS | options)
    return graph


REJECTED = {
    "a strength out of range": (painting(nag_scale=1e6), "nag", "nag_scale"),
    "a strength that is no number": (painting(nag_tau="abc"), "nag", 'abc .* min of 1, and not "auto": nag_tau'),
    "not a number": (painting(nag_alpha="nan"), "nag", "nag_alpha"),
    "a guider's strength out of range": (custom_painting("NAGGuider", **GUIDER | {"nag_scale": 1e6}), "guider",
                                         "nag_scale"),
    "a guider without its negative": (
        custom_painting("NAGGuider", **{k: v for k, v in GUIDER.items() if k != "nag_negative"}), "guider",
        "nag_negative"),
    "an end before the start": (with_options(start_percent=0.5, end_percent=0.2), "options", "start_percent"),
}


@pytest.mark.parametrize("graph, culprit, words", REJECTED.values(), ids=REJECTED)
def test_rejected(client, graph, culprit, words):
    with pytest.raises(PromptRejected, match=words) as caught:
        client.submit(graph)
    assert list(caught.value.node_errors) == [culprit]
    assert len(caught.value.node_errors[culprit]["errors"]) == 1


FAILING = {
    "no negative to be found": (
        custom_painting("BasicGuider", model=["nag", 0], conditioning=["prompt", 0]), "negative"),
    "a word that the playground does not know": (painting("elephant"), "elephant"),
    # hosts up to 0.3.75 leave it to the node to check what it gets from a list
    "an unknown image stream": (with_options(image_stream="double"), "image_stream"),
}


@pytest.mark.parametrize("graph, words", FAILING.values(), ids=FAILING)
def test_failing(client, graph, words):
    with pytest.raises((ExecutionError, PromptRejected), match=words):
        client.run(graph)


def with_primitive(graph, place, name, value):
    """The graph with another node to bring a number, as an input that was a widget gets it."""
    graph["number"] = node("PrimitiveFloat", value=value)
    graph[place]["inputs"][name] = ["number", 0]
    return graph


@pytest.mark.parametrize(
    "graph, place, name, value",
    [
        (painting(), "nag", "nag_scale", 3.0),
        (with_options(), "options", "start_percent", 0.5),
        (with_options(), "options", "end_percent", 0.5),
        (custom_painting("NAGGuider", **GUIDER), "guider", "nag_tau", 1.5),
    ],
)
def test_a_number_from_another_node(client, graph, place, name, value):
    """ComfyUI does not know it before the prompt runs."""
    by_widget = json.loads(json.dumps(graph))
    by_widget[place]["inputs"][name] = value
    expected, found = (client.run(each)["picture"] for each in (by_widget, with_primitive(graph, place, name, value)))
    assert [image.tobytes() for image in found] == [image.tobytes() for image in expected]


@pytest.mark.parametrize(
    "graph, place, name",
    [(painting(), "nag", "nag_scale"), (with_options(), "options", "start_percent")],
)
def test_a_wrong_number_from_another_node(client, graph, place, name):
    with pytest.raises(ExecutionError, match=f"{name} must lie between"):
        client.run(with_primitive(graph, place, name, 1000.0))


def test_the_server_goes_on(client):
    assert client.run(painting(prompt="a blue circle"))["picture"]
