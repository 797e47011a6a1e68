// What the server's messages said that NAG did, by node, in the last prompt. A reload of the page does not forget it.

const MOST_RUNS = 16 // of one node in a prompt
const STORE = "nag.statistics" // in the session's storage, which the browser keeps for as long as the tab
const MOST_KEPT = 16 // nodes
const MOST_LETTERS = 100000

export class Statistics {
  constructor(storage = sessionStorageOf(window)) {
    this.storage = storage
    this.byNode = new Map()
    this.kept = read(storage) // [[graph, node], plan, runs], the last first
  }

  // message: the data of a `nag.statistics` message.
  add(message) {
    let found = this.byNode.get(message.node)
    if (found?.prompt !== message.prompt_id) {
      found = { prompt: message.prompt_id, plan: null, runs: new Map() }
      this.byNode.set(message.node, found)
    }
    if (!found.runs.has(message.run)) {
      if (found.runs.size === MOST_RUNS) return
      found.runs.set(message.run, { steps: message.steps, done: [] })
    }
    found.runs.get(message.run).done[message.step] = message
    found.unsaved ||= message.step + 1 === message.steps
  }

  // The runs of a node, each { steps, done: [message] }; none if its plan has changed since they ran. upToDate: whether
  // the plan is that of the graph as it is now; graph: its id, as nodes of other graphs have the same ids.
  of(id, plan, upToDate, graph) {
    const [found, key] = [this.byNode.get(id), keyOf(plan, graph)]
    if (found && upToDate) found.plan ??= key
    if (found?.unsaved && found.plan === key) this.keep(graph, id, found)
    if (found && (found.plan === null || found.plan === key)) return [...found.runs.values()]
    return this.kept.find(([place, plan]) => plan === key && isAt(place, graph, id))?.[2] ?? []
  }

  keep(graph, id, found) {
    found.unsaved = false
    const others = this.kept.filter(([place]) => !isAt(place, graph, id))
    this.kept = [[[graph ?? null, id], found.plan, [...found.runs.values()].map(bare)], ...others].slice(0, MOST_KEPT)
    write(this.storage, this.kept)
  }
}

function keyOf(plan, graph) {
  if (!plan) return ""
  const { statistics, ...settings } = plan.settings ?? {}
  const runs = plan.runs.map(({ steps, on, sigmas, strengths }) => [steps, on, sigmas, strengths])
  return JSON.stringify([graph, settings, runs, plan.negative])
}

function isAt([graph, node], thisGraph, id) {
  return graph === (thisGraph ?? null) && node === id
}

// A run without what only its messages need.
function bare({ steps, done }) {
  const known = Array.from(done, (step) => step && { ...step, node: undefined, prompt_id: undefined, run: undefined })
  return { steps, done: known }
}

// A page may not be allowed any storage, or have none left: then a reload forgets.
function sessionStorageOf(window) {
  try {
    return window.sessionStorage
  } catch {
    return null
  }
}

function read(storage) {
  try {
    const kept = JSON.parse(storage.getItem(STORE)) ?? []
    return kept.filter(([place, plan, runs]) => place.length === 2 && plan && runs.every(({ done }) => done.length))
  } catch {
    return []
  }
}

function write(storage, kept) {
  try {
    let written = JSON.stringify(kept)
    for (let count = kept.length; written.length > MOST_LETTERS && count > 0; count--) {
      written = JSON.stringify(kept.slice(0, count - 1))
    }
    storage.setItem(STORE, written)
  } catch {
    // as above
  }
}
