"""NAG Grid on a server: pixel by pixel what NAG Sampler makes there; and what it refuses before it runs."""
import pytest
from graphs import node, painting
from host.client import ExecutionError

SAMPLING = {"seed": 3, "steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0,
            "model": ["loader", 0], "positive": ["prompt", 0], "negative": ["negative", 0],
            "latent_image": ["latent", 0]}


def grid(**sides):
    graph = {name: each for name, each in painting().items() if name in ("loader", "prompt", "negative", "latent")}
    sides = {"columns": "none", "column_values": "", "rows": "none", "row_values": "", **sides}
    graph["grid"] = node("NAGGrid", vae=["loader", 2], **SAMPLING, **sides)
    graph["whole"] = node("PreviewImage", images=["grid", 0])
    graph["pictures"] = node("PreviewImage", images=["grid", 1])
    return graph


def test_each_picture_is_nag_samplers(client):
    graph = grid(columns="nag_scale", column_values="1, 11", rows="nag_alpha", row_values="0.25; 0,5")
    for alpha in (0.25, 0.5):
        for scale in (1, 11):
            name = f"{scale} {alpha}"
            graph[name] = node("NAGSampler", **SAMPLING, nag_scale=scale, nag_alpha=alpha)
            graph[f"{name} decoded"] = node("VAEDecode", samples=[name, 0], vae=["loader", 2])
            graph[f"{name} shown"] = node("PreviewImage", images=[f"{name} decoded", 0])
    progress = []
    shown = client.run(graph, on_progress=lambda *told: progress.append(told))
    of_samplers = [pictures for name, pictures in shown.items() if name.endswith(" shown")]
    expected = [picture.tobytes() for pictures in of_samplers for picture in pictures]
    assert sorted(picture.tobytes() for picture in shown["pictures"]) == sorted(expected)
    assert len(shown["pictures"]) == 8 and len(set(expected)) == 6
    (whole,) = shown["whole"]
    assert whole.width > 4 * 128 and whole.height > 2 * 128
    told = [(value, maximum) for name, value, maximum in progress if name == "grid"]
    assert told == sorted(told) and told[-1] == (8, 8)


@pytest.mark.parametrize("sides, says", [
    ({"columns": "nag_scale", "column_values": "1, 200"}, "nag_scale must lie between 0 and 100"),
    ({"columns": "seed", "column_values": "1..50", "rows": "cfg", "row_values": "1..3"}, "150 pictures"),
])  # fmt: skip
def test_refused_before_anything_is_sampled(client, sides, says):
    progress = []
    with pytest.raises(ExecutionError, match=f"NAGGrid #grid: .*{says}"):
        client.run(grid(**sides), on_progress=lambda *told: progress.append(told))
    assert progress == []
