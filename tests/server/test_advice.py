"""What the node that asked for NAG is told of a run, and the log of the server: by prompts, as the API takes them."""
import asyncio
import json

import pytest
from graphs import custom_painting, node, painting
from host.server import PACK
from listening import messages_of

WORKFLOWS = PACK / "workflows" / "api"
NUMBERS = {"nag_scale": 5.0, "nag_tau": 2.5, "nag_alpha": 0.25, "nag_sigma_end": 0.0}
IN_NEGATIVE = "The output of NAG Conditioning goes into a sampler's negative"
EMPTY, ZEROED = "text of the NAG negative is empty", "negative is zeroed"


def told(client, graph):
    """The sentences of each run, by the node that they are for."""
    _, messages = asyncio.run(messages_of(client, graph, "nag.notices"))
    return [(message["node"], message["notices"]) for message in messages]


def through(graph, node_id, class_type, **inputs):
    """The graph with a node behind the negative."""
    graph = {**graph, node_id: node(class_type, **inputs)}
    for each in graph.values():
        if each["class_type"] in ("KSampler", "NAGModel") and "negative" in str(each["inputs"].get("negative")):
            each["inputs"]["negative"] = [node_id, 0]
    return graph


def primitive(graph, text):
    graph = {**graph, "words": node("PrimitiveStringMultiline", value=text)}
    graph["negative"]["inputs"]["text"] = ["words", 0]
    return graph


def with_its_own(text):
    """NAG Model with a negative of its own beside the sampler's."""
    graph = painting(nag_negative=["own", 0])
    return {**graph, "own": node("CLIPTextEncode", clip=["loader", 1], text=text)}


def on_the_conditioning(text):
    graph = painting(guided=False)
    graph["own"] = node("CLIPTextEncode", clip=["loader", 1], text=text)
    graph["nag"] = node("NAGConditioning", positive=["prompt", 0], negative=["own", 0])
    graph["sampler"]["inputs"]["positive"] = ["nag", 0]
    return graph


def combined(*texts):
    graph = painting(negative=texts[0])
    graph["other"] = node("CLIPTextEncode", clip=["loader", 1], text=texts[1])
    both = {"conditioning_1": ["negative", 0], "conditioning_2": ["other", 0]}
    return through(graph, "both", "ConditioningCombine", **both)


GRAPHS = {
    "a prompt": (painting(), None),
    "empty": (painting(negative=""), EMPTY),
    "spaces": (painting(negative=" \n "), EMPTY),
    "empty, by way of a node": (
        through(painting(negative=""), "range", "ConditioningSetTimestepRange", conditioning=["negative", 0], start=0.0,
                end=1.0), EMPTY),
    "a primitive's, empty": (primitive(painting(), ""), EMPTY),
    "a primitive's": (primitive(painting(), "red"), None),
    "both empty": (combined("", ""), EMPTY),
    "one of two empty": (combined("", "red"), None),
    "zeroed": (through(painting(), "zero", "ConditioningZeroOut", conditioning=["negative", 0]), ZEROED),
    "its own": (with_its_own("red"), None),
    "its own, empty": (with_its_own(""), EMPTY),
    "on the conditioning": (on_the_conditioning("red"), None),
    "on the conditioning, empty": (on_the_conditioning(""), EMPTY),
}  # fmt: skip


@pytest.mark.parametrize(("graph", "said"), GRAPHS.values(), ids=GRAPHS)
def test_an_empty_or_zeroed_negative(server, client, graph, said):
    before = len(server.read_log())
    (node_id, sentences), = told(client, graph)
    assert node_id == "nag" and len(sentences) == (said is not None)
    log = server.read_log()[before:]
    if said is not None:
        assert said in sentences[0] and sentences[0] in log
    assert log.count("takes nothing away") == len(sentences)


@pytest.mark.parametrize("text", ["", "red"], ids=["empty", "a prompt"])
def test_by_a_guider(client, text):
    graph = custom_painting("NAGGuider", model=["loader", 0], conditioning=["prompt", 0],
                            nag_negative=["negative", 0], **NUMBERS)
    graph["negative"]["inputs"]["text"] = text
    (node_id, sentences), = told(client, graph)
    assert node_id == "guider" and [EMPTY in sentence for sentence in sentences] == [True] * (not text)
    graph = custom_painting("CFGGuider", model=["nag", 0], positive=["prompt", 0], negative=["negative", 0], cfg=1.0)
    graph["negative"]["inputs"]["text"] = text
    (node_id, sentences), = told(client, graph)
    assert node_id == "nag" and [EMPTY in sentence for sentence in sentences] == [True] * (not text)


def test_a_node_that_comes_from_the_cache(client):
    """NAG Model has run before, with another text in the sampler's negative."""
    assert told(client, painting(negative="", prompt="a square"))[0][1]
    assert told(client, painting(negative="red", prompt="a square")) == [("nag", [])]
    assert told(client, painting(negative=" ", prompt="a square"))[0][1]


def test_the_models_nag_beside_a_conditionings(client):
    graph = on_the_conditioning("red")
    graph["model_too"] = node("NAGModel", model=["loader", 0])
    graph["sampler"]["inputs"]["model"] = ["model_too", 0]
    said = dict(told(client, graph))
    assert said["nag"] == [] and "model's NAG is not used" in said["model_too"][0]


def errors_of(client, graph):
    """What the nodes are told of an error of NAG's, and the node that ComfyUI says has failed, with its message."""
    prompt_id, messages = asyncio.run(messages_of(client, graph, "nag.error"))
    ends = dict(client.history(prompt_id)["status"]["messages"])
    failed = ends.get("execution_error", {})
    told = [(message["node"], message["message"]) for message in messages]
    return told, (failed.get("node_id"), failed.get("exception_message", "").strip())


def test_an_error_in_the_samplers_run_is_told_to_the_node_that_asked(client):
    graph = on_the_conditioning("red")
    graph["sampler"]["inputs"].update(positive=["prompt", 0], negative=["nag", 0])
    told, (failed, message) = errors_of(client, graph)
    assert failed == "sampler" and message.startswith(IN_NEGATIVE) and set(told) == {("nag", message)}
    graph["model_too"], graph["sampler"]["inputs"]["model"] = node("NAGModel", model=["loader", 0]), ["model_too", 0]
    told, (failed, message) = errors_of(client, graph)
    assert failed == "sampler" and set(told) == {("nag", message), ("model_too", message)}
    graph = custom_painting("BasicGuider", model=["nag", 0], conditioning=["prompt", 0])
    told, (failed, message) = errors_of(client, graph)
    assert failed == "sampler" and message.startswith("NAG has no negative") and set(told) == {("nag", message)}


def test_an_error_of_another_is_not(client):
    graph = painting()
    graph["sampler"]["inputs"]["model"] = ["other", 0]  # whose size does not fit the latent's
    graph["other"] = node("ModelSamplingDiscrete", model=["nag", 0], sampling="lcm", zsnr=False)
    graph["latent"] = node("EmptyLatentAudio", seconds=1.0, batch_size=1)
    told, (failed, _) = errors_of(client, graph)
    assert failed == "sampler" and told == []


def test_nothing_is_said_against_the_shipped_workflows(client):
    planned = {}
    for path in WORKFLOWS.glob("*.json"):
        graph = json.loads(path.read_text(encoding="utf-8"))
        nodes = {i: {"type": each["class_type"], "inputs": each["inputs"]} for i, each in graph.items()}
        planned[path.stem] = json.loads(client.post("/nag/plan", {"nodes": nodes}))["nodes"]
    assert not [(name, node) for name, nodes in planned.items() for node in nodes.values() if node["message"]]
    assert len(list(filter(None, planned.values()))) > 20


def test_what_is_off_is_told(client):
    assert told(client, painting(nag_alpha="0")) == [
        ("nag", ["nag_alpha is 0, which is off, so NAG changes nothing. Raise it, or set what is recommended."])
    ]
