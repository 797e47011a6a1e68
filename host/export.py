"""`make workflows`: the real frontend turns each graph in workflows/ into API format, for workflows/api/.

A graph with nodes that the ComfyUI lacks is left out; EXTRA_MODELS names a checkout of ComfyUI_ExtraModels, for SANA.
Names as arguments: these graphs only.
"""
import json
import sys
import tempfile
from pathlib import Path

from PIL import Image

from .browser import BrowserFailed, BrowserMissing, Editor, chromium
from .client import Client
from .server import PACK, ComfyServer, ServerFailed, packs_beside
from .shipped import api_path, graphs

OF_THE_EDITOR = {"MarkdownNote"}  # no node of the server's


def as_text(prompt):
    """An API prompt as it is written to its file."""
    return json.dumps(prompt, indent=2, ensure_ascii=False) + "\n"


def lacking(graph, nodes):
    """The types of a graph's nodes that a server does not have, sorted; nodes: those that it has, by type."""
    return sorted({node["type"] for node in graph["nodes"]} - OF_THE_EDITOR - set(nodes))


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


def main(names):
    with tempfile.TemporaryDirectory() as folder:
        put_stand_ins(Path(folder))
        try:
            with (ComfyServer(folder, packs=packs_beside()) as server, chromium() as browser,
                  Editor(browser, server.url) as editor):
                nodes = Client(server.url).object_info()
                for name, graph in graphs().items():
                    if names and name not in names:
                        continue
                    place, missing = api_path(name), lacking(graph, nodes)
                    if missing:
                        print(f"{place.relative_to(PACK)} stays as it is: this ComfyUI has no {', '.join(missing)}")
                        continue
                    place.write_text(as_text(export(editor, graph)), encoding="utf-8")
                    print(place.relative_to(PACK))
        except (BrowserFailed, BrowserMissing, ServerFailed) as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
