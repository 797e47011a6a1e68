"""A ComfyUI server on a free loopback port, with this pack and those named, for as long as a `with` block."""
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from .environment import ROOT, environment_variables

PACK = Path(__file__).resolve().parent.parent
PACK_NAME = "nag"  # the folder under custom_nodes, and so the prefix of its web extensions
FOLDERS = ("custom_nodes", "models", "input", "output", "temp", "user")
LOG_TAIL = 40  # lines


class ServerFailed(RuntimeError):
    """The server did not come up, or went down; the message ends with what it logged last."""


def free_port():
    """A loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def link_pack(place, pack):
    """Put a pack where the host looks for it: as a link, or as a copy where links are not allowed."""
    if place.is_symlink() and place.resolve() == pack:
        return
    if place.is_symlink() or place.is_file():
        place.unlink()
    elif place.exists():
        shutil.rmtree(place)
    try:
        place.symlink_to(pack, target_is_directory=pack.is_dir())
    except OSError:
        if pack.is_dir():
            shutil.copytree(pack, place, ignore=shutil.ignore_patterns(".*", "output", "__pycache__"))
        else:
            shutil.copyfile(pack, place)


def packs_beside():
    """Packs whose nodes a workflow needs: the checkout of ComfyUI_ExtraModels that EXTRA_MODELS names, if it does."""
    folder = os.environ.get("EXTRA_MODELS")
    return [Path(folder)] if folder else []


def make_base_directory(base, packs=()):
    """The folder that stands for the ComfyUI folder as far as nodes, models, inputs and outputs go.

    packs: what goes into custom_nodes beside this pack, folders or single modules.
    """
    for folder in FOLDERS:
        (base / folder).mkdir(parents=True, exist_ok=True)
    link_pack(base / "custom_nodes" / PACK_NAME, PACK)
    for pack in packs:
        link_pack(base / "custom_nodes" / pack.name, pack)


def host_arguments(comfyui, base, packs=(), cpu=True):
    """Command-line arguments that keep a host off the network and out of its own folder, and on the CPU if told so."""
    known = (comfyui / "comfy" / "cli_args.py").read_text(encoding="utf-8")
    wanted = [
        *([["--cpu"]] if cpu else []),
        ["--disable-auto-launch"],
        ["--base-directory", str(base)],
        ["--database-url", f"sqlite:///{(base / 'user' / 'comfyui.db').as_posix()}"],
        ["--disable-api-nodes"],
        ["--disable-all-custom-nodes"],
        # The checkout's extra_model_paths.yaml may name more custom nodes.
        ["--whitelist-custom-nodes", PACK_NAME, *(pack.name for pack in packs)],
    ]
    return [part for argument in wanted if f'"{argument[0]}"' in known for part in argument]


def _end_with_parent():
    """On Linux, lets the kernel stop the server even if this process is killed."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(1, signal.SIGTERM)  # 1: PR_SET_PDEATHSIG


class ComfyServer:
    """`with ComfyServer(base_directory) as server:` starts a ComfyUI; `server.url` is where it listens.

    comfyui: the checkout, default the one that COMFYUI_PATH names; python: its interpreter, default this one;
    arguments: further command-line arguments; packs: paths of custom nodes beside this pack; patience: how many
    seconds it may take to come up; cpu: whether it is to leave a GPU alone.
    """

    def __init__(
        self, base_directory=ROOT / "base", comfyui=None, python=sys.executable, arguments=(), packs=(), patience=300,
        cpu=True,
    ):  # fmt: skip
        self.base = Path(base_directory).resolve()
        self.comfyui = Path(comfyui or os.environ["COMFYUI_PATH"]).resolve()
        self.python = python
        self.arguments = list(arguments)
        self.packs = [Path(pack).resolve() for pack in packs]
        self.patience = patience
        self.cpu = cpu
        self.log = self.base / "server.log"
        self.url = None
        self._port = self._process = None

    def __enter__(self):
        make_base_directory(self.base, self.packs)
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        """Start the server, for the first time or anew, and wait until it is up."""
        try:
            self._launch()
            self._wait()
        except BaseException:
            self.stop()
            raise

    def _launch(self):
        self._port = self._port or free_port()  # the same, after a restart
        self.url = f"http://127.0.0.1:{self._port}"
        common = host_arguments(self.comfyui, self.base, self.packs, self.cpu)
        command = [self.python, self.comfyui / "main.py", *common, "--listen", "127.0.0.1", "--port", self._port,
                   *self.arguments]
        with open(self.log, "w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [str(part) for part in command], cwd=self.base, env=environment_variables(self.comfyui),
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, preexec_fn=_end_with_parent())

    def _wait(self):
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise ServerFailed(f"ComfyUI ended with status {self._process.returncode}:\n{self.log_tail()}")
            with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                direct.open(f"{self.url}/system_stats", timeout=5).close()
                return
            time.sleep(0.2)
        raise ServerFailed(f"ComfyUI was not up after {self.patience} s:\n{self.log_tail()}")

    def stop(self):
        """End the server, by force if it does not listen."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self):
        """End the server at once, as a crash would."""
        self._process.kill()
        self._process.wait()
        self._process = None

    def log_tail(self):
        return "\n".join(self.read_log().splitlines()[-LOG_TAIL:])

    def read_log(self):
        return self.log.read_text(encoding="utf-8", errors="replace")
