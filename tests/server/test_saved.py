"""Prompts that the version before made paint what they painted: with the numbers that it says they stand for."""
import copy
import json

import pytest
from graphs import node, painting
from host.server import PACK

SAVED = {path.stem: path for path in sorted((PACK / "tests" / "saved").glob("*.json"))}
NUMBERS = ("nag_scale", "nag_tau", "nag_alpha")


def pictures(client, prompt):
    (images,) = client.run(prompt).values()
    return [image.tobytes() for image in images]


def spelled_out(saved):
    """The prompt with the saved settings as plain numbers, and without what no new node has."""
    prompt = copy.deepcopy(saved["prompt"])
    for node_id, settings in saved["settings"].items():
        inputs = prompt[node_id]["inputs"]
        inputs.update({name: settings[name] for name in (*NUMBERS, "nag_sigma_end") if name in inputs})
        if "Guider" in prompt[node_id]["class_type"]:
            inputs.pop("latent_image", None)
    return prompt


@pytest.mark.parametrize("name", SAVED)
def test_they_paint_the_same(client, name):
    saved = json.loads(SAVED[name].read_text(encoding="utf-8"))
    plain = spelled_out(saved)
    assert plain != saved["prompt"] or name in ("guider_fresh", "ksampler_with_nag")
    assert pictures(client, saved["prompt"]) == pictures(client, plain)


def guided(client, **nag):
    return pictures(client, painting(**nag))


AS_AUTO = [
    {"nag_scale": ""}, {"nag_scale": None}, {"nag_tau": "2,5", "nag_alpha": " 0,25 "}, {"strength": 1},
    {"strength": " 1,0 "},
]  # fmt: skip


@pytest.mark.parametrize("values", AS_AUTO, ids=str)
def test_what_stands_for_auto(client, values):
    assert guided(client, **values) == guided(client)


def test_the_strength_by_a_link(client):
    graph = painting(strength=["dial", 0])
    for kind, value in (("PrimitiveFloat", 1.5), ("PrimitiveInt", 2)):
        graph["dial"] = node(kind, value=value)
        assert pictures(client, graph) == guided(client, nag_scale=5 if value == 1.5 else 9, nag_alpha=0.5)
    graph["dial"] = node("PrimitiveFloat", value=0.0)
    assert pictures(client, graph) == pictures(client, painting(guided=False))
