"""Runs a Python command in a ComfyUI, which is set up first where there is none:

    python3 host/install.py [ARGUMENTS OF PYTHON ...]

Run it with any Python from 3.10 on; it needs nothing but the standard library and pip. The ComfyUI is 0.3.75, or the
checkout that COMFYUI_PATH names. It runs in an environment of ours (environment.py), or with the Python that
COMFYUI_PYTHON names (existing.py): then nothing is installed. Without arguments it prints the Python and the checkout.
"""
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
if not __package__:  # run as a script
    sys.path.insert(0, str(REPOSITORY))

from host.environment import environment_variables, set_up  # noqa: E402
from host.existing import named_checkout, named_python  # noqa: E402


def main():
    checkout, arguments = named_checkout(), sys.argv[1:]
    python, comfyui = named_python(arguments), checkout
    if python is None:
        python, comfyui = set_up(checkout)
    if not arguments:
        print(f"{python}\n{comfyui}")
        return
    os.chdir(REPOSITORY)
    command, variables = [str(python), *arguments], environment_variables(comfyui)
    if os.name == "nt":  # there an exec gives the console back before the command has ended
        sys.exit(subprocess.call(command, env=variables))
    os.execve(python, command, variables)


if __name__ == "__main__":
    main()
