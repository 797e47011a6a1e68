// What the server is told of a graph: every node by the id under which it runs, with its widgets and what feeds it.
import { wireValue } from "./numbers.js"

const SUBGRAPH_INPUT = -10 // the id that LiteGraph gives to where a subgraph's inputs come in
const PROMPT = "customtext" // the type of a widget for texts of several lines, which nobody needs
const LONGEST = 300 // characters
const FARTHEST = 100 // virtual nodes that a link may run through

// Gives { nodes, idsOf }: nodes as the server takes them; idsOf maps each node to its ids, of which a node in a
// subgraph that is used twice has two.
export function snapshot(rootGraph) {
  const nodes = {}
  const idsOf = new Map()
  const visit = (place, mode) => {
    for (const node of place.graph._nodes ?? place.graph.nodes) {
      if (node.isSubgraphNode?.()) {
        visit(inside(place, node), mode || node.mode)
      } else if (!node.isVirtualNode) {
        const id = place.prefix + node.id
        nodes[id] = { type: node.comfyClass ?? node.type, mode: mode || node.mode, inputs: inputsOf(place, node) }
        idsOf.set(node, [...(idsOf.get(node) ?? []), id])
      }
    }
  }
  visit({ graph: rootGraph, prefix: "" }, 0)
  return { nodes, idsOf }
}

// What is connected to what, as text: nothing of the widgets, of which a seed may change with each run.
export function wiringOf(nodes) {
  const links = ({ inputs }) => Object.entries(inputs).filter(([, value]) => Array.isArray(value))
  return JSON.stringify(Object.entries(nodes).map(([id, node]) => [id, node.type, node.mode, links(node)]))
}

function inside(place, host) {
  return { graph: host.subgraph, prefix: `${place.prefix}${host.id}:`, host, outside: place }
}

function inputsOf(place, node) {
  const inputs = {}
  for (const widget of node.widgets ?? []) {
    const counts = widget.name && widget.serialize !== false && widget.type !== PROMPT
    const value = wireValue(widget)
    if (counts && isPlain(value)) inputs[widget.name] = value
  }
  for (const input of node.inputs ?? []) {
    const source = input.link == null ? undefined : follow(place, place.graph.getLink(input.link))
    if (source !== undefined) inputs[input.name] = source
  }
  return inputs
}

function isPlain(value) {
  return ["number", "boolean"].includes(typeof value) || (typeof value === "string" && value.length <= LONGEST)
}

// What feeds a link: [id, slot] of a node that runs, a value of a subgraph's widget, or undefined.
function follow(place, link) {
  for (let i = 0; link && i < FARTHEST; i++) {
    if (Number(link.origin_id) === SUBGRAPH_INPUT) {
      const input = place.host?.inputs[link.origin_slot]
      if (input?.link == null) return valueOf(place.host, input)
      place = place.outside
      link = place.graph.getLink(input.link)
      continue
    }
    const origin = place.graph.getNodeById(link.origin_id)
    if (origin?.isSubgraphNode?.()) {
      const inner = origin.subgraph.outputs[link.origin_slot]?.linkIds[0]
      place = inside(place, origin)
      link = place.graph.getLink(inner)
    } else if (origin?.isVirtualNode) {
      link = origin.getInputLink(link.origin_slot)
    } else {
      return origin ? [place.prefix + origin.id, link.origin_slot] : undefined
    }
  }
  return undefined
}

function valueOf(host, input) {
  const value = host?.widgets?.find((widget) => widget.name === (input?.widget?.name ?? input?.name))?.value
  return isPlain(value) ? value : undefined
}
