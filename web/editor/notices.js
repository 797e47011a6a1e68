// What the server said of a node's NAG in the last prompt that ran it, in sentences.

export class Notices {
  constructor() {
    this.byNode = new Map()
  }

  // message: the data of a `nag.notices` message, one for each sampler run.
  add({ node, prompt_id: prompt, notices }) {
    const before = this.byNode.get(node)
    const said = before?.prompt === prompt ? before.said : []
    this.byNode.set(node, { prompt, key: null, said: [...new Set([...said, ...notices])] })
  }

  // Those of a node; none if its settings, or how the graph is wired, have changed since. upToDate: whether the plan is
  // that of the graph as it is now; wiring: see snapshot.js.
  of(id, plan, upToDate, wiring) {
    const found = this.byNode.get(id)
    if (!found) return []
    const key = JSON.stringify([plan?.settings ?? null, wiring])
    if (upToDate) found.key ??= key
    return found.key === null || found.key === key ? found.said : []
  }
}
