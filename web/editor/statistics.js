// What the server's messages said that NAG did, by node, in the last prompt.

const MOST_RUNS = 16 // of one node in a prompt

export class Statistics {
  constructor() {
    this.byNode = new Map()
  }

  // message: the data of a `nag.statistics` message; plan: that of its node now, if there is one.
  add(message, plan) {
    let found = this.byNode.get(message.node)
    if (found?.prompt !== message.prompt_id) {
      found = { prompt: message.prompt_id, plan: keyOf(plan), runs: new Map() }
      this.byNode.set(message.node, found)
    }
    if (!found.runs.has(message.run)) {
      if (found.runs.size === MOST_RUNS) return
      found.runs.set(message.run, { steps: message.steps, done: [] })
    }
    found.runs.get(message.run).done[message.step] = message
  }

  // The runs of a node, each { steps, done: [message] }; none if its plan has changed since they ran.
  of(id, plan) {
    const found = this.byNode.get(id)
    return found && found.plan === keyOf(plan) ? [...found.runs.values()] : []
  }
}

function keyOf(plan) {
  return plan && JSON.stringify([plan.settings, plan.runs.map(({ steps, on, sigmas }) => [steps, on, sigmas])])
}
