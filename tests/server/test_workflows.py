"""The workflow that needs no download paints, by the example script, too; and so does every way to NAG."""
import json
import subprocess
import sys

import pytest
from graphs import custom_painting, node, painting
from host.export import api_path
from host.server import PACK
from PIL import Image

SUBMIT = PACK / "workflows" / "api" / "submit.py"
STRENGTH = {"nag_scale": 5.0, "nag_tau": 2.5, "nag_alpha": 0.25, "nag_sigma_end": 0.0}


def is_plain(image):
    """Whether an image shows one colour only."""
    return all(low == high for low, high in image.getextrema())


THREE_WAYS = {"no guidance", "CFG 3", "NAG"}
WAYS_SHOWN = {"playground": THREE_WAYS, "playground_distilled": THREE_WAYS, "playground_clips": THREE_WAYS,
              "playground_mask": {"no guidance", "NAG"}}  # fmt: skip


@pytest.mark.parametrize("name", WAYS_SHOWN)
def test_playground(client, name):
    prompt = json.loads(api_path(name).read_text(encoding="utf-8"))
    finished = set()
    for inner in prompt.values():
        if inner["class_type"] == "KSampler":
            inner["inputs"]["seed"] = 3  # a server that has run the workflow as it is reports no progress

    def on_progress(sampler, value, maximum):
        if value == maximum:
            finished.add(prompt[sampler]["_meta"]["title"])

    pictures = client.run(prompt, on_progress)
    assert {prompt[shown]["_meta"]["title"] for shown in pictures} == WAYS_SHOWN[name] == finished
    assert not any(is_plain(image) for images in pictures.values() for image in images)


def by_conditioning():
    graph = painting(guided=False)
    graph["guided"] = node("NAGConditioning", positive=["prompt", 0], negative=["negative", 0])
    graph["sampler"]["inputs"]["positive"] = ["guided", 0]
    return graph


def by_sampler():
    graph = painting(guided=False)
    graph["sampler"]["class_type"] = "NAGSampler"
    return graph


WAYS = {
    "NAGModel": painting(),
    "NAGConditioning": by_conditioning(),
    "NAGSampler": by_sampler(),
    "NAGGuider": custom_painting("NAGGuider", model=["loader", 0], conditioning=["prompt", 0],
                                 nag_negative=["negative", 0], **STRENGTH),
    "NAGCFGGuider": custom_painting("NAGCFGGuider", model=["loader", 0], positive=["prompt", 0],
                                    negative=["negative", 0], nag_negative=["negative", 0], cfg=1.0, **STRENGTH),
}


@pytest.fixture(scope="module")
def unguided(server):
    from host.client import Client

    return [image.tobytes() for image in Client(server.url).run(painting(guided=False))["picture"]]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_has_an_effect(client, unguided, way):
    pictures = client.run(WAYS[way])["picture"]
    assert not any(is_plain(image) for image in pictures)
    assert all(image.tobytes() != before for image, before in zip(pictures, unguided))


def submit(server, folder, *arguments):
    """Run the example script; gives (what it printed, what it complained of, its exit status)."""
    command = [sys.executable, SUBMIT, api_path("playground"), "--server", server, "--folder", folder, *arguments]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120)
    return done.stdout, done.stderr, done.returncode


def place_of(class_type, name):
    """NODE.INPUT of the first node of a type in the playground's workflow."""
    prompt = json.loads(api_path("playground").read_text(encoding="utf-8"))
    return next(f"{key}.{name}" for key, inner in prompt.items() if inner["class_type"] == class_type)


def test_submit_saves_the_pictures(server, tmp_path):
    printed, complaint, status = submit(server.url, tmp_path)
    assert (complaint, status) == ("", 0)
    assert "queued" in printed
    saved = list(tmp_path.glob("*.png"))
    assert len(saved) == 18 and not any(is_plain(Image.open(path).convert("RGB")) for path in saved)


def test_submit_says_why_not(server, tmp_path):
    _, complaint, status = submit(server.url, tmp_path, "--set", f"{place_of('NAGModel', 'nag_tau')}=99")
    assert status and "NAGModel" in complaint and '99 bigger than max of 10, and not "auto": nag_tau' in complaint
    _, complaint, status = submit(server.url, tmp_path, "--set", f"{place_of('CLIPTextEncode', 'text')}=elephant")
    assert status and "CLIPTextEncode" in complaint and "elephant" in complaint
    _, complaint, status = submit("http://127.0.0.1:1", tmp_path)
    assert status and "does not answer" in complaint
    assert "Traceback" not in complaint and not list(tmp_path.iterdir())
