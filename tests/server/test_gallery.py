"""The gallery: each workflow with and without NAG, on a real server with the playground's model and no other."""
import argparse
import copy
import json

import pytest
from graphs import node, painting
from host.client import Client
from host.gallery import __main__ as gallery
from host.gallery import media, prompts, serving
from host.gallery.page import HEAVIEST, write_page, write_thumbnails
from host.gallery.painting import PROMPT, WITH, WITHOUT, Painter
from host.shipped import paths
from PIL import Image
from test_workflows import WAYS

SHIPPED = gallery.workflows()
GRAPH = {"nodes": []}  # in editor format: it names no files


def pixels(files):
    return [frame.tobytes() for path in files for frame in media.frames_of(path)]


def only(prompt, *ids):
    """A prompt without these nodes."""
    return {key: value for key, value in prompt.items() if key not in ids}


def seeds_of(prompt):
    for inner in prompt.values():
        for name in prompts.SEEDS:
            seed = inner["inputs"].get(name)
            if seed is not None:
                yield prompt[seed[0]]["inputs"]["value"] if isinstance(seed, list) else seed


@pytest.fixture
def painter(server, tmp_path):
    return Painter(server.url, tmp_path / "gallery", patience=120)


@pytest.mark.parametrize("way", WAYS)
def test_without_is_the_graph_without_nag(painter, client, way):
    shown = painter.show(way, WAYS[way], GRAPH, [3])
    plain = only(painting(guided=False), "nag")
    plain["sampler"]["inputs"]["seed"] = 3
    expected = [image.tobytes() for image in client.run(plain)["picture"]]
    (pair,) = shown.pairs().values()
    assert pixels(pair[WITHOUT]) == expected
    assert all(one != other for one, other in zip(pixels(pair[WITH]), expected, strict=True))


def test_the_command_paints_what_it_can_and_names_the_rest(server, tmp_path, monkeypatch, capsys):
    """Also from where it was cut off."""
    shipped = dict(SHIPPED)
    renamed = json.dumps(shipped["flux_dev"]).replace("flux1-dev.safetensors", "absent.safetensors")
    shipped["flux_dev"] = json.loads(renamed)
    failing = {**painting(), "prompt": node("CLIPTextEncode", clip=["loader", 1], text="an elephant")}
    chosen = {"failing": (failing, GRAPH), **{name: shipped[name] for name in ("flux_dev", "playground")}}
    monkeypatch.setattr(gallery, "workflows", lambda only: chosen)
    arguments = ["--server", server.url, "--seeds", "0", "1", "--folder", str(tmp_path)]
    with pytest.raises(SystemExit) as ended:
        gallery.main(arguments)
    assert ended.value.code == 1 and "elephant" in capsys.readouterr().err

    page = (tmp_path / "gallery.md").read_text(encoding="utf-8")
    assert "prompt: a blue square\n" in page and "negative: white\n" in page
    assert "![playground, without NAG and with NAG](images/playground.webp)" in page
    painted, rest = page.split("## Left out")
    absent, failed = rest.split("## Failed")
    assert "models/diffusion_models/absent.safetensors](https://" in absent and "- failing: " in failed
    assert "elephant" in failed and "flux_dev" not in painted + failed
    with Image.open(tmp_path / "images" / "playground.webp") as sheet:
        assert sheet.width > 1000 and getattr(sheet, "n_frames", 1) == 1
    assert [path.name for path in (tmp_path / "thumbnails").iterdir()] == [f"{paths()['playground'].stem}.jpg"]

    files = [path for path in (tmp_path / "playground").rglob("*.png")]
    assert len(files) == 2 * 2 * 6  # seeds, with and without, a batch
    pairs = [pixels(sorted((tmp_path / "playground" / seed / how).glob("*.png"))) for seed in "01"
             for how in (WITHOUT, WITH)]  # fmt: skip
    assert len({picture for pictures in pairs for picture in pictures}) == len(files)

    cut_off = tmp_path / "playground" / "1" / WITH
    (cut_off / PROMPT).unlink()
    (cut_off / "0.png").write_bytes(b"")
    before = {path: path.stat().st_mtime_ns for path in files}
    with pytest.raises(SystemExit):
        gallery.main(arguments)
    anew = {path for path in files if path.stat().st_mtime_ns != before[path]}
    assert anew == set(cut_off.glob("*.png")) and len(anew) == 6
    assert pixels(sorted(anew)) == pairs[3]


def test_another_prompt_is_painted_anew(painter):
    before = painter.show("one", painting(), GRAPH, [0]).pairs()[0]
    old = {how: pixels(files) for how, files in before.items()}
    after = painter.show("one", painting(prompt="a square"), GRAPH, [0]).pairs()[0]
    assert all(pixels(after[how]) != old[how] for how in (WITHOUT, WITH))


def test_a_server_that_is_gone_is_brought_back(server, tmp_path):
    painter = Painter(server.url, tmp_path, restart=lambda: server.url)
    painter.client = Client("http://127.0.0.1:1")
    assert "server is gone" in painter.show("lost", painting(), GRAPH, [0]).error
    assert painter.show("found", painting(), GRAPH, [0]).pairs()


def test_a_video(painter, tmp_path):
    prompt = only(painting(), "picture")
    prompt["latent"]["inputs"]["batch_size"] = 5
    prompt["video"] = node("CreateVideo", images=["decoded", 0], fps=8.0)
    prompt["saved"] = node("SaveVideo", video=["video", 0], filename_prefix="gallery", format="mp4", codec="h264")
    shown = painter.show("video", prompt, GRAPH, [0])
    assert shown.error == "" and [path.suffix for path in shown.pairs()[0][WITH]] == [".mp4"]
    write_page([shown], tmp_path, {})
    (thumbnail,) = write_thumbnails([shown], tmp_path / "thumbnails", {"video": "A video"})
    assert thumbnail.name == "A video.jpg" and thumbnail.stat().st_size < HEAVIEST
    for path in (tmp_path / "images" / "video.webp", thumbnail):
        with Image.open(path) as animated:
            assert (animated.format, animated.n_frames) == ("WEBP", 5)


def test_a_sound_is_linked(painter, tmp_path):
    shown = painter.show("sound", painting(), GRAPH, [7])
    for files in shown.pictures.values():
        for number, path in enumerate(files):
            files[number] = path.with_suffix(".mp3")
            files[number].write_bytes(b"ID3")
    page = write_page([shown], tmp_path, {}).read_text(encoding="utf-8")
    assert "| 7 | [mp3](images/sound_7_without.mp3) | [mp3](images/sound_7_with.mp3) |" in page
    assert (tmp_path / "images" / "sound_7_with.mp3").is_file()
    assert write_thumbnails([shown], tmp_path / "thumbnails", {}) == []


def test_a_grid_is_left_out(painter):
    shown = painter.show("nag_grid", *SHIPPED["nag_grid"], [0])
    assert (shown.lacking, shown.pictures) == ([prompts.NO_NAG], {})


@pytest.mark.parametrize("name", sorted(SHIPPED.keys() - {"nag_grid"}))
def test_of_each_shipped_workflow_the_picture_with_nag_is_shown(client, name):
    nodes, (prompt, _) = client.object_info(), SHIPPED[name]
    part = prompts.guided(prompt, nodes)
    shown = [key for key, inner in part.items() if inner["class_type"].startswith(prompts.SHOWING)]
    assert len(shown) == 1 and all(prompts.texts(part))
    assert set(seeds_of(prompts.seeded(part, 77))) == {77} != set(seeds_of(part))
    before = copy.deepcopy(part)
    changed = prompts.without_nag(part, nodes)
    assert part == before
    different = [key for key in part if part[key] != changed[key]]
    assert different and all(part[key]["class_type"].startswith("NAG") for key in different)


def test_a_server_of_its_own_has_the_models(tmp_path):
    file = tmp_path / "checkpoints" / "there.safetensors"
    file.parent.mkdir()
    file.touch()
    with serving.own_server(argparse.Namespace(models=tmp_path, cpu=True)) as own:
        loader = Client(own.url).object_info()["CheckpointLoaderSimple"]
    assert prompts.lacking({"1": node("CheckpointLoaderSimple", ckpt_name=file.name)}, GRAPH,
                           {"CheckpointLoaderSimple": loader}) == []  # fmt: skip
    assert prompts.lacking({"1": node("CheckpointLoaderSimple", ckpt_name="absent.safetensors")}, GRAPH,
                           {"CheckpointLoaderSimple": loader}) == [prompts.Lacking("ckpt_name absent.safetensors")]
