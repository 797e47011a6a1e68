"""Paints prompts with negatives by a workflow without guidance, with CFG and with NAG, on the same seeds, and tabulates
how often the unwanted (what the negative names) and the wanted (all that the prompt says) show.

    COMFYUI_PATH=/your/ComfyUI COMFYUI_PYTHON=/your/python make evidence EVIDENCE_ARGS="real --workflow flux_schnell"

The judge is you, on a page in the folder, unless --judge names a model of CLIP's kind or one that answers questions
about pictures. What is painted or judged already is kept: start it again, and it goes on where it was cut off.
"""
import asyncio
import json
import signal
import sys
from pathlib import Path

from host.client import ExecutionError, PromptRejected
from host.gallery import media, prompts, serving
from host.gallery.painting import LOST
from host.server import PACK, ServerFailed
from host.shipped import api_path, graphs, paths

from . import eyes, judges, playground, tables
from . import pairs as listed
from .rows import BadWorkflow, understood

FOLDER = PACK / "output" / "evidence"
CFGS = [2.0, 3.0]
JUDGED = "judged.json"  # beside the pictures: what each judge has said of them
VIDEOS, SOUNDS = ("SaveVideo", "SaveWEBM", "SaveAnimated"), ("SaveAudio", "PreviewAudio")
BAD = (BadWorkflow, listed.BadPairs, judges.BadJudge, eyes.BadVotes, ServerFailed, *LOST)


def add_arguments(parser):
    parser.add_argument("--workflow", required=True, metavar="NAME",
                        help="one of workflows/api/ by name, or a file with a prompt in API format that has a NAG node")
    parser.add_argument("--pairs", type=Path, metavar="CSV",
                        help="prompts and negatives (default: pictures.csv or videos.csv beside this command's code)")
    parser.add_argument("--count", type=int, help="take the first so many of them")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1], help="default: 0 1")
    parser.add_argument("--cfg", nargs="*", type=float, default=CFGS, help="default: 2 3; nothing: no rows of CFG")
    parser.add_argument("--judge", default=judges.EYES, metavar="WHO",
                        help="a model's folder or name for transformers, or 'playground' (default: your eyes)")
    parser.add_argument("--blind", action="store_true", help="for eyes: in an order by lot, without names")
    parser.add_argument("--votes", nargs="+", type=Path, metavar="JSON", help="tabulate what eyes have said")
    for what in ("prompt", "negative"):
        parser.add_argument(f"--{what}", nargs="+", default=[], metavar="NODE.INPUT",
                            help=f"where the workflow has its {what}, if its links do not say")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where all of it goes (default: %(default)s)")
    serving.add_arguments(parser)


def main(options):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped, too
    try:
        for path in count_votes(options) if options.votes else paint_and_judge(options):
            print(path)
    except BAD as error:
        sys.exit(str(error))
    except (PromptRejected, ExecutionError) as error:
        sys.exit(f"\nComfyUI can't paint this. {error}")
    except asyncio.TimeoutError:
        sys.exit(f"\nNo picture after {options.patience:g} s.")


def count_votes(options):
    folder = options.folder / workflow_of(options.workflow)[0]
    title, judged = eyes.tally(folder, options.votes)
    notes = [f"Votes of {', '.join(path.name for path in options.votes)}."]
    return tables.write(tables.completed(judged), folder, title, judges.EYES, notes)


def paint_and_judge(options):
    """The paths of what was written. Whatever is wrong with the input is said before anything is painted."""
    name, prompt, graph = workflow_of(options.workflow)
    pairs = pairs_for(prompt, options)
    judge = None if options.judge == judges.EYES else judges.named(options.judge, prompt, options.cpu)
    if judge:
        judge.check(pairs)
    folder = options.folder / name
    with serving.painter(options) as painter:
        if lacking := prompts.lacking(prompt, graph, painter.nodes):
            raise BadWorkflow(f"It lacks {', '.join(f'{each.what} {each.url}'.strip() for each in lacking)}.")
        workflow = understood(prompt, painter.nodes, options.prompt, options.negative)
        painted = paint(painter, workflow, pairs, options, folder)
        painter.client.post("/free", {"unload_models": True, "free_memory": True})  # the judge wants it
    title = f"{paths()[name].stem if name in paths() else name}, by {options.judge}"
    if judge is None:
        return [eyes.write(painted, folder, title, options.blind)]
    notes = [f"Judge: {judge.name}, {judge.kind}."]
    return tables.write(tables.completed(judge_all(judge, painted)), folder, title, Path(judge.name).name, notes)


def workflow_of(named):
    """(name, prompt in API format, graph in editor format) of a shipped workflow or a user's file."""
    every, path = graphs(), Path(named)
    if named in every:
        return named, json.loads(api_path(named).read_text(encoding="utf-8")), every[named]
    if path.suffix != ".json":
        raise BadWorkflow(f"No workflow {named}. There are {', '.join(every)}; or name a JSON file.")
    try:
        prompt = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadWorkflow(f"{path} can't be read: {error}") from None
    if isinstance(prompt, dict) and "nodes" in prompt:
        raise BadWorkflow(f"{path} is a graph of the editor. Save it there by File, Export (API).")
    if not isinstance(prompt, dict) or not all(
            isinstance(node, dict) and isinstance(node.get("inputs"), dict) and "class_type" in node
            for node in prompt.values()):
        raise BadWorkflow(f"{path} is no prompt in API format.")
    return path.stem, prompt, {"nodes": []}


def pairs_for(prompt, options):
    """The user's list of pairs, or the one for what a prompt paints."""
    kinds = [node["class_type"] for node in prompt.values()]
    world = playground.world_of(prompt)
    if any(kind.startswith(SOUNDS) for kind in kinds) and not any(kind.startswith(VIDEOS) for kind in kinds):
        raise BadWorkflow("It makes a sound, and here are judges of pictures only.")
    if options.pairs:
        pairs = listed.read(options.pairs)
    elif world:
        pairs = playground.pairs_of(world)
    elif "LoadImage" in kinds:
        raise BadWorkflow("It starts from a picture, of which our prompts know nothing: name yours with --pairs.")
    else:
        pairs = listed.read(listed.VIDEOS if any(kind.startswith(VIDEOS) for kind in kinds) else listed.PICTURES)
    if options.count is not None and options.count < 1:
        raise listed.BadPairs("--count is at least 1.")
    return pairs[:options.count]


def paint(painter, workflow, pairs, options, folder):
    """{(pair, seed): {row: files}}, on the same seeds."""
    rows, painted = workflow.rows(options.cfg), {}
    for pair in pairs:
        for seed in dict.fromkeys(options.seeds):
            for row in rows:
                place = folder / "pictures" / str(pair.number) / str(seed) / row.name
                label = f"{pair.prompt[:40]} | {pair.negative}, seed {seed}, {row.name}"
                files = _painted(painter, place, workflow.painting(row, pair.prompt, pair.negative, seed), label)
                painted.setdefault((pair, seed), {})[row.name] = files
    return painted


def _painted(painter, place, prompt, label):
    try:
        return painter.paint(place, prompt, label)
    except LOST as error:
        if painter.restart is None:
            raise
        print(f"\nThe server is gone ({error}); once more.", file=sys.stderr)
        painter.client = type(painter.client)(painter.restart())
        return painter.paint(place, prompt, label)


def judge_all(judge, painted):
    """A Judged for each picture, row by row."""
    judged = {}
    for (pair, seed), rows in painted.items():
        for row, files in rows.items():
            for number, said in enumerate(_said(judge, pair, files)):
                judged.setdefault(row, []).append(tables.Judged(pair, seed, number, row, said))
    print()
    return [each for row in judged.values() for each in row]


def _said(judge, pair, files):
    """What a judge says of each of the files of a prompt; kept beside them."""
    kept = files[0].with_name(JUDGED)
    every = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    if judge.name not in every:
        frames = [media.frames_of(file) for file in files]
        if not all(frames):
            raise BadWorkflow(f"{files[0]} is no picture.")
        every[judge.name] = [judge.judge(_spread(each, judge.frames), pair) for each in frames]
        print(f"\r{judge.name}: {pair.prompt[:40]:40}", end="", flush=True)
        half_done = kept.with_suffix(".half")
        half_done.write_text(json.dumps(every), encoding="utf-8")
        half_done.replace(kept)
    return every[judge.name]


def _spread(frames, most):
    count = min(len(frames), most or len(frames))
    return [frames[at * len(frames) // count] for at in range(count)]
