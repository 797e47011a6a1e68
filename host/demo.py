"""`make demo`: one picture of what NAG does, painted by a real ComfyUI server with the pack in it.

It queues `workflows/api/playground.json`, whose PreviewImage nodes are the rows: no guidance, CFG, NAG.
"""
import argparse
import json
import signal
import sys
import textwrap
import time
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from .client import Client, ExecutionError, PromptRejected
from .environment import ROOT
from .server import PACK, ComfyServer, ServerFailed

WORKFLOW = PACK / "workflows" / "api" / "playground.json"
PICTURE = PACK / "output" / "demo.png"

MARGIN, GAP, LABEL_WIDTH, CELL = 24, 8, 200, 192
TITLE_SIZE, LABEL_SIZE, LINE = 26, 26, 36
PAPER, INK, FAINT = "white", "#1c1c1c", "#6b6b6b"


def parse_arguments():
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__.splitlines()[0])
    parser.add_argument("--save", type=Path, default=PICTURE, help="where the picture goes (default: %(default)s)")
    parser.add_argument("--workflow", type=Path, default=WORKFLOW, help="another graph in ComfyUI's API format")
    return parser.parse_args()


class Progress:
    """A bar over the steps of all samplers of a prompt, named after the one at work."""

    def __init__(self, prompt):
        self._titles = {node: inner["_meta"]["title"] for node, inner in prompt.items() if "steps" in inner["inputs"]}
        self._done = dict.fromkeys(self._titles, 0)
        steps = sum(prompt[node]["inputs"]["steps"] for node in self._titles)
        self._bar = tqdm(total=steps, unit="step", file=sys.stdout, dynamic_ncols=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()

    def __call__(self, node, value, _):
        if node in self._done:
            self._bar.set_description(self._titles[node])
            self._bar.update(value - self._done[node])
            self._done[node] = value


def paint(workflow):
    """Have a server of our own run the graph. Gives the graph and each output node's pictures, by its title, in the
    order of the graph; the server's own order is not always the same."""
    prompt = json.loads(workflow.read_text(encoding="utf-8"))
    print("Starting ComfyUI ...", flush=True)
    with ComfyServer(ROOT / "demo") as server, Progress(prompt) as progress:
        images = Client(server.url).run(prompt, progress)
    return prompt, {inner["_meta"]["title"]: images[node] for node, inner in prompt.items() if node in images}


def texts(prompt):
    """(prompt, negative prompt) of a graph: the two texts that it encodes, in that order."""
    encoders = [inner for inner in prompt.values() if inner["class_type"] == "CLIPTextEncode"]
    return [encoder["inputs"]["text"] for encoder in encoders[:2]]


def compose(rows, positive, negative):
    """One picture: a row of pictures for each title, under a heading that says what was asked for."""
    columns = max(map(len, rows.values()))
    top = MARGIN + 2 * LINE + MARGIN // 2
    sheet = Image.new("RGB", (LABEL_WIDTH + 2 * MARGIN + columns * (CELL + GAP) - GAP,
                              top + len(rows) * (CELL + GAP) - GAP + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    title, label = ImageFont.load_default(TITLE_SIZE), ImageFont.load_default(LABEL_SIZE)
    for line, (name, text) in enumerate([("prompt:", positive), ("negative:", negative)]):
        draw.text((MARGIN, MARGIN + line * LINE), name, FAINT, title)
        draw.text((MARGIN + LABEL_WIDTH, MARGIN + line * LINE), text, INK, title)
    for row, (name, pictures) in enumerate(rows.items()):
        y = top + row * (CELL + GAP)
        draw.multiline_text((MARGIN, y + CELL // 2), textwrap.fill(name, 14), INK, label, anchor="lm")
        for column, picture in enumerate(pictures):
            cell = picture.resize((CELL, CELL), Image.Resampling.BICUBIC)
            sheet.paste(cell, (MARGIN + LABEL_WIDTH + column * (CELL + GAP), y))
    return sheet


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped, too
    arguments = parse_arguments()
    began = time.monotonic()
    try:
        prompt, rows = paint(arguments.workflow)
    except (ServerFailed, PromptRejected, ExecutionError) as error:
        sys.exit(str(error))
    arguments.save.parent.mkdir(parents=True, exist_ok=True)
    compose(rows, *texts(prompt)).save(arguments.save, optimize=True)
    print(f"{arguments.save.resolve()}  ({time.monotonic() - began:.0f} s)")


if __name__ == "__main__":
    main()
