"""What NAG Options adds to the equation, the steps and the blocks, through a real server and the playground's model."""
import pytest
from graphs import node, painting
from host.client import ExecutionError, PromptRejected


def with_options(guided=True, **options):
    graph = painting(guided=guided, options=["options", 0])
    graph["options"] = node("NAGOptions", start_percent=0.0, end_percent=1.0, image_stream="shared", **options)
    return graph


def pictures(client, graph):
    return [image.tobytes() for image in client.images(client.follow(client.submit(graph)))["picture"]]


def test_what_leaves_all_as_it_was(client):
    """In the words of NAG Options, and in none."""
    usual = pictures(client, with_options())
    assert usual == pictures(client, with_options(equation="nag", schedule="constant", strengths="0, 2", blocks="all"))
    assert usual == pictures(client, with_options(schedule="list", strengths="1"))
    assert usual != pictures(client, with_options(guided=False))


def test_each_acts_and_is_another(client):
    different = [{}, {"equation": "orthogonal"}, {"equation": "vsf"}, {"equation": "vsf", "vsf_offset": 2.0},
                 {"equation": "nasa"}, {"schedule": "linear"}, {"schedule": "cosine"},
                 {"schedule": "list", "strengths": "2, 0"}, {"blocks": "double"},
                 {"blocks": "single"}, {"blocks": "0"}]  # fmt: skip
    painted = [pictures(client, with_options(**options)) for options in different]
    painted.append(pictures(client, with_options(guided=False)))
    assert len({tuple(each) for each in painted}) == len(painted)


def test_strengths_of_zero_are_off(client):
    off = pictures(client, with_options(schedule="list", strengths="0"))
    assert off == pictures(client, with_options(guided=False))


@pytest.mark.parametrize(
    "options, words",
    [
        ({"blocks": "99"}, "'99' in blocks is not in this model. It has double 0 to .* and single 0 to"),
        ({"blocks": "middle"}, "'middle' in blocks is not in this model"),
        ({"blocks": "double,,+"}, "in blocks can't be read"),
        ({"schedule": "list", "strengths": ""}, "strengths"),
        ({"schedule": "list", "strengths": "1, much"}, "much"),
        ({"schedule": "list", "strengths": "1, 3"}, "strengths must lie between 0 and 2, not 3"),
        ({"equation": "nagg"}, "nagg"),
        ({"vsf_offset": -1.0}, "vsf_offset"),
        ({"equation": "vsf", "image_stream": "separate"}, "vsf"),
    ],
)
def test_what_is_wrong(client, options, words):
    graph = with_options()
    graph["options"]["inputs"] |= options
    with pytest.raises((ExecutionError, PromptRejected), match=words) as found:
        client.run(graph)
    if isinstance(found.value, PromptRejected):
        (said,) = found.value.node_errors.values()
        assert len(said["errors"]) == 1
