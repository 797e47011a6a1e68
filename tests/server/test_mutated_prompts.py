"""A thousand prompts with wrong inputs: each paints, or says what is wrong, and none takes the server with it."""
import collections
import json
import urllib.error

import pytest
from host.client import ExecutionError, PromptRejected
from host.server import PACK, PACK_NAME
from hypothesis import HealthCheck, given, settings
from mutations import FAMILIES, WAYS, mutations, valid
from painter import sampling

EXAMPLES = 1000
AT_LEAST = {"rejected": 10, "failed": 5, "painted": 5}  # of each way, in a hundred examples for each
FOR_USERS = ("ValueError", "RuntimeError")  # the exceptions that we raise, with a message


def is_ours(frame):
    """Whether a frame of a formatted traceback lies in the pack's own code, not in a ComfyUI set up inside of it."""
    _, path, *_ = frame.replace("\\", "/").split('"') if frame else ("", "")
    path = path.rpartition(f"custom_nodes/{PACK_NAME}/")[2].removeprefix(f"{PACK.as_posix()}/")
    return path.startswith(("nodes/", "patches/", "editor/", "playground/"))


def is_deliberate(error):
    """Whether an error is one that we raise to tell a person what is wrong."""
    *_, innermost = ["", *error["traceback"]]
    return is_ours(innermost) and "raise " in innermost and error["exception_type"] in FOR_USERS


def names_of(mutation):
    """The words by which a message may name the inputs that were changed."""
    names = {name for _, name in mutation.changed}
    return names | {name.removeprefix("nag_") for name in names} | ({"positive"} if "conditioning" in names else set())


def assert_names(message, mutation):
    assert any(name in message for name in names_of(mutation)), message


def end_of(painter, graph):
    """(how a prompt ended, what was said or painted)."""
    try:
        history = painter.ended(painter.submit(graph))
    except PromptRejected as rejection:
        return "rejected", rejection
    except ExecutionError as failure:
        return "failed", failure.details
    return "painted", history["outputs"]["report"]


def check_rejection(rejection, mutation):
    reasons = [reason for found in rejection.node_errors.values() for reason in found["errors"]]
    raised = [reason["extra_info"] for reason in reasons if "traceback" in reason.get("extra_info", {})]
    for each in raised:
        if is_deliberate(each):
            assert_names(each["exception_message"], mutation)
        else:
            assert not any(map(is_ours, each["traceback"])), each
    said = [reason["details"] for reason in reasons if reason["type"] != "dependency_cycle"]
    if said and not raised:  # else the graph goes in circles, or ComfyUI's own code raised
        assert_names("\n".join(said), mutation)


def check_failure(painter, failure, mutation):
    if is_deliberate(failure):
        assert_names(failure["exception_message"], mutation)
        return
    assert not any(map(is_ours, failure["traceback"][-1:])), failure["traceback"]
    how, alone = end_of(painter, mutation.unguided())
    assert how == "failed" and alone["exception_message"] == failure["exception_message"], failure


def check_plan(painter, graph):
    nodes = {k: {"type": each["class_type"], "mode": 0, "inputs": each["inputs"]} for k, each in graph.items()}
    try:
        answer = painter.post("/nag/plan", {"nodes": nodes})
    except urllib.error.HTTPError as error:
        assert error.code == 400 and json.load(error)["error"]
        return
    json.loads(answer, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


@pytest.mark.parametrize("way", WAYS)
def test_unchanged_it_paints(painter, way):
    for family in FAMILIES:
        how, what = end_of(painter, valid(way, family))
        assert (how, what.get("finite")) == ("painted", [True]), what


def test_a_thousand_changed_prompts(painter, fresh):
    ends = collections.Counter()

    @settings(max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, suppress_health_check=HealthCheck)
    @given(mutation=mutations())
    def check(mutation):
        check_plan(painter, mutation.graph)
        how, what = end_of(painter, mutation.graph)
        ends[mutation.way, how] += 1
        if how == "rejected":
            check_rejection(what, mutation)
        elif how == "failed":
            check_failure(painter, what, mutation)
        else:
            assert what["finite"] == [True] or not mutation.finite

    check()
    assert sum(ends.values()) >= EXAMPLES
    few = {(way, how): ends[way, how] for way in WAYS for how, least in AT_LEAST.items() if ends[way, how] < least}
    assert not few, "too few to say anything of"
    for way in (None, "NAGModel"):
        assert painter.paint(sampling("flux_dev", way)) == fresh(sampling("flux_dev", way))
