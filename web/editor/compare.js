// The "compare" button: what a NAG node leads to, once more without NAG, so that one run makes both.
import { widgetOf } from "./numbers.js"
import { change } from "./settings.js"
import { STOCK, VIEWERS, Way, isNag, sourceWithoutNag } from "./way.js"

const MARK = "nag_compare" // a property that the NAG nodes and what was added for them have in common
const LARGEST_SEED = 2 ** 63 // PrimitiveInt takes less than this
const PADDING = 20 // px, of the group
const NARROWEST = 225 // px, of a node in Nodes 2.0

// What a number does after a run; not by its name, which is another in some frontends.
const controlOf = (widget) => widget.linkedWidgets?.find(({ options }) => options?.values?.includes?.("increment"))

// Whether the comparison is there; null if there is nothing to compare.
export function isCompared(node) {
  if (addedFor(node).length) return true
  return new Way(node).copied.length ? false : null
}

// Add the comparison, or take it away. t: see text.js.
export function toggleCompare(app, node, t) {
  change(app, () => {
    if (addedFor(node).length) takeAway(node)
    else new Comparison(node, t).add()
    node.graph.updateExecutionOrder() // else undo takes the order for a change
  })
}

function addedFor(node) {
  const mark = node.properties?.[MARK]
  return mark ? node.graph._nodes.filter((each) => each.properties?.[MARK] === mark && !isNag(each)) : []
}

function takeAway(node) {
  const { graph } = node
  const mark = node.properties[MARK]
  const gone = addedFor(node)
  const groups = graph._groups.filter((group) => gone.some((each) => holds(group, each)))
  for (const each of gone) {
    if (each.comfyClass === "PrimitiveInt") giveSeedBack(each)
    graph.remove(each)
  }
  for (const each of graph._nodes) if (each.properties?.[MARK] === mark) delete each.properties[MARK]
  for (const group of groups) if (!graph._nodes.some((each) => holds(group, each))) graph.remove(group)
}

function holds(group, node) {
  const within = (axis) => node.pos[axis] >= group.pos[axis] && node.pos[axis] < group.pos[axis] + group.size[axis]
  return within(0) && within(1)
}

// The sampler goes on from the seed that it shared.
function giveSeedBack(primitive) {
  const given = widgetOf(primitive, "value")
  for (const id of primitive.outputs[0].links ?? []) {
    const link = primitive.graph.getLink(id)
    const sampler = primitive.graph.getNodeById(link.target_id)
    const seed = widgetOf(sampler, sampler.inputs[link.target_slot].name)
    if (!seed) continue
    seed.value = given.value
    if (controlOf(seed) && controlOf(given)) controlOf(seed).value = controlOf(given).value
  }
}

class Comparison {
  constructor(node, t) {
    Object.assign(this, { t, node, graph: node.graph, way: new Way(node) })
    this.copies = new Map() // by node
    this.columns = [] // of nodes that are added, from left to right
  }

  add() {
    this.mark = Math.random().toString(36).slice(2)
    for (const node of this.way.nag) node.setProperty(MARK, this.mark)
    for (const node of this.way.copied) this.copy(node)
    for (const node of this.way.copied) this.wire(node)
    for (const node of this.way.copied) this.shareSeeds(node)
    for (const node of this.way.copied) this.show(node)
    this.place()
  }

  put(node, column, title) {
    node.id = -1 // of a clone, newer frontends keep it
    node.setProperty(MARK, this.mark)
    if (title) node.title = title
    this.graph.add(node)
    ;(this.columns[column] ??= []).push(node)
    return node
  }

  make(type, column, title) {
    return this.put(window.LiteGraph.createNode(type), column, title)
  }

  copy(node) {
    const stock = STOCK[node.comfyClass]
    const made = stock ? window.LiteGraph.createNode(stock) : node.isSubgraphNode?.() ? copyOf(node) : node.clone()
    const [without, withNag] = [this.t("withoutNag"), this.t("withNag")]
    const title = made.title === withNag ? without : `${made.title} (${without})`
    this.copies.set(node, this.put(made, this.way.depth(node), title))
    made.mode = node.mode
    if (stock) {
      for (const widget of made.widgets ?? []) widget.value = widgetOf(node, widget.name)?.value ?? widget.value
    }
    const prefix = widgetOf(made, "filename_prefix")
    if (!prefix) return
    prefix.value = `${prefix.value}_without_NAG`
    made.title = this.t("withoutNag")
  }

  wire(node) {
    const made = this.copies.get(node)
    for (const [index, input] of (node.inputs ?? []).entries()) {
      const source = sourceWithoutNag(node, index)
      const slot = made.findInputSlot(input.name)
      if (!source || slot < 0) continue
      if (source.node) (this.copies.get(source.node) ?? source.node).connect(source.slot, made, slot)
      else this.graph.inputs[source.entry].connect(made.inputs[slot], made)
    }
  }

  // A seed that changes with each run must change for both.
  shareSeeds(node) {
    const made = this.copies.get(node)
    for (const seed of node.widgets ?? []) {
      const control = controlOf(innermost(node, seed))
      const slots = [node, made].map((each) => each.findInputSlot(seed.name))
      if (!control || typeof seed.value !== "number" || slots.includes(-1)) continue
      if (node.inputs[slots[0]].link != null || seed.value >= LARGEST_SEED) continue
      const primitive = this.make("PrimitiveInt", 0, seed.name)
      const value = widgetOf(primitive, "value")
      value.value = seed.value
      if (controlOf(value)) controlOf(value).value = control.value
      for (const [at, each] of [node, made].entries()) primitive.connect(0, each, slots[at])
    }
  }

  show(node) {
    for (const [slot, { type }] of (node.outputs ?? []).entries()) {
      if (!(type in VIEWERS) || !this.way.ends(node, slot)) continue
      const column = this.way.depth(node) + 1
      const [without, withNag] = [this.t("withoutNag"), this.t("withNag")]
      const both = [this.copies.get(node), node]
      // The comparer shows pictures in Nodes 2.0 only.
      if (type === "IMAGE" && window.LiteGraph.vueNodesMode && "ImageCompare" in window.LiteGraph.registered_node_types) {
        const comparer = this.make("ImageCompare", column, `${without} | ${withNag}`)
        for (const [at, each] of both.entries()) each.connect(slot, comparer, at)
        continue
      }
      for (const [at, each] of both.entries()) {
        const preview = this.make(type === "IMAGE" ? "PreviewImage" : "PreviewAudio", column + at, [without, withNag][at])
        if (type === "IMAGE") preview.setSize([Math.max(preview.size[0], 260), Math.max(preview.size[1], 290)])
        each.connect(slot, preview, 0)
      }
    }
  }

  // In columns, in a group below what is copied, where nothing is.
  place() {
    const gap = 3 * window.LiteGraph.NODE_TITLE_HEIGHT // a node may grow, as by a picture
    const top = 2.5 * window.LiteGraph.NODE_TITLE_HEIGHT // the group's title and a node's
    const originals = new Map([...this.copies].map(([node, made]) => [made, node]))
    let [width, height] = [0, 0]
    const offsets = new Map()
    for (const column of this.columns.filter(Boolean)) {
      const sizes = column.map((node) => [node, originals.get(node) ?? node].map(sizeOf))
      let below = top
      for (const [at, node] of column.entries()) {
        offsets.set(node, [width + PADDING, below])
        below += Math.max(...sizes[at].map((size) => size[1])) + gap
      }
      height = Math.max(height, below)
      width += Math.max(NARROWEST, ...sizes.flat().map((size) => size[0])) + gap
    }
    const seen = [...this.way.reached].map(boxOf)
    const left = Math.min(...seen.map(([x]) => x))
    const group = new window.LiteGraph.LGraphGroup(this.t("withoutNag"))
    group.size = [width - gap + 2 * PADDING, height - gap + PADDING]
    group.pos = [left, Math.max(...seen.map(([, y, , h]) => y + h)) + PADDING]
    const others = this.graph._nodes.filter((node) => !offsets.has(node))
    const taken = [...others.map(boxOf), ...this.graph._groups.map((each) => [...each.pos, ...each.size])]
    for (let other; (other = taken.find((box) => meets(box, group))); ) group.pos = [left, other[1] + other[3] + PADDING]
    for (const [node, [x, y]] of offsets) node.pos = [group.pos[0] + x, group.pos[1] + y]
    this.graph.add(group)
  }
}

// The widget in a subgraph that one of its own stands for; of other nodes it is the widget itself.
function innermost(node, widget) {
  const at = node.isSubgraphNode?.() ? node.findInputSlot(widget.name) : -1
  const link = at < 0 ? null : node.subgraph.getLink(node.subgraph.inputs[at]?.linkIds[0])
  const inner = link && node.subgraph.getNodeById(link.target_id)
  const held = inner && widgetOf(inner, inner.inputs[link.target_slot].widget?.name)
  return held ? innermost(inner, held) : widget
}

// A subgraph's clone takes its widgets over from it in newer frontends, by the id that they have in common.
function copyOf(node) {
  const { id: _, ...saved } = JSON.parse(JSON.stringify(node.serialize()))
  for (const input of saved.inputs ?? []) input.link = null
  for (const output of saved.outputs ?? []) output.links = []
  const made = window.LiteGraph.createNode(node.type)
  made.configure(saved)
  return made
}

// As the node is drawn: Nodes 2.0 draws it larger than it says.
function sizeOf(node) {
  const title = window.LiteGraph.NODE_TITLE_HEIGHT
  const drawn = window.LiteGraph.vueNodesMode && document.querySelector(`[data-node-id="${node.id}"]`)
  if (!drawn) return node.size
  return [Math.max(node.size[0], drawn.offsetWidth), Math.max(node.size[1], drawn.offsetHeight - title)]
}

function boxOf(node) {
  const title = window.LiteGraph.NODE_TITLE_HEIGHT
  const [width, height] = sizeOf(node)
  return [node.pos[0], node.pos[1] - title, width, height + title]
}

function meets([x, y, width, height], { pos, size }) {
  const along = (start, length, axis) => start < pos[axis] + size[axis] && pos[axis] < start + length
  return along(x, width, 0) && along(y, height, 1)
}
