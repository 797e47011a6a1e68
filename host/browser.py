"""The graph editor as people see it: ComfyUI's real frontend in a headless Chromium, driven by Playwright.

    with ComfyServer() as server, chromium() as browser, Editor(browser, server.url) as editor:
        editor.load(graph)
        editor.run()
        editor.screenshot("after the run")
"""
import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Error, sync_playwright

from .client import Client, ExecutionError, PromptRejected
from .environment import FRONTEND, ROOT, alone, pip
from .server import PACK

NAMES = ("chromium", "chromium-browser", "google-chrome")
# No sandbox, because containers and root have none; nothing that calls out by itself.
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")
SCREENSHOTS = PACK / "output" / "screenshots"
VIEWPORT = {"width": 1600, "height": 1000}
PATIENCE = 120  # seconds for the frontend to load, or a prompt to run; this may be a slow machine

# Without these the frontend greets a new user with a dialog of templates, and perhaps with what its release brings.
SETTINGS = {"Comfy.TutorialCompleted": True, "Comfy.Notification.ShowVersionUpdates": False,
            "Comfy.Minimap.Visible": False}

# What the frontend asks for and does not find, and says so. Nothing of it is ours.
ABSENT = (
    r"/favicon\.ico$",
    r"/user\.css$",  # a new user has no style of their own,
    r"/userdata\?dir=(workflows|subgraphs)",  # no workflows,
    r"/userdata/comfy\.templates\.json$",  # and no templates
    r"/templates/index(_logo)?(\.\w+)?\.json$",  # the package of ComfyUI's own templates is not installed
    r"/api/jobs\?",  # a frontend newer than the host asks for what the host does not have
)
# What the frontend logs with no other extension than ComfyUI's own.
OWN_ERRORS = (
    "^Error loading core workflow templates: AxiosError",  # as above
    "^(\\[Jobs API\\] Error fetching jobs|Failed to fetch queue): JobsApiError: Failed to fetch jobs: 404",  # as above
    r"^TypeError: Cannot read properties of undefined \(reading 'id'\)\s+at onChange ",  # 1.32, as it starts
    "^ComfyApp graph accessed before initialization",  # 1.49, as it starts
    "^Attempted to cleanup event listeners for graph that was never set up",  # 1.32, as a subgraph is opened
    r"^Link not found \d+",  # 1.26, as a node is deleted that a subgraph's input feeds
    r"^(CompileError: )?WebAssembly\.compile\(\): .* Content Security Policy",  # the host's policy, and three.js
)
# The frontend's own files ask elsewhere for what is newer. Most hosts' policy keeps the page from it; on the others the
# network may.
OUTSIDE = r"(Connecting to|Fetch API cannot load) '?https://.* Content Security Policy"
ELSEWHERE = r"https://(api\.comfy\.org|huggingface\.co)/"

READY = """() => {
    const manager = window.app?.extensionManager
    return !!(window.app?.vueAppReady && manager?.workflow?.activeWorkflow && !manager.spinner
        && window.LiteGraph?.registered_node_types.NAGModel)
}"""
# In older frontends a node that the server lacks is only red, in newer ones it is drawn as a placeholder.
RED = """() => app.graph._nodes
    .filter(node => node.has_errors || !LiteGraph.registered_node_types[node.type])
    .map(node => `${node.type} #${node.id}`)"""
SHOW = """([ids, [left, top, right, bottom]]) => {
    const boxes = ids ? ids.map(id => app.graph.getNodeById(id).getBounding())
        : [...app.graph._nodes.map(node => node.getBounding()), ...app.graph._groups.map(group => group._bounding)]
    const low = side => Math.min(...boxes.map(box => box[side]))
    const high = side => Math.max(...boxes.map(box => box[side] + box[side + 2]))
    const [width, height] = [high(0) - low(0), high(1) - low(1)]
    const { clientWidth, clientHeight } = app.canvas.canvas
    const scale = Math.min(1, (clientWidth - left - right) / width, (clientHeight - top - bottom) / height)
    app.canvas.ds.scale = scale
    app.canvas.ds.offset = [
        ((left + clientWidth - right) / scale - width) / 2 - low(0),
        ((top + clientHeight - bottom) / scale - height) / 2 - low(1),
    ]
    app.graph.setDirtyCanvas(true, true)
}"""
BARS = (80, 100, 20, 20)  # pixels at the left, top, right and bottom that the frontend's own bars may cover
LISTEN = """() => {
    const { api } = window.comfyAPI.api
    window.nagEnds = {}
    for (const kind of ['execution_success', 'execution_error', 'execution_interrupted'])
        api.addEventListener(kind, ({ detail }) => { window.nagEnds[detail.prompt_id] = { kind, detail } })
}"""
# What the frontend remembers: of messages that were closed. It greets with its second renderer in a banner.
REMEMBERED = """() => {
    localStorage.clear()
    sessionStorage.clear()
    localStorage.setItem('vueNodesBannerDismissed', 'true')
}"""
LEFT = "about:blank"  # where a page waits for the next Editor, whom loading the frontend then costs half


class BrowserMissing(RuntimeError):
    """There is no Chromium to be found."""


class BrowserFailed(RuntimeError):
    """Chromium did not start, or the frontend did not come up in it."""


def find_chromium():
    """The path of a Chromium: the one that NAG_CHROMIUM names, or one on PATH. Raises BrowserMissing."""
    named = os.environ.get("NAG_CHROMIUM")
    found = shutil.which(named) if named else next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        raise BrowserMissing(f"NAG_CHROMIUM={named} is no program." if named else
                             f"No Chromium on PATH ({', '.join(NAMES)}); NAG_CHROMIUM may name one elsewhere.")
    return found


@contextlib.contextmanager
def chromium():
    """A headless Chromium for a `with` block; asyncio.run can't be used in it. Raises BrowserMissing, BrowserFailed."""
    path = find_chromium()
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        except Error as error:
            raise BrowserFailed(f"{path} did not start: {error.message}") from None
        try:
            yield browser
        finally:
            browser.close()


def newest_frontend():
    """The static files of the newest released frontend, for the host's --front-end-root; installed if they are not
    there yet. None, and a word about it, where it can't be had."""
    ROOT.mkdir(exist_ok=True)
    with alone(), tempfile.TemporaryDirectory(dir=ROOT) as folder:
        report = Path(folder, "report.json")
        if not pip(sys.executable, "install", "--no-deps", "--ignore-installed", "--dry-run", "--report", report,
                   FRONTEND):
            print(f"No newest {FRONTEND} to be had; pip's message is above.", file=sys.stderr)
            return None
        version = json.loads(report.read_text(encoding="utf-8"))["install"][0]["metadata"]["version"]
        place = ROOT / f"frontend-{version}"
        if not place.exists():
            packages = Path(folder, "packages")
            if not pip(sys.executable, "install", "--no-deps", "--no-compile", "--target", packages,
                       f"{FRONTEND}=={version}"):
                print(f"{FRONTEND} {version} could not be installed; pip's message is above.", file=sys.stderr)
                return None
            try:
                packages.rename(place)
            except OSError:  # a test beside this one has been faster
                if not place.exists():
                    raise
    return place / FRONTEND.replace("-", "_") / "static"


def _is_own(text, address):
    """Whether the bare frontend logs this, too, with no pack installed."""
    if re.match("Failed to load resource: .* 404", text):
        return any(re.search(pattern, address) for pattern in ABSENT)
    if re.match(r"Failed to load resource: net::ERR_", text):
        return bool(re.match(ELSEWHERE, address))
    if re.match(OUTSIDE, text):
        return "/assets/" in address  # the frontend's files; an extension's lie under /extensions/
    return any(re.match(pattern, text, re.DOTALL) for pattern in OWN_ERRORS)


class Editor:
    """The frontend of a server, loaded anew, with the pack's nodes registered and nothing before the graph.

    browser: see chromium; url: the server's; settings: the user's, by id, beside those that keep greetings away.
    `page` is Playwright's page, `version` the frontend's, `errors` what the page's console said since it was opened,
    but for what the bare frontend says by itself.
    """

    def __init__(self, browser, url, settings=None):
        self.url = url
        self.errors = []
        self._browser = browser
        self._settings = SETTINGS | (settings or {})
        self._queued = None

    def __enter__(self):
        Client(self.url).post("/settings", self._settings)
        left = (page for context in self._browser.contexts for page in context.pages if page.url == LEFT)
        self.page = next(left, None) or self._browser.new_context(viewport=VIEWPORT).new_page()
        self._listeners = {
            "console": lambda said: self._note(said.text, said.location["url"]) if said.type == "error" else None,
            "pageerror": lambda error: self._note(error.stack or error.message, ""),
            "crash": lambda _: self._note("The page crashed.", ""),
        }
        for event, listener in self._listeners.items():
            self.page.on(event, listener)
        try:
            self.page.goto(f"{self.url}/queue")  # of the frontend's origin, and nothing else
            self.page.evaluate(REMEMBERED)
            self.open()
        except BaseException:
            self.page.context.close()
            raise
        return self

    def __exit__(self, kind, *_):
        if kind:
            self.page.context.close()
            return
        for event, listener in self._listeners.items():
            self.page.remove_listener(event, listener)
        self.page.unroute_all()
        self.page.goto(LEFT)

    def _note(self, text, address):
        if not _is_own(text, address):
            self.errors.append(f"{text} ({address})" if address else text)

    def open(self):
        """Load the page, anew if it was loaded, and wait until it can be used. Raises BrowserFailed."""
        try:
            self.page.goto(self.url, timeout=PATIENCE * 1000)
            self._wait_for(READY)
        except Error as error:
            shown = self.screenshot("did not come up")
            raise BrowserFailed("\n".join(["The frontend did not come up: " + error.message, *self.errors,
                                           f"See {shown}."])) from None
        self.version = self.page.evaluate("() => window.__COMFYUI_FRONTEND_VERSION__")
        self.page.evaluate(LISTEN)

    def _wait_for(self, condition, patience=PATIENCE, argument=None):
        """Wait until a JavaScript function gives something true. Asks by time: a hidden page draws no frames."""
        return self.page.wait_for_function(condition, arg=argument, polling=100, timeout=patience * 1000)

    def load(self, graph):
        """Put a graph in editor format (a dict) in the place of the one that is shown, as File > Open does."""
        self.page.evaluate("graph => app.loadGraphData(graph)", graph)

    def red_nodes(self):
        """"type #id" of each node that is shown as broken: of a type that the server does not have, or in error."""
        return self.page.evaluate(RED)

    def graph(self):
        """What is shown, in editor format, as File > Save writes it."""
        return json.loads(self.page.evaluate("() => JSON.stringify(app.graph.serialize())"))

    def prompt(self):
        """What is shown, in API format, as the frontend submits it."""
        return json.loads(self.page.evaluate("async () => JSON.stringify((await app.graphToPrompt()).output)"))

    def queue(self):
        """Press Queue, and give the prompt's id. Raises PromptRejected if the server will not have the graph."""
        with self.page.expect_response(lambda answer: answer.url.endswith("/prompt") and
                                       answer.request.method == "POST") as caught:
            self.page.evaluate("() => app.queuePrompt(0)")
        answer = caught.value.json()
        if not caught.value.ok or answer.get("node_errors"):
            raise PromptRejected(answer)
        self._queued = answer["prompt_id"]
        return self._queued

    def wait(self, patience=PATIENCE):
        """Wait until the graph queued last has run. Gives its prompt id. Raises ExecutionError if a node failed."""
        end = self._wait_for("id => window.nagEnds[id]", patience, self._queued).json_value()
        if end["kind"] != "execution_success":
            raise ExecutionError(end["detail"])
        return self._queued

    def run(self, patience=PATIENCE):
        """queue and wait in one."""
        self.queue()
        return self.wait(patience)

    def show(self, *nodes, margins=BARS):
        """Move and scale the canvas so that it shows these nodes (their ids), or the whole graph."""
        self.page.evaluate(SHOW, [list(nodes) or None, margins])

    def dismiss(self):
        """Close dialogs and messages that lie over the graph."""
        for _ in range(5):
            if not self.page.locator(".p-dialog-mask:visible, [role=dialog]:visible").count():
                break
            self.page.keyboard.press("Escape")
            self.page.wait_for_timeout(300)
        for button in self.page.locator(".p-toast-close-button:visible").all():
            button.click()

    def screenshot(self, name):
        """Keep what the page shows as NAME.png in output/screenshots/, by version of the frontend. Gives the path."""
        self.page.wait_for_timeout(300)  # the canvas draws a frame later
        path = SCREENSHOTS / getattr(self, "version", "unknown") / f"{name}.png"
        self.page.screenshot(path=path)
        return path
