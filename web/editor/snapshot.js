// What the server is told of a graph: every node by the id under which it runs, with its widgets and what feeds it.
import { wireValue } from "./numbers.js"

export const SUBGRAPH_INPUT = -10 // the id that LiteGraph gives to where a subgraph's inputs come in
const PROMPT = "customtext" // the type of a widget for texts of several lines
const HOLDS_TEXT = /^(Primitive|String)/ // nodes that a text may come from
const NO_TEXT = /^(auto|[-+\d.,e\s]+|.*\.\w{2,12})$/i // a number or a file's name
const TERM = /^[a-z_.]*\s*[-–\d]*$/i // one of a list of blocks, or a choice such as a schedule
const LONGEST = 300 // characters
const FARTHEST = 100 // virtual nodes that a link may run through

// Gives { nodes, idsOf }: nodes as the server takes them; idsOf maps each node to its ids, of which a node in a
// subgraph that is used twice has two.
export function snapshot(rootGraph) {
  const nodes = {}
  const texts = new Texts()
  const idsOf = new Map()
  const visit = (place, mode) => {
    for (const node of place.graph._nodes ?? place.graph.nodes) {
      if (node.isSubgraphNode?.()) {
        visit(inside(place, node), mode || node.mode)
      } else if (!node.isVirtualNode) {
        const id = place.prefix + node.id
        nodes[id] = { type: node.comfyClass ?? node.type, mode: mode || node.mode, inputs: inputsOf(place, node, texts) }
        idsOf.set(node, [...(idsOf.get(node) ?? []), id])
      }
    }
  }
  visit({ graph: rootGraph, prefix: "" }, 0)
  return { nodes, idsOf }
}

function isText(value) {
  return !NO_TEXT.test(value) && !value.split(",").every((term) => TERM.test(term.trim()))
}

// Of a text the server is told which others are the same, and whether it is blank: typing changes nothing of that.
class Texts {
  constructor() {
    this.numbers = new Map()
  }

  // What stands for the value of a widget, undefined for what nobody needs.
  told(node, widget) {
    const [type, value] = [widget.type, wireValue(widget)]
    if (typeof value === "string" && (type === PROMPT || (HOLDS_TEXT.test(node.type) && isText(value)))) {
      if (!value.trim()) return ""
      if (!this.numbers.has(value)) this.numbers.set(value, `text ${this.numbers.size + 1}`)
      return this.numbers.get(value)
    }
    const plain = ["number", "boolean"].includes(typeof value) || (typeof value === "string" && value.length <= LONGEST)
    return plain ? value : undefined
  }
}

// What is connected to what, as text: nothing of the widgets, of which a seed may change with each run.
export function wiringOf(nodes) {
  const links = ({ inputs }) => Object.entries(inputs).filter(([, value]) => Array.isArray(value))
  return JSON.stringify(Object.entries(nodes).map(([id, node]) => [id, node.type, node.mode, links(node)]))
}

function inside(place, host) {
  return { graph: host.subgraph, prefix: `${place.prefix}${host.id}:`, host, outside: place }
}

function inputsOf(place, node, texts) {
  const inputs = {}
  for (const widget of node.widgets ?? []) {
    const value = widget.name && widget.serialize !== false ? texts.told(node, widget) : undefined
    if (value !== undefined) inputs[widget.name] = value
  }
  for (const input of node.inputs ?? []) {
    const source = input.link == null ? undefined : follow(place, place.graph.getLink(input.link), texts)
    if (source !== undefined) inputs[input.name] = source
  }
  return inputs
}

// What feeds a link: [id, slot] of a node that runs, a value of a subgraph's widget, or undefined.
function follow(place, link, texts) {
  for (let i = 0; link && i < FARTHEST; i++) {
    if (Number(link.origin_id) === SUBGRAPH_INPUT) {
      const input = place.host?.inputs[link.origin_slot]
      if (input?.link == null) return valueOf(place.host, input, texts)
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
      const [widget] = origin.inputs?.length ? [] : (origin.widgets ?? []) // of a primitive
      if (widget) return texts.told(origin, widget)
      link = origin.getInputLink(link.origin_slot)
    } else {
      return origin ? [place.prefix + origin.id, link.origin_slot] : undefined
    }
  }
  return undefined
}

function valueOf(host, input, texts) {
  const widget = host?.widgets?.find((each) => each.name === (input?.widget?.name ?? input?.name))
  return widget && texts.told(host, widget)
}
