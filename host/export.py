"""`make workflows`: the real frontend turns each graph in workflows/ into API format, for workflows/api/."""
import json
import sys
import tempfile
from pathlib import Path

from PIL import Image

from .browser import BrowserFailed, BrowserMissing, Editor, chromium
from .server import PACK, ComfyServer, ServerFailed

WORKFLOWS = PACK / "workflows"


def graphs():
    """The graphs in editor format, by name."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(WORKFLOWS.glob("*.json"))}


def api_path(name):
    return WORKFLOWS / "api" / f"{name}.json"


def as_text(prompt):
    """An API prompt as it is written to its file."""
    return json.dumps(prompt, indent=2, ensure_ascii=False) + "\n"


def put_stand_ins(base):
    """Put an empty file in the place of each model that the graphs name, and a plain picture for each that they load.

    base: a server's base directory. Enough for the server to accept the graphs, not to run them.
    """
    for graph in graphs().values():
        for node in graph["nodes"]:
            for model in node["properties"].get("models", []):
                place = base / "models" / model["directory"] / model["name"]
                place.parent.mkdir(parents=True, exist_ok=True)
                place.touch()
            if node["type"] == "LoadImage":
                (base / "input").mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (64, 64), "gray").save(base / "input" / node["widgets_values"][0])


def export(editor, graph):
    """The API prompt that the frontend makes of a graph."""
    editor.load(graph)
    return editor.prompt()


def main():
    with tempfile.TemporaryDirectory() as folder:
        put_stand_ins(Path(folder))
        try:
            with ComfyServer(folder) as server, chromium() as browser, Editor(browser, server.url) as editor:
                for name, graph in graphs().items():
                    api_path(name).write_text(as_text(export(editor, graph)), encoding="utf-8")
                    print(api_path(name).relative_to(PACK))
        except (BrowserFailed, BrowserMissing, ServerFailed) as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()
