// The live picture on NAG nodes: where NAG acts, and after a run with statistics, what it did.
import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"
import { attachNumbers, drawTexts, numbersOf, standIn } from "./editor/numbers.js"
import { Panel, localeOf } from "./editor/panel.js"
import { Notices } from "./editor/notices.js"
import { Planner } from "./editor/planner.js"
import { Statistics } from "./editor/statistics.js"
import { correctTyped, takeTyped } from "./editor/typing.js"
import { attachUses } from "./editor/uses.js"
import { NAG_NODES, isNag } from "./editor/way.js"

const UNSEEN = ["NAGOptions", "NAGRaylight"] // what "auto" stands for is on the NAG nodes, and known to the workers only
const panels = new WeakMap() // by node
const statistics = new Statistics()
const notices = new Notices()
let watch = null
const rootGraph = () => app.graph.rootGraph ?? app.graph
const planner = new Planner(
  rootGraph,
  (type) => NAG_NODES.has(type),
  fetchPlan,
  show,
)

async function fetchPlan(body) {
  const answer = await api.fetchApi("/nag/plan", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body,
  })
  if (!answer.ok) throw new Error("no plan", { cause: answer.status })
  return answer.json()
}

// Called with each plan, the ids under which each node of the graph runs, and how the nodes are wired.
function show(plan, idsOf, wiring) {
  for (const [node, ids] of idsOf) {
    if (!panels.has(node)) continue
    const id = ids.find((each) => plan.nodes[each])
    const ran = statistics.of(id, plan.nodes[id], planner.upToDate, rootGraph().id)
    const said = notices.of(id, plan.nodes[id], planner.upToDate, wiring)
    panels.get(node).show(plan.nodes[id], plan.families, ran, said)
  }
  drawTexts(rootGraph())
}

function onTyped(event) {
  const of = (id) => app.canvas.graph?.getNodeById(id)
  const widgetOf = (id, name) => numbersOf(of(id) ?? {}).find((widget) => widget.name === name)
  correctTyped(event, widgetOf, localeOf(app))
}

function onStatistics({ detail }) {
  statistics.add(detail)
  planner.showAgain()
}

function onNotices({ detail }) {
  notices.add(detail)
  planner.showAgain()
}

function onError({ detail }) {
  notices.fail(detail.node ?? detail.node_id, detail.message ?? detail.exception_message)
  planner.showAgain()
}

function onSuccess() {
  notices.forgetErrors()
  planner.showAgain()
}

// Why the server refuses a prompt, the frontend keeps and tells nobody. Called when a prompt is about to be queued.
function watchRefusal() {
  const before = app.lastNodeErrors
  let looks = 100
  clearInterval(watch)
  watch = setInterval(() => {
    const errors = app.lastNodeErrors
    const refused = errors && errors !== before
    if (refused || !--looks) clearInterval(watch)
    if (!refused) return
    notices.refuse(errors)
    planner.showAgain()
  }, 100)
}

app.registerExtension({
  name: "nag.editor",

  setup() {
    const style = document.createElement("link")
    style.rel = "stylesheet"
    style.href = new URL("./editor/panel.css", import.meta.url).href
    document.head.append(style)
    api.addEventListener("graphChanged", planner.askSoon)
    // Nodes 2.0 does not notice every change of a widget by itself; to ask for nothing new costs nothing.
    for (const kind of ["pointerup", "keyup", "change"]) window.addEventListener(kind, planner.askSoon, true)
    for (const kind of ["blur", "keyup"]) window.addEventListener(kind, onTyped, true)
    api.addEventListener("nag.statistics", onStatistics)
    api.addEventListener("nag.notices", onNotices)
    for (const kind of ["nag.error", "execution_error"]) api.addEventListener(kind, onError)
    api.addEventListener("execution_success", onSuccess)
  },

  nodeCreated(node) {
    const isUnseen = UNSEEN.includes(node.comfyClass)
    if (!isUnseen && !isNag(node)) return
    attachNumbers(node)
    numbersOf(node).forEach(takeTyped)
    if (isUnseen) {
      attachUses(node)
      return standIn(node, {})
    }
    const panel = new Panel(app, node)
    panel.widget.beforeQueued = watchRefusal
    panels.set(node, panel)
    planner.askSoon()
  },

  afterConfigureGraph() {
    planner.askSoon()
  },
})
