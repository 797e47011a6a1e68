// Changes of the graph that the panel makes, each of them one step of undo.

import { widgetOf } from "./numbers.js"

const OPTIONS = "NAGOptions"

// Whether the node's NAG Options have statistics on; null if something else is connected there.
export function hasStatistics(node) {
  const slot = optionsSlot(node)
  if (slot < 0) return null
  if (node.inputs[slot].link == null) return false
  return statisticsOf(optionsOf(node, slot))?.value ?? null
}

// Turn statistics on or off in the node's NAG Options, which are made if there are none.
export function toggleStatistics(app, node) {
  change(app, () => {
    const slot = optionsSlot(node)
    const options = node.inputs[slot].link == null ? addOptions(node, slot) : optionsOf(node, slot)
    const widget = statisticsOf(options)
    if (widget) set(app, options, widget, !widget.value)
  })
}

function optionsSlot(node) {
  return node.inputs?.findIndex((input) => input.name === "options") ?? -1
}

function optionsOf(node, slot) {
  let link = node.getInputLink(slot)
  let origin = link && node.graph.getNodeById(link.origin_id)
  while (origin?.isVirtualNode && !origin.isSubgraphNode?.()) {
    link = origin.getInputLink(link.origin_slot)
    origin = link && origin.graph.getNodeById(link.origin_id)
  }
  return origin?.comfyClass === OPTIONS ? origin : null
}

function statisticsOf(options) {
  return options && widgetOf(options, "statistics")
}

// To the left of the node, or where that covers another, the nearest free place below it.
function addOptions(node, slot) {
  const options = window.LiteGraph.createNode(OPTIONS)
  const gap = 3 * window.LiteGraph.NODE_TITLE_HEIGHT // Nodes 2.0 draws nodes higher than they say
  options.pos = [node.pos[0] - options.size[0] - gap, node.pos[1]]
  if (coveredBy(node.graph, options)) options.pos = [node.pos[0], node.pos[1] + node.size[1] + gap]
  for (let other; (other = coveredBy(node.graph, options)); ) options.pos[1] = other.pos[1] + other.size[1] + gap
  node.graph.add(options)
  options.connect(0, node, slot)
  node.graph.updateExecutionOrder() // else the graph is not as it will be when loaded, and undo takes that for a change
  return options
}

// A node that a new one would cover.
function coveredBy(graph, made) {
  const title = window.LiteGraph.NODE_TITLE_HEIGHT
  const before = (one, two, axis, above) => one.pos[axis] + one.size[axis] < two.pos[axis] - above
  const apart = (other, axis, above) => before(other, made, axis, above) || before(made, other, axis, above)
  return graph._nodes.find((other) => !apart(other, 0, 0) && !apart(other, 1, title))
}

function set(app, node, widget, value) {
  widget.value = value
  widget.callback?.(value, app.canvas, node)
}

export function change(app, make) {
  app.canvas.emitBeforeChange()
  try {
    make()
  } finally {
    app.canvas.emitAfterChange()
    app.graph.setDirtyCanvas(true, true)
  }
}
