// What the server said of a node's NAG in the last prompt that ran it, in sentences.

export class Notices {
  constructor() {
    this.byNode = new Map()
  }

  // message: the data of a `nag.notices` message, one for each sampler run; graph: the question that a plan answers.
  add(message, graph) {
    const { node, prompt_id: prompt, notices } = message
    const before = this.byNode.get(node)
    const said = before?.prompt === prompt ? before.said : []
    this.byNode.set(node, { prompt, graph, said: [...new Set([...said, ...notices])] })
  }

  // Those that hold for the graph as it is now.
  of(id, graph) {
    const found = this.byNode.get(id)
    return found && found.graph === graph ? found.said : []
  }
}
