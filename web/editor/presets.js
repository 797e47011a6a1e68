// The list of presets: which is set, and those that can be.
import { AUTO, STRENGTH, autosOf, isAuto, setAuto, setNumber, standIn, widgetOf } from "./numbers.js"
import { change } from "./settings.js"
import { number } from "./text.js"

export class Presets {
  // t: see text.js.
  constructor(app, node, t) {
    Object.assign(this, { app, node, t })
    this.select = document.createElement("select")
    this.select.className = "nag-recommended"
    this.select.title = t("recommendedHint")
    this.select.addEventListener("change", () => this.choose(this.choices[this.select.selectedIndex]))
  }

  choose(preset) {
    change(this.app, () => {
      if (preset === AUTO) autosOf(this.node).forEach((widget) => setAuto(widget))
      else this.used.forEach((name) => this.set(name, this.numbersFor(preset)[name]))
    })
    this.chosen = preset.name
    this.show(this.plan, this.families)
  }

  set(name, value) {
    const widget = widgetOf(this.node, name)
    if (!widget) return
    setNumber(widget, value)
    widget.callback?.(value, this.app.canvas, this.node)
  }

  get capped() {
    return this.plan.settings?.capped ?? true
  }

  // The settings that the equation in effect takes.
  get used() {
    return this.capped ? STRENGTH : STRENGTH.slice(0, 1)
  }

  // What is recommended for a family, for the equation in effect.
  numbersFor(recommended) {
    return this.capped ? recommended : { ...recommended, nag_scale: recommended.uncapped_scale }
  }

  labelOf(numbers) {
    return this.used.map((name) => (typeof numbers[name] === "number" ? number(numbers[name]) : "?")).join(" / ")
  }

  // plan: the node's; families: all, as the server lists them.
  show(plan, families) {
    Object.assign(this, { plan, families })
    const { family, recommended } = plan
    standIn(this.node, { ...(recommended && this.numbersFor(recommended)), nag_sigma_end: plan.settings?.nag_sigma_end })
    const own = (each) => each.name === family || each.variant_of === family
    const ordered = [...families].sort((a, b) => own(b) - own(a) || (b.name === family) - (a.name === family))
    const choices = [[this.current(ordered, own), null]]
    if (autosOf(this.node).length) choices.push([this.auto(), AUTO])
    for (const each of ordered) {
      const mark = each.name === family ? ` (${this.t("thisModel")})` : ""
      choices.push([`${each.name}${mark}: ${this.labelOf(this.numbersFor(each))}${this.whose(each)}`, each])
    }
    this.choices = choices.map(([, preset]) => preset)
    this.fill(choices.map(([label]) => label))
  }

  fill(words) {
    if (words.join("\n") === this.words) return // it may be open
    this.words = words.join("\n")
    this.select.replaceChildren(...words.map((word) => new Option(word)))
    this.select.options[0].hidden = true
    this.select.selectedIndex = 0
  }

  // Who recommends it; for equations without a cap we do.
  whose(recommended) {
    return this.capped ? ` (${recommended.whose})` : ""
  }

  auto() {
    const { family, recommended } = this.plan
    if (!recommended) return `${AUTO}: ${this.t("unknown")}`
    return `${AUTO} (${family}): ${this.labelOf(this.numbersFor(recommended))}`
  }

  // What is set: "auto", a family by its name, or neither.
  current(families, own) {
    const autos = autosOf(this.node)
    if (autos.length && autos.every(isAuto)) return this.auto()
    if (this.isLinked()) return this.t("custom")
    const widgets = this.used.map((name) => widgetOf(this.node, name))
    const set = Object.fromEntries(this.used.map((name, i) => [name, widgets[i]?.value]))
    const isSet = (each) => this.used.every((name) => this.numbersFor(each)[name] === set[name])
    const same = widgets.some(isAuto) ? [] : families.filter(isSet)
    const found = same.find(own) ?? same.find(({ name }) => name === this.chosen) ?? same[0]
    return `${this.nameOf(found, own)}: ${this.labelOf(set)}`
  }

  nameOf(found, own) {
    const { family } = this.plan
    if (!found) return this.t("custom")
    return family && !own(found) ? this.t("otherModels", found.name, family) : found.name
  }

  isLinked() {
    return this.node.inputs.some(({ name, link }) => STRENGTH.includes(name) && link != null)
  }
}
