"""The messages from which the editor draws what NAG did."""
import asyncio

import pytest
from graphs import custom_painting, node, painting
from listening import messages_of

OPTIONS = {"start_percent": 0.0, "end_percent": 0.4, "image_stream": "shared"}
NUMBERS = {"nag_scale": 5.0, "nag_tau": 2.5, "nag_alpha": 0.25, "nag_sigma_end": 0.0, "options": ["options", 0]}


def with_options(graph, **options):
    return graph | {"options": node("NAGOptions", **OPTIONS, **options)}


def test_a_message_for_each_step(client):
    graph = with_options(painting(options=["options", 0]), statistics=True)
    prompt_id, messages = asyncio.run(messages_of(client, graph))
    assert [message["step"] for message in messages] == [0, 1, 2, 3]
    assert {(m["node"], m["prompt_id"], m["steps"]) for m in messages} == {("nag", prompt_id, 4)}
    assert len({message["run"] for message in messages}) == 1
    for message in messages:
        told = [message[name] for name in ("ratio", "clipped", "moved")]
        assert message["on"] == (message["step"] < 2)
        assert all(isinstance(value, float) for value in told) if message["on"] else told == [None] * 3
    assert messages[0]["ratio"] > 1 and messages[0]["moved"] > 0


@pytest.mark.parametrize(
    "guider, inputs",
    [
        ("NAGGuider", {"conditioning": ["prompt", 0]}),
        ("NAGCFGGuider", {"positive": ["prompt", 0], "negative": ["negative", 0], "cfg": 1.0}),
    ],
)
def test_guiders_name_themselves(client, guider, inputs):
    inputs = {"model": ["loader", 0], "nag_negative": ["negative", 0], **inputs, **NUMBERS}
    graph = with_options(custom_painting(guider, **inputs), statistics=True)
    _, messages = asyncio.run(messages_of(client, graph))
    assert [message["node"] for message in messages] == ["guider"] * 4


@pytest.mark.parametrize("options", [{}, {"statistics": False}], ids=["not asked", "off"])
def test_no_message_unless_asked(client, options):
    graph = with_options(painting(negative="blue", options=["options", 0]), **options)
    _, messages = asyncio.run(messages_of(client, graph))
    assert messages == []
