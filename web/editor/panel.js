// The panel on a node: the picture, what it says, and two controls. A DOM widget that no graph or prompt carries.
import { advice, dialOf, legend } from "./legend.js"
import { draw, makePicture } from "./picture.js"
import { AUTO, STRENGTH, hasStatistics, setStrength, takesAuto, toggleStatistics } from "./settings.js"
import { describe, describeWhole, headline, means, stepsOf } from "./steps.js"
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
      getValue: () => "",
      setValue: () => {},
      getMinHeight: () => HEIGHT,
      getMaxHeight: () => HEIGHT,
    })
    widget.serialize = false // not in the graph
    const [width, height] = node.computeSize()
    node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)])
  }

  build() {
    this.picture = makePicture()
    this.headline = make("div", "nag-headline")
    this.detail = make("div", "nag-detail")
    this.select = make("select", "nag-recommended")
    this.select.title = this.t("recommendedHint")
    this.button = make("button", "nag-statistics", this.t("statistics"))
    this.button.type = "button"
    this.button.title = this.t("statisticsHint")
    const controls = make("div", "nag-controls")
    controls.append(this.select, this.button)
    this.root = make("div", "nag-panel")
    this.root.append(this.headline, this.picture.root, this.detail, controls)
    this.listen()
  }

  listen() {
    this.select.addEventListener("change", () => {
      setStrength(this.app, this.node, this.choices[this.select.selectedIndex])
      this.select.selectedIndex = 0
    })
    this.button.addEventListener("click", () => toggleStatistics(this.app, this.node))
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

  // plan: the node's, undefined while it has none; statistics: its runs, see statistics.js; notices: see notices.js.
  show(plan, families, statistics, notices) {
    this.plan = plan
    this.warning = plan?.message ?? (notices.join(" ") || null)
    this.runs = stepsOf(plan, statistics)
    this.root.classList.toggle("nag-empty", !plan)
    this.root.classList.toggle("nag-off", !plan || plan.off || Boolean(this.node.mode))
    this.takePlace()
    if (!plan) return
    draw(this.picture, this.runs, plan.settings?.nag_tau ?? null, (step) => describeWhole(this.t, step))
    this.showTexts()
    this.showChoices(families)
    this.showButton()
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
    const mean = means(runs)
    this.showMeasures(mean)
    this.detail.replaceChildren(mean ? make("span", "nag-advice", advice(t, mean, dialOf(this.node))) : this.summary())
    this.detail.title = this.detail.textContent
  }

  // In place of the advice before a run: the family, and the numbers in effect.
  summary() {
    const { family, settings } = this.plan
    const known = STRENGTH.filter((name) => settings?.[name] != null)
    const numbers = known.map((name) => `${name.slice(4)} ${number(settings[name])}`).join(" · ")
    return make("span", "", [family, numbers].filter(Boolean).join(": "))
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

  showChoices(families) {
    const { family } = this.plan
    const strengthOf = ({ nag_scale, nag_tau, nag_alpha }) => ({ nag_scale, nag_tau, nag_alpha })
    const ordered = [...families].sort((a, b) => (b.name === family) - (a.name === family))
    const auto = takesAuto(this.node) ? [[AUTO, Object.fromEntries(STRENGTH.map((name) => [name, AUTO]))]] : []
    const choices = [
      [this.t("recommended"), null],
      ...auto,
      ...ordered.map((each) => {
        const mark = each.name === family ? ` (${this.t("thisModel")})` : ""
        const numbers = STRENGTH.map((name) => number(each[name])).join(" / ")
        return [`${each.name}${mark}: ${numbers} (${each.whose})`, strengthOf(each)]
      }),
    ]
    this.choices = choices.map(([, strength]) => strength)
    const words = choices.map(([label]) => label)
    if (words.join("\n") === this.words) return // it may be open
    this.words = words.join("\n")
    this.select.replaceChildren(...words.map((label) => make("option", "", label)))
    this.select.options[0].hidden = true
    this.select.selectedIndex = 0
  }

  showButton() {
    const on = hasStatistics(this.node)
    this.button.hidden = on === null
    this.button.setAttribute("aria-pressed", String(Boolean(on)))
  }
}

function make(kind, className, content = "") {
  const made = document.createElement(kind)
  made.className = className
  made.textContent = content
  return made
}

function localeOf(app) {
  return app.extensionManager?.setting?.get("Comfy.Locale") ?? app.ui?.settings?.getSettingValue("Comfy.Locale")
}
