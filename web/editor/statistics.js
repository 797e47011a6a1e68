// What the server's messages said that NAG did, by node, in the last prompt.

const MOST_RUNS = 16 // of one node in a prompt

export class Statistics {
  constructor() {
    this.byNode = new Map()
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
  }

  // The runs of a node, each { steps, done: [message] }; none if its plan has changed since they ran. upToDate: whether
  // the plan is that of the graph as it is now; graph: its id, as nodes of other graphs have the same ids.
  of(id, plan, upToDate, graph) {
    const found = this.byNode.get(id)
    if (!found) return []
    const key = keyOf(plan, graph)
    if (upToDate) found.plan ??= key
    return found.plan === null || found.plan === key ? [...found.runs.values()] : []
  }
}

function keyOf(plan, graph) {
  if (!plan) return ""
  const { statistics, ...settings } = plan.settings ?? {}
  return JSON.stringify([graph, settings, plan.runs.map(({ steps, on, sigmas }) => [steps, on, sigmas])])
}
