"""Paint the rows of one model, and keep what the judge sees in them.

    python -m evidence paint flux --device cuda
    python -m evidence paint flux --rows "student, 2 steps" --tables Ablation --seeds 4

    python -m evidence paint flux --by-lot --rows "teacher, 4 steps.*share" --missing

Rows are named as rows.py names them: --rows takes regular expressions of names, --tables parts of titles of the tables
that they stand in. What is painted is added to the model's file in evidence/raw, row by row; rows that are there and
not painted anew stay.
"""
import pathlib
import re
import shlex
import sys
import time

import numpy

from . import by_lot, rows
from .raw import BY_LOT, FOLDER, Raw

SEEDS = 32
KEEP = 20  # seconds of painting that may be lost


def add_arguments(parser):
    parser.add_argument("model", help=f"{', '.join(rows.MODELS)}")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--rows", nargs="*", default=[""], metavar="NAME", help="regular expressions; default: all")
    parser.add_argument("--tables", nargs="*", default=[""], metavar="PART", help="of tables' titles; default: all")
    parser.add_argument("--missing", action="store_true", help="only rows that are not there yet")
    parser.add_argument("--by-lot", action="store_true", help="prompts drawn by lot, instead of the world's cases")
    parser.add_argument("--seeds", type=int, help="pictures of each case")
    parser.add_argument("--cases", type=int, help="how many of the world's cases; default: all")
    parser.add_argument("--batch", type=int, help="pictures at once")
    parser.add_argument("--drawn", type=int, help="drawn pictures of each case, for the Fréchet distance")
    parser.add_argument("--out", type=pathlib.Path, help="a folder")


def main(options):
    from .painting import BATCH, Nodes, start

    start(options.device)
    out = options.out or (FOLDER / BY_LOT if options.by_lot else FOLDER)
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{options.model}.npz"
    before = Raw.load(path) if path.exists() else None
    run = Run(options.model, Nodes(), options.seeds, options.cases, options.batch or BATCH[options.device],
              options.drawn, options.device, options.by_lot)
    known = before.rows if before and options.missing else ()
    kept, drawn = time.monotonic(), len(run.raw.rows)
    for key, pictures in run.paint(options.rows, options.tables, known):
        print(f"{options.model}, {key}: unwanted {pictures.unwanted.mean():.1%}, wanted {pictures.wanted.mean():.1%}, "
              f"right {pictures.right.mean():.1%}, distance {pictures.distances[0]:.2f}, {pictures.seconds:.1f} s",
              flush=True)
        if time.monotonic() - kept > KEEP:
            run.raw.onto(before).save(path)
            kept = time.monotonic()
    if len(run.raw.rows) == drawn:
        print("No row to paint.")
        return
    raw = run.raw.onto(before)
    raw.save(path)
    print(f"{path}: {len(raw.rows)} rows of {len(raw.case)} pictures, {path.stat().st_size / 1000:.0f} kB", flush=True)


class Run:
    """One run over rows of a model; what it has seen so far is its `raw`.

    Args:
        name: of the model. nodes: painting.Nodes. lot: whether its prompts are drawn by lot. The others: see
            add_arguments().
    """

    def __init__(self, name, nodes, seeds=None, cases=None, batch=64, drawn=None, device="cpu", lot=False):
        from playground import judge as judges
        from playground import networks

        from . import judging
        from .painting import Prompts, versions

        self.name, self.nodes, self.batch, self.lot, self.began = name, nodes, batch, lot, time.monotonic()
        world = networks.world_of(name)
        asked = by_lot.cases(world, cases or by_lot.COUNT) if lot else world.CASES[:cases]
        texts = [(world.describe(case.scene), case.negative) for case in asked]
        first, usual = (by_lot.FIRST_SEED, by_lot.SEEDS) if lot else (0, SEEDS)
        self.prompts, self.painters = Prompts.of(texts, seeds or usual, first), {}
        compared = drawn or judging.COMPARED
        self.judge = judging.Judge(world, judges.load(world.name, device), self.prompts, compared, asked)
        run = {"command": command(), **versions()}
        notes = {"model": name, "world": world.name, "cases": [list(pair) for pair in texts],
                 "facts": list(world.FACTS), "runs": [run]}
        self.raw = Raw(self.judge.case, numpy.array(self.prompts.seed), self.judge.of_drawn(), notes)

    def paint(self, names=("",), titles=("",), known=()):
        """Paint the rows that one of these regular expressions finds, of the tables whose titles have one of those
        parts, less those that are known by name. Yields a row's name and its raw.Pictures."""
        for row in rows.all_rows(self.name, self.nodes.equations, titles, self.lot):
            if row.key not in known and any(re.search(name, row.key) for name in names):
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
