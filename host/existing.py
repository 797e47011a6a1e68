"""A ComfyUI that is there already: COMFYUI_PATH names its folder, COMFYUI_PYTHON the Python that runs it.

Both are only used: nothing is installed, and nothing is written there.
"""
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .environment import REQUIREMENTS, environment_variables, read_requirements

# What a command needs beside torch, by the module that `python -m` runs. ComfyUI brings the first ones.
SERVER = ("aiohttp", "PIL", "tqdm")
NEEDED = {"host.demo": SERVER, "host.gallery": SERVER, "evidence": SERVER, "host.export": (*SERVER, "playwright"),
          "pytest": (*SERVER, "pytest", "xdist", "hypothesis", "playwright")}
DISTRIBUTIONS = {"PIL": "pillow", "xdist": "pytest-xdist"}  # where it has another name

PROBE = """
import importlib.util, json, sys
print(json.dumps([sys.version_info[:2], [name for name in sys.argv[1:] if not importlib.util.find_spec(name)]]))
"""


def named_checkout():
    """The folder that COMFYUI_PATH names, or None. Exits if there is no ComfyUI in it."""
    named = os.environ.get("COMFYUI_PATH")
    if not named:
        return None
    checkout = Path(named).expanduser().resolve()
    if not (checkout / "main.py").is_file():
        sys.exit(f"COMFYUI_PATH={checkout} is no ComfyUI checkout: it has no main.py.")
    return checkout


def ask(python, *modules):
    """(version, those of the modules that are missing), or None if it is no Python 3."""
    command = [python, "-c", PROBE, *modules]
    try:
        said = subprocess.run(command, cwd=REQUIREMENTS.parent.parent, env=environment_variables(""), timeout=60,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
        version, missing = json.loads(said.stdout)
    except (OSError, subprocess.SubprocessError, ValueError, TypeError):
        return None
    return tuple(version), missing


def install_command(python, modules):
    """What to type for these modules to be there, in the versions that our own environment has."""
    pip = [sys.executable, "-m", "pip", "--python", python] if ask(python, "pip")[1] else [python, "-m", "pip"]
    ours = read_requirements(REQUIREMENTS)
    return subprocess.list2cmdline([*pip, "install", *(ours[DISTRIBUTIONS.get(module, module)] for module in modules)])


def named_python(arguments):
    """The Python that COMFYUI_PYTHON names, or None. Exits if it can't run the command.

    arguments: the command, as Python's arguments. Exits with one message that names all that is missing.
    """
    named = os.environ.get("COMFYUI_PYTHON")
    if not named:
        return None
    if not os.environ.get("COMFYUI_PATH"):
        sys.exit("COMFYUI_PYTHON is for the ComfyUI that COMFYUI_PATH names: set that, too.")
    found = shutil.which(Path(named).expanduser())
    python = found and os.path.abspath(found)  # not resolved: a virtual environment's Python is a link
    needed = NEEDED.get(arguments[1], ()) if arguments[:1] == ["-m"] and arguments[1:] else ()
    answer = python and ask(python, "host", "torch", *needed)
    if not answer:
        sys.exit(f"COMFYUI_PYTHON={named} is no Python.")
    version, missing = answer
    if version < (3, 10):
        sys.exit(f"COMFYUI_PYTHON={named} is Python {version[0]}.{version[1]}; 3.10 or newer is needed.")
    if "host" in missing:
        sys.exit(f"COMFYUI_PYTHON={named} runs isolated, as the portable ComfyUI's does, and so finds nothing of this "
                 "pack: name a virtual environment's.")
    if "torch" in missing:
        sys.exit(f"COMFYUI_PYTHON={named} has no torch: name the Python that runs your ComfyUI.")
    if missing:
        sys.exit(f"COMFYUI_PYTHON={named} lacks {', '.join(missing)}. Nothing was installed; to have it there, type\n\n"
                 f"    {install_command(python, missing)}\n")
    return python
