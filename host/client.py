"""Talks to a ComfyUI server the way its own page does: prompts over HTTP, progress over the websocket."""
import asyncio
import http.client
import io
import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

import aiohttp
from PIL import Image

# What tells that a server has gone down, or is not up yet.
GONE = (ConnectionError, urllib.error.URLError, http.client.HTTPException, aiohttp.ClientError)


class PromptRejected(ValueError):
    """The server would not queue a prompt. `node_errors` is what it said, by node id."""

    def __init__(self, answer):
        self.error, self.node_errors = answer.get("error") or {}, answer.get("node_errors") or {}
        lines = [f"{self.error.get('message', 'prompt rejected')} {self.error.get('details') or ''}".strip()]
        for node, found in self.node_errors.items():
            lines += [f"{found['class_type']} #{node}: {e['message']}: {e['details']}" for e in found["errors"]]
        super().__init__("\n".join(lines))


class ExecutionError(RuntimeError):
    """A node raised while the prompt ran. `details` is the server's execution_error message."""

    def __init__(self, details):
        self.details = details
        node = f"{details.get('node_type')} #{details.get('node_id')}"
        super().__init__(f"{node}: {details.get('exception_type')}: {details.get('exception_message')}".strip())


class PromptLost(LookupError):
    """The server does not know a prompt: it was taken from the queue, or the server has gone down since."""


class Client:
    """One client of a server.

        client = Client(server.url)
        images = client.run(prompt, on_progress=lambda node, value, maximum: ...)

    A prompt is a workflow in ComfyUI's API format. `run` is `submit`, `follow` and `images` in one.
    """

    def __init__(self, url):
        self.url = url
        self.id = uuid.uuid4().hex
        self._direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback needs no proxy

    def _open(self, request):
        with self._direct.open(request, timeout=60) as answer:
            return answer.read()

    def get(self, path, **query):
        """The body of a GET, as bytes."""
        question = f"?{urllib.parse.urlencode(query)}" if query else ""
        return self._open(f"{self.url}{path}{question}")

    def post(self, path, body):
        """The body of the answer to a POST of a JSON body, as bytes."""
        header = {"Content-Type": "application/json"}
        return self._open(urllib.request.Request(f"{self.url}{path}", json.dumps(body).encode(), header))

    def object_info(self):
        """Every node the server has, by node id."""
        return json.loads(self.get("/object_info"))

    def submit(self, prompt):
        """Queue a prompt and return its id. Raises PromptRejected if any of its nodes is not right."""
        try:
            accepted = json.loads(self.post("/prompt", {"prompt": prompt, "client_id": self.id}))
        except urllib.error.HTTPError as refusal:
            with refusal:
                raise PromptRejected(json.load(refusal)) from None
        if accepted.get("node_errors"):
            raise PromptRejected(accepted)  # some of its outputs run, some can't
        return accepted["prompt_id"]

    def history(self, prompt_id):
        """What the server remembers of a finished prompt; None before it has finished."""
        return json.loads(self.get(f"/history/{prompt_id}")).get(prompt_id)

    def is_queued(self, prompt_id):
        """Whether a prompt runs or waits."""
        queue = json.loads(self.get("/queue"))
        return any(prompt_id == waiting[1] for waiting in queue["queue_running"] + queue["queue_pending"])

    def follow(self, prompt_id, on_progress=None, timeout=600):
        """Wait until a prompt has finished and return its history.

        Raises ExecutionError if a node failed, PromptLost if the server does not know the prompt.

        on_progress(node id, value, maximum) is called as the nodes report how far they are.
        """
        history = asyncio.run(asyncio.wait_for(self._listen(prompt_id, on_progress), timeout))
        for kind, details in history["status"]["messages"]:
            if kind in ("execution_error", "execution_interrupted"):
                raise ExecutionError(details)
        return history

    async def _listen(self, prompt_id, on_progress):
        address = f"{self.url}/ws?clientId={self.id}"
        async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as socket:
            await socket.receive()  # the server now knows us: from here on the end can't be missed
            queued, history = self.is_queued(prompt_id), self.history(prompt_id)  # it may end between the two
            if not queued and history is None:
                raise PromptLost(prompt_id)
            while history is None:
                message = await socket.receive()
                if message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.ERROR):
                    raise ConnectionError("the server closed the websocket")
                if message.type is aiohttp.WSMsgType.TEXT:  # previews are binary
                    history = self._heed(json.loads(message.data), prompt_id, on_progress)
        return history

    def _heed(self, message, prompt_id, on_progress):
        """Pass progress on; return the history at the message that ends the prompt."""
        data = message["data"]
        if data.get("prompt_id") != prompt_id:
            return None
        if message["type"] == "progress" and on_progress:
            on_progress(data["node"], data["value"], data["max"])
        ended = message["type"] == "executing" and data["node"] is None
        return self.history(prompt_id) if ended else None

    def images(self, history):
        """The pictures of a finished prompt: lists of PIL images, by the id of the node that showed them."""
        shown = {node: output["images"] for node, output in history["outputs"].items() if "images" in output}
        return {node: [self._image(**file) for file in files] for node, files in shown.items()}

    def _image(self, **file):
        return Image.open(io.BytesIO(self.get("/view", **file))).convert("RGB")

    def run(self, prompt, on_progress=None, timeout=600):
        """Queue a prompt, wait for it, and return its pictures by node id."""
        return self.images(self.follow(self.submit(prompt), on_progress, timeout))

    def outlast(self, prompt, prompt_id=None, restarts=1, patience=300):
        """`run`, on a server that may go down meanwhile: what it has then forgotten is queued anew.

        ComfyUI keeps its queue and its history in memory alone.

        prompt_id: of the prompt, if it is queued already. restarts: how often the server may go down. patience: for how
        many seconds. Raises as `run` does, and one of GONE when the server stays away.
        """
        while True:
            try:
                prompt_id = prompt_id or self.submit(prompt)
                return self.images(self.follow(prompt_id))
            except PromptLost:
                prompt_id = None
            except GONE:
                if not restarts:
                    raise
                restarts -= 1
                self._wait(patience)

    def _wait(self, patience):
        until = time.monotonic() + patience
        while True:
            try:
                return self.get("/system_stats")
            except GONE:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)
