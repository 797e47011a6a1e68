// What a NAG node leads to in a graph, and what of it is there once more without NAG when the two are compared.
import { SUBGRAPH_INPUT } from "./snapshot.js"

// What takes a NAG node's place: what comes into this input of it, or ComfyUI's own node.
const PASSES = { NAGModel: "model", NAGConditioning: "positive" }
export const STOCK = {
  NAGGuider: "BasicGuider",
  NAGCFGGuider: "CFGGuider",
  NAGSampler: "KSampler",
  KSamplerWithNAG: "KSampler",
  "KSamplerWithNAG (Advanced)": "KSamplerAdvanced",
  SamplerCustomWithNAG: "SamplerCustom",
}
// What shows or saves a picture or a sound: it is not copied, its place is taken by what shows both.
export const VIEWERS = {
  IMAGE: ["PreviewImage", "SaveImage", "ImageCompare", "Image Comparer (rgthree)"],
  AUDIO: ["PreviewAudio", "SaveAudio", "SaveAudioMP3", "SaveAudioOpus", "SaveAudioAdvanced"],
}
const SUBGRAPH_OUTPUT = -20 // the id that LiteGraph gives to where a subgraph's outputs go out

export const NAG_NODES = new Set([...Object.keys(PASSES), ...Object.keys(STOCK)])
export const isNag = (node) => NAG_NODES.has(node.comfyClass)
const isViewer = (node) => Object.values(VIEWERS).some((types) => types.includes(node.comfyClass))
const isCopied = (node) => !isViewer(node) && !(node.comfyClass in PASSES)

// What an input gets, past reroutes: { node, slot }, or { entry }, an input of the subgraph; null if nothing.
function sourceOf(node, index) {
  let link = node.graph.getLink(node.inputs[index]?.link) // a subgraph's own getInputLink gives one of its outputs'
  for (const passed = new Set(); link && !passed.has(link); ) {
    passed.add(link)
    if (Number(link.origin_id) === SUBGRAPH_INPUT) return { entry: link.origin_slot }
    const origin = node.graph.getNodeById(link.origin_id)
    const before = origin?.isVirtualNode && !origin.isSubgraphNode?.() && origin.getInputLink(link.origin_slot)
    if (!before) return origin ? { node: origin, slot: link.origin_slot } : null
    link = before
  }
  return null
}

// As sourceOf, past the nodes that put NAG on what they get, and past viewers, which may hand on what they show.
export function sourceWithoutNag(node, index) {
  let source = sourceOf(node, index)
  for (const passed = new Set(); source?.node && !passed.has(source.node); ) {
    const { node: origin } = source
    const passes = PASSES[origin.comfyClass]
    if (!passes && !isViewer(origin)) break
    passed.add(origin)
    source = sourceOf(origin, passes ? origin.findInputSlot(passes) : 0)
  }
  return source
}

// What a NAG node leads to, and what other NAG nodes do that take part in it: `nag`, all these; `copied`, what is
// there once more without NAG, in the order in which it runs; `consumers`, whom each node feeds, by its output.
export class Way {
  constructor(start) {
    this.graph = start.graph
    this.nodes = this.graph._nodes.filter((node) => node.isSubgraphNode?.() || !node.isVirtualNode)
    this.consumers = new Map(this.nodes.map((node) => [node, []]))
    this.origins = new Map(this.nodes.map((node) => [node, []]))
    for (const node of this.nodes) for (const index of (node.inputs ?? []).keys()) this.note(node, sourceOf(node, index))
    this.nag = new Set([start])
    for (let known = 0; known < this.nag.size; ) {
      known = this.nag.size
      this.reached = spread(this.nag, (node) => this.consumers.get(node).map((each) => each.node))
      const before = spread(this.reached, (node) => this.origins.get(node))
      for (const node of before) if (isNag(node)) this.nag.add(node)
    }
    this.depths = new Map()
    this.copied = [...this.reached].filter(isCopied).sort((one, other) => this.depth(one) - this.depth(other))
  }

  note(node, source) {
    if (!this.consumers.has(source?.node)) return
    this.consumers.get(source.node).push({ node, slot: source.slot })
    this.origins.get(node).push(source.node)
  }

  // How many nodes that are copied lie in front of one.
  depth(node) {
    if (this.depths.has(node)) return this.depths.get(node)
    this.depths.set(node, 0) // a graph may go in circles
    const origins = this.origins.get(node).filter((origin) => this.reached.has(origin))
    this.depths.set(node, Math.max(0, ...origins.map((origin) => this.depth(origin))) + isCopied(node))
    return this.depths.get(node)
  }

  // Whether an output ends there, or goes into something that shows it, or out of the subgraph.
  ends(node, slot) {
    const fed = this.consumers.get(node).filter((each) => each.slot === slot)
    const leaves = (id) => Number(this.graph.getLink(id)?.target_id) === SUBGRAPH_OUTPUT
    return !fed.length || fed.some((each) => isViewer(each.node)) || (node.outputs[slot].links ?? []).some(leaves)
  }
}

// The nodes given, and all that can be reached from them.
function spread(nodes, next) {
  const found = new Set(nodes)
  for (const node of found) for (const each of next(node)) found.add(each)
  return found
}
