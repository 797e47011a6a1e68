"""NAG Grid: each picture is the one that NAG Sampler makes, at its place in the grid."""
import comfy.model_management
import comfy.utils
import nodes as comfy_nodes
import pytest
import torch
from PIL import Image

STEPS = 2
SAMPLING = {"steps": STEPS, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}


@pytest.fixture(scope="module")
def grid(part):
    return part("nodes.grid.node")


@pytest.fixture(scope="module")
def cells(part):
    return part("nodes.grid.cells")


@pytest.fixture(scope="module")
def sheets(part):
    return part("nodes.grid.sheet")


@pytest.fixture(scope="module")
def drawing(part):
    return part("playground.drawing")


@pytest.fixture(scope="module")
def options(part):
    return part("patches.settings").Options


@pytest.fixture(scope="module")
def given(part):
    """A model, a VAE, two prompts and two empty pictures."""
    with torch.inference_mode():
        model, clip, vae = part("playground.networks").load()
        prompts = [clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in ("a blue square", "white")]
        (latent,) = comfy_nodes.EmptyLatentImage().generate(128, 128, batch_size=2)
    return {"model": model, "vae": vae, "positive": prompts[0], "negative": prompts[1], "latent_image": latent}


def paint(grid, given, columns="none", column_values="", rows="none", row_values="", seed=5, cfg=1.0, **others):
    sides = {"columns": columns, "column_values": column_values, "rows": rows, "row_values": row_values}
    return grid.NAGGrid.execute(**given, **SAMPLING, **sides, seed=seed, cfg=cfg, **others).result


def sampled(nodes, given, nag=None, options=None, seed=5, cfg=1.0):
    """What NAG Sampler and VAEDecode make."""
    vae, others = given["vae"], {name: value for name, value in given.items() if name != "vae"}
    settings = {**(nag or {}), "options": options, "seed": seed, "cfg": cfg}
    (latent,) = nodes.NAGSampler.execute(**others, **SAMPLING, **settings).result
    return comfy_nodes.VAEDecode().decode(vae, latent)[0]


def test_numbers(grid, nodes, given, inference_mode):
    _, pictures = paint(grid, given, "nag_scale", "1, auto, 11", "nag_alpha", "0.25; 0,5")
    cells = [(scale, alpha) for alpha in (0.25, 0.5) for scale in (1, "auto", 11)]
    expected = [sampled(nodes, given, {"nag_scale": scale, "nag_alpha": alpha}) for scale, alpha in cells]
    assert torch.equal(pictures, torch.cat(expected))
    assert len(torch.unique(pictures[::2], dim=0)) == 5  # in both rows, 1 is off


def test_when_and_how_it_is_sampled(grid, nodes, given, options, inference_mode):
    _, pictures = paint(grid, given, "end_percent", "0.2, 1", "cfg", "1, 2.5", options=options(0.1, 0.3))
    expected = [sampled(nodes, given, options=options(0.1, end), cfg=cfg) for cfg in (1, 2.5) for end in (0.2, 1)]
    assert torch.equal(pictures, torch.cat(expected))
    assert len(torch.unique(pictures[::2], dim=0)) == 4


def test_seeds_and_another_negative(grid, nodes, given, inference_mode):
    given = given | {"nag_negative": given["positive"]}
    _, pictures = paint(grid, given, rows="seed", row_values="3..4", columns="nag_tau", column_values="1 2.5")
    expected = [sampled(nodes, given, {"nag_tau": tau}, seed=seed) for seed in (3, 4) for tau in (1, 2.5)]
    assert torch.equal(pictures, torch.cat(expected))


def test_strength(grid, nodes, given, inference_mode):
    _, pictures = paint(grid, given, "strength", "0..2:0.5")
    expected = [sampled(nodes, given, {"strength": strength}) for strength in (0, 0.5, 1, 1.5, 2)]
    assert torch.equal(pictures, torch.cat(expected))
    assert len(torch.unique(pictures[::2], dim=0)) == 5


def test_one_cell(grid, nodes, given, inference_mode):
    image, pictures = paint(grid, given)
    assert torch.equal(pictures, sampled(nodes, given))
    assert image.shape[0] == 1 and image.shape[-1] == 3


def test_places(grid, drawing, given, inference_mode):
    image, pictures = paint(grid, given, "nag_scale", "1, 5, 11", "nag_alpha", "0.25, 0.5")
    bottom, right = (length - drawing.MARGIN for length in image.shape[1:3])
    shown = (pictures * 255).round() / 255
    for at, (left, other) in enumerate(zip(shown[::2], shown[1::2])):
        row, column = divmod(at, 3)
        x = right - (3 - column) * (2 * 128 + drawing.GAP) + drawing.GAP
        y = bottom - (2 - row) * (128 + drawing.GAP) + drawing.GAP
        torch.testing.assert_close(image[0, y : y + 128, x : x + 256], torch.cat([left, other], 1))
        label = image[0, y : y + 128, : x - 2 * drawing.GAP] if column == 0 else image[0, : y, x : x + 256]
        assert label.min() < 0.5  # there is ink


def test_large_pictures_are_shown_smaller(sheets):
    sheet = sheets.Sheet([1, 2, 3], [None], "")
    sheet.add(torch.rand(1, 1000, 2000, 3))
    assert sheet.drawn[0].size == (1366, 683)
    assert sheet.draw().width <= sheets.LARGEST + 100
    assert sheet.cells[0].shape == (1, 1000, 2000, 3)


class VideoVAE:
    """Gives 5 frames of 2 videos, whose pixels are the frame's number."""

    def decode(self, latent):
        return torch.arange(10.0).reshape(2, 5, 1, 1, 1).expand(2, 5, 8, 8, 3)


def test_videos_show_their_middle(grid):
    pictures = grid._pictures(VideoVAE(), {"samples": torch.zeros(2, 4, 2, 1, 1)})
    assert pictures.shape == (2, 8, 8, 3) and pictures[:, 0, 0, 0].tolist() == [2, 7]


@pytest.mark.parametrize(
    "text, values",
    [
        ("1, 3,5 7", [1, 3, 5, 7]),
        ("1\n2\n", [1, 2]),
        ("0,5; 1,25;", [0.5, 1.25]),
        ("0..2:0.5", [0, 0.5, 1, 1.5, 2]),
        ("0 .. 0.3 : 0.1, 7", [0, 0.1, 0.2, 0.3, 7]),
        ("1..3", [1, 2, 3]),
        (".5 Auto", [0.5, "auto"]),
        ("0,5..1:0,25;3", [0.5, 0.75, 1, 3]),
    ],
)
def test_values(cells, text, values):
    assert cells.values_of("nag_scale", text) == values


def test_large_seeds(cells):
    assert cells.values_of("seed", "18446744073709551615") == [18446744073709551615]


@pytest.mark.parametrize(
    "sides, says",
    [
        (("nag_scale", "1, many"), "'many' is no value for nag_scale"),
        (("nag_scale", " "), "no values for nag_scale"),
        (("nag_scale", "1, 101"), "nag_scale must lie between 0 and 100, not 101"),
        (("nag_alpha", "0..1:0"), "goes up"),
        (("nag_alpha", "1..0"), "goes up"),
        (("end_percent", "auto"), "'auto' is no value for end_percent"),
        (("end_percent", "0.05"), r"start_percent \(0.1\) must not be larger"),
        (("seed", "1.5"), "whole number"),
        (("seed", "-1"), "from 0"),
        (("strength", "auto"), "'auto' is no value for strength"),
        (("strength", "3"), "strength must lie between 0 and 2, not 3"),
        (("cfg", "101"), "cfg must be a number from 0 to 100, not 101"),
        (("seed", "0..1000000000000:0.00001"), "at most 100"),
        (("seed", "0..10", "nag_scale", "1..10"), "110 pictures"),
        (("seed", "1", "seed", "2"), "both seed"),
        (("steps", "1"), "columns must be one of none, strength, .*, not 'steps'"),
        (("seed", "1", "steps", "2"), "rows must be one of none"),
    ],
)
def test_errors_before_anything_is_sampled(grid, given, options, sides, says):
    given = given | dict.fromkeys(("model", "vae"))
    with pytest.raises(ValueError, match=says):
        paint(grid, given, *sides, options=options(0.1, 1))


def test_progress_goes_over_all_cells(grid, given, monkeypatch, inference_mode):
    seen, previews = [], []

    def hook(value, total, preview, **_):
        seen.append((value, total))
        previews.append(preview)

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", hook)
    paint(grid, given, "nag_scale", "1, 5, 11")
    values = [value for value, _ in seen]  # newer hosts leave out some that come too soon
    assert values == sorted(values) and values[-1] == 3 * STEPS and {1, 2, 4}.issubset(values)
    assert {total for _, total in seen} == {3 * STEPS}
    shown = [preview for preview in previews if preview]
    assert shown and all(isinstance(image, Image.Image) for _, image, _ in shown)
    assert len({image.size for _, image, _ in shown}) == 1


def test_it_can_be_interrupted(grid, given, inference_mode):
    comfy.model_management.interrupt_current_processing(True)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        paint(grid, given, "nag_scale", "1, 5")


def test_nothing_is_left_on_the_model(grid, given, inference_mode):
    before = dict(given["model"].model_options), given["model"].wrappers.copy()
    paint(grid, given, "nag_scale", "5")
    assert (given["model"].model_options, given["model"].wrappers) == before
