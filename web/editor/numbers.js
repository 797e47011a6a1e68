// The settings as number widgets that may be "auto". Such a widget holds the number that "auto" stands for, as far as
// that is known, and graphs and prompts get "auto" for as long as nobody has changed it.

export const AUTO = "auto"
export const STRENGTH = ["nag_scale", "nag_tau", "nag_alpha"]
const MAY_BE_AUTO = [...STRENGTH, "nag_sigma_end", "end_percent"]
const DIAL = "strength"
const MARK = / · auto( \?)?$/ // behind the widget's name; with "?" where the number is not known yet
const FINEST = { nag_alpha: 3 } // digits that its step alone would not show: SD3.5's is 0.125

export const widgetOf = (node, name) => node.widgets?.find((widget) => widget.name === name)

// Those of the node's widgets that may be "auto".
export const autosOf = (node) => MAY_BE_AUTO.map((name) => widgetOf(node, name)).filter((widget) => widget?.nagNumber)

// All that attachNumbers has made.
export const numbersOf = (node) => node.widgets?.filter((widget) => widget.nagNumber) ?? []

// Make the settings of a new node such widgets, on "auto". Others, as of nodes for older graphs, stay as they are.
export function attachNumbers(node) {
  for (const name of [...MAY_BE_AUTO, DIAL]) {
    const widget = widgetOf(node, name)
    const input = node.inputs?.find((each) => each.name === name)
    if (!widget || !String(input?.type).includes("STRING")) continue
    Object.defineProperty(widget, "nagNumber", { value: name }) // which the copy that a subgraph shows does not get
    widget.nagStandIn = widget.value
    if (FINEST[name]) widget.options.precision = FINEST[name]
    widget.serializeValue = function () {
      return wireValue(this)
    }
    const callback = widget.callback
    widget.callback = function (value, ...more) {
      if (this.nagNumber && typeof value === "string" && settleText(this, value)) return undefined
      const given = callback?.call(this, value, ...more)
      if (this.nagNumber && typeof value === "number") setNumber(this, this.value)
      return given
    }
    if (name !== DIAL) setAuto(widget)
  }
  if (!node.widgets?.some((widget) => widget.nagNumber)) return
  chain(node, "onConfigure", (data) => read(node, data))
  chain(node, "onSerialize", (data) => write(node, data))
}

// What graphs, prompts and plans get of a widget.
export function wireValue(widget) {
  if (!widget.nagNumber) return widget.value
  settle(widget)
  return isAuto(widget) ? AUTO : widget.value
}

// Whether it is "auto": untouched since it got the number that this stands for.
export function isAuto(widget) {
  return Boolean(widget.nagAuto) && widget.value === widget.nagStandIn
}

export function setAuto(widget) {
  widget.nagAuto = true
  if (widget.value !== widget.nagStandIn) widget.value = widget.nagStandIn
  mark(widget)
}

export function setNumber(widget, number) {
  widget.nagAuto = false
  widget.value = number
  mark(widget)
}

// numbers: what "auto" stands for, by name, null where that is not known.
export function standIn(node, numbers) {
  for (const widget of autosOf(node)) {
    settle(widget)
    const [auto, number] = [isAuto(widget), numbers[widget.nagNumber] ?? null]
    widget.nagKnown = number !== null
    widget.nagStandIn = number ?? widget.nagStandIn
    if (auto) setAuto(widget)
  }
}

// A subgraph's own widget for such a number may hold a text, which the canvas would draw as NaN.
export function drawTexts(graph) {
  const graphs = [graph, ...(graph.subgraphs?.values() ?? [])]
  const hosts = graphs.flatMap((each) => (each._nodes ?? each.nodes).filter((node) => node.isSubgraphNode?.()))
  for (const widget of hosts.flatMap((host) => host.widgets ?? [])) {
    if (widget.type !== "number" || typeof widget.value !== "string" || Object.hasOwn(widget, "_displayValue")) continue
    Object.defineProperty(widget, "_displayValue", {
      configurable: true,
      get() {
        const text = typeof this.value === "string"
        return text ? this.value : Reflect.get(Object.getPrototypeOf(this), "_displayValue", this)
      },
    })
  }
}

// Take note of a value that came from elsewhere: from a graph, the user, another pack's script.
function settle(widget) {
  if (!widget.nagNumber) return
  if (typeof widget.value === "string" || widget.value == null) return settleText(widget, widget.value)
  if (widget.nagAuto && !isAuto(widget)) setNumber(widget, widget.value)
}

export const meansAuto = (text) => ["", AUTO].includes(String(text ?? "").trim().toLowerCase())

// Whether a text is a number or "auto", as the server takes it; the widget then is.
export function settleText(widget, text) {
  const number = meansAuto(text) ? null : Number(text.trim().replace(",", "."))
  if (Number.isNaN(number)) return false // the server says what is wrong with it
  if (number !== null) setNumber(widget, number)
  else if (widget.nagNumber === DIAL) setNumber(widget, 1)
  else setAuto(widget)
  return true
}

function mark(widget) {
  const name = (widget.label ?? widget.name).replace(MARK, "")
  const label = isAuto(widget) ? `${name} · auto${widget.nagKnown === false ? " ?" : ""}` : name
  if (widget.label !== label) widget.label = label
}

// A number in a saved node is set, also if it is the one that "auto" stands for.
function read(node, data) {
  const kept = node.widgets.filter((widget) => widget.serialize !== false)
  kept.forEach((widget, i) => {
    const saved = data.widgets_values_named?.[widget.name] ?? data.widgets_values?.[i]
    if (widget.nagNumber && typeof saved === "number") setNumber(widget, widget.value)
    settle(widget)
  })
}

// A saved node has its widgets' values as a list, in newer frontends by name as well.
function write(node, data) {
  const kept = node.widgets.filter((widget) => widget.serialize !== false)
  const listed = data.widgets_values?.length > kept.length ? node.widgets : kept // older frontends leave gaps
  for (const widget of kept.filter((each) => each.nagNumber)) {
    const value = wireValue(widget)
    if (data.widgets_values) data.widgets_values[listed.indexOf(widget)] = value
    if (data.widgets_values_named) data.widgets_values_named[widget.name] = value
  }
}

// Have something done behind a method, or in its place where there is none.
export function chain(owner, name, then) {
  const before = owner[name]
  owner[name] = function (...given) {
    const answer = before?.apply(this, given)
    then(...given)
    return answer
  }
}
