"""Paint the rows of one model, and keep what the judge sees in them.

    python -m evidence paint flux --device cuda
    python -m evidence paint flux --rows "student, 2 steps" --tables Ablation --seeds 4

Rows are named as rows.py names them: --rows takes parts of names, --tables of titles of the tables that they stand in.
What is painted is added to the model's file in evidence/raw, row by row; rows that are there and not painted anew stay.
"""
import pathlib
import shlex
import sys
import time

import numpy

from . import rows
from .raw import FOLDER, Raw

SEEDS = 32
KEEP = 20  # seconds of painting that may be lost


def add_arguments(parser):
    parser.add_argument("model", help=f"{', '.join(rows.MODELS)}")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--rows", nargs="*", default=[""], metavar="PART", help="of rows' names; default: all")
    parser.add_argument("--tables", nargs="*", default=[""], metavar="PART", help="of tables' titles; default: all")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="pictures of each case")
    parser.add_argument("--cases", type=int, help="how many of the world's cases; default: all")
    parser.add_argument("--batch", type=int, help="pictures at once")
    parser.add_argument("--drawn", type=int, help="drawn pictures of each case, for the Fréchet distance")
    parser.add_argument("--out", type=pathlib.Path, default=FOLDER, help="a folder")


def main(options):
    from .painting import BATCH, Nodes, start

    start(options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{options.model}.npz"
    before = Raw.load(path) if path.exists() else None
    batch = options.batch or BATCH[options.device]
    run = Run(options.model, Nodes(), options.seeds, options.cases, batch, options.drawn, options.device)
    kept = time.monotonic()
    for key, pictures in run.paint(options.rows, options.tables):
        print(f"{options.model}, {key}: unwanted {pictures.unwanted.mean():.1%}, wanted {pictures.wanted.mean():.1%}, "
              f"right {pictures.right.mean():.1%}, distance {pictures.distances[0]:.2f}, {pictures.seconds:.1f} s",
              flush=True)
        if time.monotonic() - kept > KEEP:
            run.raw.onto(before).save(path)
            kept = time.monotonic()
    raw = run.raw.onto(before)
    raw.save(path)
    print(f"{path}: {len(raw.rows)} rows of {len(raw.case)} pictures, {path.stat().st_size / 1000:.0f} kB", flush=True)


class Run:
    """One run over rows of a model; what it has seen so far is its `raw`.

    Args:
        name: of the model. nodes: painting.Nodes. The others: see add_arguments().
    """

    def __init__(self, name, nodes, seeds=SEEDS, cases=None, batch=64, drawn=None, device="cpu"):
        from playground import judge as judges
        from playground import networks

        from . import judging
        from .painting import Prompts, versions

        self.name, self.nodes, self.batch, self.began = name, nodes, batch, time.monotonic()
        world = networks.world_of(name)
        texts = [(world.describe(case.scene), case.negative) for case in world.CASES[:cases]]
        self.prompts, self.painters = Prompts.of(texts, seeds), {}
        self.judge = judging.Judge(world, judges.load(world.name, device), self.prompts, drawn or judging.COMPARED)
        run = {"command": command(), **versions()}
        notes = {"model": name, "world": world.name, "cases": [list(pair) for pair in texts],
                 "facts": list(world.FACTS), "runs": [run]}
        self.raw = Raw(self.judge.case, numpy.array(self.prompts.seed), self.judge.of_drawn(), notes)

    def paint(self, parts=("",), titles=("",)):
        """Paint the rows whose names have one of these parts in them, of the tables whose titles have one of those.
        Yields a row's name and its raw.Pictures."""
        for row in rows.all_rows(self.name, self.nodes.equations, titles):
            if any(part in row.key for part in parts):
                started = time.monotonic()
                pictures = self._painter(row.weights).paint(row)
                self.raw.rows[row.key] = self.judge.see(pictures, time.monotonic() - started)
                self.raw.notes["runs"][-1] |= {"seconds": round(time.monotonic() - self.began),
                                               "rows": len(self.raw.rows)}
                yield row.key, self.raw.rows[row.key]

    def _painter(self, weights):
        from playground import networks

        from .painting import Painter

        if weights not in self.painters:
            loaded = networks.load(self.name if weights == "teacher" else f"{self.name} {weights}")
            self.painters[weights] = Painter(self.name, loaded, self.nodes, self.prompts, self.batch)
        return self.painters[weights]


def command():
    """As it was called, less the folders of this machine."""
    words = (pathlib.Path(word).name if "/" in word else word for word in sys.argv[1:])
    return shlex.join(["python", "-m", "evidence", *words])
