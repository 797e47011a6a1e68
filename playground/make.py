"""Make all that lies in weights/: the judge of each world, and each network's teacher and student, with logs.

    python -m playground.make [NAME ...] [--device cuda --graph --at-once 8]

run in the repository's folder, with the Python of a ComfyUI. Each log begins with the command that made its file.
"""
import argparse
import concurrent.futures
import pathlib
import subprocess
import sys
import time

from .train import NAMES

FOLDER = pathlib.Path(__file__).with_name("weights")
JUDGES = {f"judge_{world}": world for world in ("shapes", "clips", "emoji")}


def main():
    options = parse()
    options.folder.mkdir(parents=True, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(options.at_once) as threads:
        made = [threads.submit(judge, world, options) for name, world in JUDGES.items() if name in options.names]
        made += [threads.submit(network, name, options) for name in NAMES if name in options.names]
        failed = [part for part in made if not part.result()]
    sys.exit(bool(failed))


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=(*JUDGES, *NAMES, []), help="default: all")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--graph", action="store_true", help="see playground.train; without it where that fails")
    parser.add_argument("--folder", type=pathlib.Path, default=FOLDER, help="where weights and logs go")
    parser.add_argument("--at-once", type=int, default=1, help="how many run at the same time")
    parser.add_argument("--judge", default="", help="further arguments of playground.judge")
    parser.add_argument("--train", default="", help="further arguments of playground.train, as in \"--minutes 3\"")
    parser.add_argument("--distil", default="", help="further arguments of playground.distil")
    options = parser.parse_args()
    options.names = options.names or [*JUDGES, *NAMES]
    return options


def judge(world, options):
    """Train a world's judge. Gives whether that went well."""
    command = ["playground.judge", world, "--device", options.device]
    command += ["--folder", options.folder] if options.folder != FOLDER else []
    command += ["--steps", 3000] if world == "emoji" else []  # whose drawings vary more
    out = options.folder / f"judge_{world}.out"
    went_well = run(command + options.judge.split(), out)
    if went_well:  # it keeps a log by itself
        out.unlink()
    return went_well


def network(name, options):
    """Train a network's teacher, then its student. Gives whether that went well."""
    teacher, student = (options.folder / f"{name}{part}.safetensors" for part in ("", "_student"))
    train = ["playground.train", name, "--device", options.device, *options.train.split()]
    distil = ["playground.distil", name, "--device", options.device, *options.distil.split()]
    if options.folder != FOLDER:
        train += ["--out", teacher]
        distil += ["--out", student, "--teacher", teacher]
    return all(learn(command, path, options) for command, path in ((train, teacher), (distil, student)))


def learn(command, path, options):
    log = path.with_suffix(".log")
    return (options.graph and run([*command, "--graph"], log)) or run(command, log)


def run(command, log):
    """Run a module; its output goes to a log, the end of it to ours, too. Gives whether it went well."""
    start = time.monotonic()
    command = list(map(str, command))
    with open(log, "w", encoding="utf-8") as file:
        print("$ python -m", *command, file=file, flush=True)
        code = subprocess.call([sys.executable, "-m", *command], stdout=file, stderr=subprocess.STDOUT)
    lines = log.read_text(encoding="utf-8").splitlines()
    print(f"[{time.monotonic() - start:.0f} s] {log.stem}: " + ("made" if code == 0 else f"failed ({code})"),
          *lines[-7:], sep="\n  ", flush=True)
    return code == 0


if __name__ == "__main__":
    main()
