"""Each shipped workflow in API format, queued as it is, paints something."""
import json

import pytest
from host.server import PACK

WORKFLOWS = sorted((PACK / "workflows" / "api").glob("*.json"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow(client, path):
    prompt = json.loads(path.read_text(encoding="utf-8"))
    finished = set()

    def on_progress(node, value, maximum):
        if value == maximum:
            finished.add(node)

    pictures = client.run(prompt, on_progress)
    assert set(pictures) == nodes_of(prompt, "PreviewImage", "SaveImage")
    for images in pictures.values():
        assert images and not any(is_plain(image) for image in images)
    assert finished >= nodes_of(prompt, "KSampler", "SamplerCustomAdvanced", "NAGSampler")


def nodes_of(prompt, *class_types):
    return {node for node, inner in prompt.items() if inner["class_type"] in class_types}


def is_plain(image):
    """Whether an image shows one colour only."""
    return all(low == high for low, high in image.getextrema())
