import sys, time
import numpy
from evidence.painting import start
start("cpu")
from evidence import paint, rows
from evidence.painting import Nodes
import torch, pathlib
torch.set_num_threads(2)
model, out = sys.argv[1], pathlib.Path(sys.argv[2])
run = paint.Run(model, Nodes(), 32, None, 64, None, "cpu")
wanted = [eval(line) for line in sys.argv[3:]]
from evidence.raw import Raw
before = Raw.load(out) if out.exists() else None
for group in wanted:
    for row in (group if isinstance(group, list) else [group]):
        t = time.monotonic()
        run.raw.rows[row.key] = p = run.judge.see(run._painter(row.weights).paint(row), time.monotonic() - t)
        run.raw.notes["runs"][-1] |= {"seconds": round(time.monotonic() - run.began), "rows": len(run.raw.rows)}
        print(model, row.key, f"unwanted {p.unwanted.mean():.3f} wanted {p.wanted.mean():.3f} right {p.right.mean():.3f} d {p.distances[0]:.1f} {p.distances[2]:.1f} {time.monotonic()-t:.1f}s", flush=True)
        run.raw.onto(before).save(out)
