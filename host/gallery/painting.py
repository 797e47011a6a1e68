"""Has a server paint, and keeps what it painted: what is there is not painted again."""
import asyncio
import dataclasses
import json
import shutil
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path

import aiohttp

from ..client import Client, ExecutionError, PromptRejected
from . import media, prompts

WITHOUT, WITH = "without NAG", "with NAG"
PROMPT = "prompt.json"  # beside what it painted
LOST = (ConnectionError, aiohttp.ClientError, urllib.error.URLError)  # the server is gone


@dataclasses.dataclass
class Shown:
    """A workflow, and what came of it.

    Args:
        pictures: the files by (seed, WITHOUT or WITH).
        lacking: what it needs and the server has not; then nothing was painted.
        error: why it ended early.
    """

    name: str
    prompt: dict
    pictures: dict[tuple[int, str], list[Path]] = dataclasses.field(default_factory=dict)
    lacking: list[prompts.Lacking] = dataclasses.field(default_factory=list)
    error: str = ""

    def pairs(self) -> dict[int, dict[str, list[Path]]]:
        """{seed: {WITHOUT: files, WITH: files}}, of the seeds that have both."""
        both = [seed for seed, how in self.pictures if how == WITHOUT and (seed, WITH) in self.pictures]
        return {seed: {how: self.pictures[seed, how] for how in (WITHOUT, WITH)} for seed in both}


class Painter:
    """Paints on a server.

    Args:
        folder: where the pictures are kept, as NAME/SEED/HOW/.
        patience: seconds that one picture may take.
        restart: brings the server back that is gone, and gives its address; None if that can't be done.
    """

    def __init__(self, url: str, folder: Path, patience: float = 3600, restart: Callable[[], str] | None = None):
        self.client, self.folder, self.patience, self.restart = Client(url), folder, patience, restart
        self.nodes = self.client.object_info()

    def show(self, name: str, prompt: dict, graph: dict, seeds: list[int]) -> Shown:
        """Paint a workflow with and without NAG for each seed. prompt: in API format; graph: in the editor's."""
        part = prompts.guided(prompt, self.nodes)
        shown = Shown(name, part or prompt)
        shown.lacking = prompts.lacking(shown.prompt, graph, self.nodes) if part else [prompts.NO_NAG]
        if shown.lacking:
            return shown
        for seed in seeds:
            for how in (WITHOUT, WITH):
                try:
                    shown.pictures[seed, how] = self._picture(shown, seed, how)
                except (PromptRejected, ExecutionError) as error:
                    shown.error = str(error)
                    return shown
                except asyncio.TimeoutError:
                    self.client.post("/interrupt", {})
                    shown.error = f"no picture after {self.patience:g} s"
                    return shown
                except LOST as error:
                    shown.error = f"the server is gone: {error}"
                    if self.restart is None:
                        raise
                    self.client = Client(self.restart())
                    return shown
        self.client.post("/free", {"unload_models": True, "free_memory": True})
        return shown

    def _picture(self, shown, seed, how):
        prompt = prompts.seeded(shown.prompt, seed)
        if how == WITHOUT:
            prompt = prompts.without_nag(prompt, self.nodes)
        place = self.folder / shown.name / str(seed) / how
        return self.paint(place, prompt, f"{shown.name}, seed {seed}, {how}")

    def paint(self, place: Path, prompt: dict, label: str) -> list[Path]:
        """What a prompt leaves, in order, in a folder of its own; painted unless this very prompt has painted it.

        Raises PromptRejected, ExecutionError, asyncio.TimeoutError after `patience`, and LOST.
        """
        if not _is_there(place, prompt):
            began = time.monotonic()
            say = lambda what: print(f"\r{label}: {what:24}", end="", flush=True)
            say("...")
            history = self.client.follow(
                self.client.submit(prompt), lambda _, value, most: say(f"{value}/{most}"), self.patience
            )
            self._keep(place, prompt, media.files_of(history))
            say(f"{time.monotonic() - began:.1f} s")
            print()
        return sorted((path for path in place.iterdir() if path.stem.isdigit()), key=lambda path: int(path.stem))

    def _keep(self, place, prompt, files):
        """All of a prompt's files or, if this is cut off, none."""
        if not files:
            raise ExecutionError({"exception_message": "it left nothing to show"})
        half_done = place.with_name(f"{place.name} (half done)")
        shutil.rmtree(half_done, ignore_errors=True)
        half_done.mkdir(parents=True)
        for number, file in enumerate(files):
            view = {name: file[name] for name in ("filename", "subfolder", "type") if name in file}
            (half_done / f"{number}{Path(file['filename']).suffix}").write_bytes(self.client.get("/view", **view))
        (half_done / PROMPT).write_text(json.dumps(prompt), encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)
        half_done.rename(place)


def _is_there(place, prompt):
    """Whether this very prompt has painted what lies there."""
    try:
        return json.loads((place / PROMPT).read_text(encoding="utf-8")) == prompt
    except (OSError, ValueError):
        return False
