"""`make gallery`: paints each shipped workflow whose models are there with and without NAG, on the same seeds.

Into a folder go the pictures, a page (gallery.md) and thumbnails for the template browser. What is there is kept: start
it again, and it goes on where it was cut off. COMFYUI_PATH names the ComfyUI whose models and input pictures are used.
"""
import argparse
import json
import signal
import sys
from pathlib import Path

from ..server import PACK, ServerFailed
from ..shipped import api_path, graphs, paths
from . import serving
from .page import write_page, write_thumbnails
from .painting import LOST, Shown

FOLDER = PACK / "output" / "gallery"


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(prog="make gallery", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these of workflows/api/ (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3], help="default: 0 1 2 3")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where all of it goes (default: %(default)s)")
    parser.add_argument("--thumbnails", type=Path, help="where they go, as workflows/ (default: in the folder)")
    serving.add_arguments(parser)
    return parser.parse_args(arguments)


def workflows(only=None):
    """{name: (prompt, graph)}, in API format and in the editor's. Exits if one of those named is not there."""
    every = graphs()
    if unknown := set(only or ()) - every.keys():
        sys.exit(f"No workflow {', '.join(sorted(unknown))}. There are {', '.join(every)}.")
    return {name: (json.loads(api_path(name).read_text(encoding="utf-8")), every[name]) for name in only or every}


def paint(options) -> list[Shown]:
    """All that is asked for, as far as it can be had."""
    chosen, every = workflows(options.only), []
    with serving.painter(options) as painter:
        for name, (prompt, graph) in chosen.items():
            shown = painter.show(name, prompt, graph, options.seeds)
            every.append(shown)
            if shown.lacking:
                print(f"{name}: left out for want of {', '.join(each.what for each in shown.lacking)}")
            elif shown.error:
                print(f"\n{name}: failed. {shown.error}", file=sys.stderr)
    return every


def main(arguments=None):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped, too
    options = parse_arguments(arguments)
    try:
        every = paint(options)
    except (ServerFailed, *LOST) as error:
        sys.exit(str(error))
    titles = {name: path.stem for name, path in paths().items()}
    print(write_page(every, options.folder, titles))
    for path in write_thumbnails(every, options.thumbnails or options.folder / "thumbnails", titles):
        print(path)
    if any(shown.error for shown in every):
        sys.exit(1)


if __name__ == "__main__":
    main()
