"""Each shipped workflow in API format, queued as it is, paints something."""
import json

import pytest

from host.server import PACK

WORKFLOWS = sorted((PACK / "workflows" / "api").glob("*.json"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow(client, path):
    prompt = json.loads(path.read_text(encoding="utf-8"))
    seen = []
    pictures = client.run(prompt, on_progress=lambda node, value, maximum: seen.append((node, value, maximum)))
    previews = {node for node, inner in prompt.items() if inner["class_type"] in ("PreviewImage", "SaveImage")}
    assert set(pictures) == previews
    for images in pictures.values():
        assert images and all(any(low < high for low, high in image.getextrema()) for image in images)
    samplers = {node for node, inner in prompt.items() if "latent_image" in inner["inputs"] and "Sampler" in inner["class_type"]}
    assert {node for node, value, maximum in seen if value == maximum} >= samplers
