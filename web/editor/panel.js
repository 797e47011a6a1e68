// The panel on a node: the picture, what it says, and three controls. A DOM widget that no graph or prompt carries.
import { isCompared, toggleCompare } from "./compare.js"
import { advice, dialOf, legend } from "./legend.js"
import { draw, makePicture } from "./picture.js"
import { STRENGTH } from "./numbers.js"
import { Presets } from "./presets.js"
import { hasStatistics, toggleStatistics } from "./settings.js"
import { describe, describeWhole, factsOf, headline, hint, means, stepsOf } from "./steps.js"
import { number, text } from "./text.js"

const HEIGHT = 126 // px

export class Panel {
  constructor(app, node) {
    Object.assign(this, { app, node })
    this.t = text(localeOf(app))
    this.build()
    const widget = node.addDOMWidget("nag_picture", "nag_picture", this.root, {
      serialize: false, // not in the prompt
      hideOnZoom: false,
      hideInPanel: true, // no row in the side panel, from frontend 1.48 on
      getValue: () => "",
      setValue: () => {},
      getMinHeight: () => HEIGHT,
      getMaxHeight: () => HEIGHT,
    })
    this.widget = widget
    widget.serialize = false // not in the graph
    // As wide as the node: side panels give widgets that they draw a width of their own.
    Object.defineProperty(widget, "width", { get: () => undefined, set: () => {}, configurable: true })
    if (minorVersion() < 48) {
      const get = () => !window.LiteGraph.vueNodesMode // else Nodes 2.0 would not show it at all
      Object.defineProperty(widget.options, "canvasOnly", { get, set: () => {}, configurable: true, enumerable: true })
    }
    const [width, height] = node.computeSize()
    node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)])
  }

  build() {
    this.picture = makePicture()
    this.headline = make("div", "nag-headline")
    this.hint = make("div", "nag-hint")
    this.facts = make("div", "nag-facts")
    this.detail = make("div", "nag-detail")
    this.presets = new Presets(this.app, this.node, this.t)
    this.button = make("button", "nag-statistics", this.t("statistics"))
    this.button.type = "button"
    this.button.title = this.t("statisticsHint")
    this.compare = make("button", "nag-compare", this.t("compare"))
    this.compare.type = "button"
    this.compare.title = this.t("compareHint")
    const controls = make("div", "nag-controls")
    controls.append(this.presets.select, this.button, this.compare)
    this.root = make("div", "nag-panel")
    this.root.append(this.headline, this.hint, this.picture.root, this.facts, this.detail, controls)
    this.listen()
  }

  listen() {
    this.button.addEventListener("click", () => toggleStatistics(this.app, this.node))
    this.compare.addEventListener("click", () => {
      toggleCompare(this.app, this.node, this.t)
      this.showCompare()
    })
    const { svg } = this.picture
    svg.addEventListener("pointermove", (event) => this.point(event.target.parentNode.step))
    svg.addEventListener("pointerleave", () => this.point(undefined))
    this.root.addEventListener("wheel", (event) => this.passOn(event, "processMouseWheel"))
    this.root.addEventListener("pointerdown", (event) => {
      if (event.button === 1) this.passOn(event, "processMouseDown")
    })
  }

  // Zooming and dragging the canvas go on over the panel. Where Vue draws the nodes, it sees to that.
  passOn(event, method) {
    if (window.LiteGraph.vueNodesMode) return
    event.preventDefault()
    this.app.canvas[method](event)
  }

  // plan: the node's, undefined while it has none; statistics: its runs, see statistics.js; notices: { said, idle }, see
  // notices.js. Where NAG does nothing of use, a sentence stands in the place of the picture.
  show(plan, families, statistics, notices) {
    this.plan = plan
    const said = notices.said.join(" ") || null
    this.warning = notices.idle ? said ?? plan?.message ?? null : plan?.message ?? said
    const idle = Boolean(plan?.message) || (notices.idle && said !== null)
    this.root.classList.toggle("nag-idle", idle)
    this.runs = stepsOf(plan, statistics)
    this.root.classList.toggle("nag-empty", !plan)
    this.root.classList.toggle("nag-off", !plan || plan.off || Boolean(this.node.mode))
    this.takePlace()
    if (!plan) return
    draw(this.picture, this.runs, plan.settings?.nag_tau ?? null, (step) => describeWhole(this.t, step))
    this.showTexts()
    this.presets.show(plan, families)
    this.showButton()
    this.showCompare()
  }

  // Nodes 2.0 leaves the panel of an earlier node in the place of this one's, if this node got its id, as by undo.
  takePlace() {
    if (this.root.isConnected || this.node.graph !== this.app.canvas.graph) return
    document.querySelector(`[data-node-id="${this.node.id}"] .nag-panel`)?.replaceWith(this.root)
  }

  showTexts() {
    const { plan, runs, t, warning } = this
    this.headline.textContent = warning ?? headline(t, plan, this.node.mode, runs)
    this.headline.title = warning ?? (runs.flat().some((step) => !step.exact) ? t("guess") : "")
    this.headline.classList.toggle("nag-warning", warning !== null)
    this.hint.textContent = warning === null ? hint(t, plan, this.node) : ""
    const mean = this.root.classList.contains("nag-idle") ? null : means(runs)
    this.showMeasures(mean)
    this.showDetail(mean && advice(t, mean, dialOf(this.node, plan.settings?.capped ?? true)))
  }

  // Before a run, what is not as usual and the numbers share a line; the advice behind it has one of its own.
  showDetail(advised) {
    const facts = factsOf(this.t, this.plan).join(" · ")
    this.facts.textContent = this.facts.title = advised ? facts : ""
    if (advised) this.detail.replaceChildren(make("span", "nag-advice", advised))
    else this.detail.replaceChildren(make("span", "nag-fact", facts), facts && " · ", this.summary())
    this.detail.title = this.detail.textContent
  }

  // The family, and the numbers in effect that are used.
  summary() {
    const { family, settings } = this.plan
    const known = STRENGTH.filter((name) => settings?.[name] != null)
    const numbers = known.map((name) => `${name.slice(4)} ${number(settings[name])}`).join(" · ")
    return [family, numbers].filter(Boolean).join(": ")
  }

  // measured: { ratio, clipped, moved }, of a step or on average; null if there is none.
  showMeasures(measured) {
    const tau = this.plan.settings?.nag_tau ?? null
    this.picture.measures.replaceChildren(...(measured ? legend(this.t, measured, tau) : []))
  }

  // While a step is pointed at, the words are of it.
  point(step) {
    if (!this.plan) return
    this.showTexts()
    if (step) this.headline.textContent = describe(this.t, step)
    if (step?.done) this.showMeasures(step.done)
  }

  showButton() {
    const on = hasStatistics(this.node)
    this.button.hidden = on === null
    this.button.setAttribute("aria-pressed", String(Boolean(on)))
  }

  showCompare() {
    const on = isCompared(this.node)
    this.compare.hidden = on === null || !(on || this.plan?.runs.length)
    this.compare.setAttribute("aria-pressed", String(Boolean(on)))
  }
}

function make(kind, className, content = "") {
  const made = document.createElement(kind)
  made.className = className
  made.textContent = content
  return made
}

// Of the frontend, whose versions are 1.x.
function minorVersion() {
  return Number(String(window.__COMFYUI_FRONTEND_VERSION__).split(".")[1] ?? Infinity)
}

export function localeOf(app) {
  return app.extensionManager?.setting?.get("Comfy.Locale") ?? app.ui?.settings?.getSettingValue("Comfy.Locale")
}
