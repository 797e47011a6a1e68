"""The workflows that come with the pack, by the names that scripts have for them."""
import json
import re

from .server import PACK

WORKFLOWS = PACK / "workflows"


def name_of(title):
    """A graph's name for scripts: of its file's, which the template browser shows, what stands in front of " - "."""
    model = re.sub(r"^\(.*?\) ", "", title).partition(" - ")[0]
    return re.sub(r"[^a-z0-9]+", "_", model.replace(".", "").lower())


def paths():
    """The files of the graphs in editor format, by name."""
    return {name_of(path.stem): path for path in sorted(WORKFLOWS.glob("*.json"))}


def graphs():
    """The graphs in editor format, by name."""
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths().items()}


def api_path(name):
    return WORKFLOWS / "api" / f"{name}.json"
