// Widgets of NAG Options that count only where another one has a certain value: elsewhere they are disabled.
import { chain, widgetOf } from "./numbers.js"

const COUNTS = { vsf_offset: ["equation", "vsf"], strengths: ["schedule", "list"] }

export function attachUses(node) {
  const known = Object.entries(COUNTS).filter(([name, [chooser]]) => widgetOf(node, name) && widgetOf(node, chooser))
  const update = () => {
    for (const [name, [chooser, choice]] of known) {
      const widget = widgetOf(node, name)
      widget.disabled = widget.options.disabled = !isLinked(node, chooser) && widgetOf(node, chooser).value !== choice
    }
  }
  for (const [, [chooser]] of known) chain(widgetOf(node, chooser), "callback", update)
  for (const event of ["onConfigure", "onConnectionsChange"]) chain(node, event, update)
  update()
}

// Whether another node is to say what it is.
const isLinked = (node, name) => node.inputs?.find((input) => input.name === name)?.link != null
