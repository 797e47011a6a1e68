// What the server said of a node's NAG in the last prompt that ran it, or was to run it, in sentences.

const OUR_VALIDATION = "exception_during_inner_validation"

export class Notices {
  constructor() {
    this.byNode = new Map()
  }

  // message: the data of a `nag.notices` message, one for each sampler run.
  add({ node, prompt_id: prompt, notices, idle }) {
    const before = this.byNode.get(node)
    const same = before && before.prompt === prompt
    const said = [...new Set([...(same ? before.said : []), ...notices])]
    this.byNode.set(node, { prompt, key: null, said, idle: Boolean(idle || (same && before.idle)), error: null })
  }

  // An error that ended the prompt, or that kept it from running.
  fail(node, message) {
    this.byNode.set(String(node), { prompt: null, key: null, said: [], idle: true, error: String(message).trim() })
  }

  // errors: by node, as the server refuses a prompt.
  refuse(errors) {
    for (const [node, { errors: found }] of Object.entries(errors ?? {})) {
      const words = ({ type, message, details }) =>
        type === OUR_VALIDATION ? details : [message, details].filter(Boolean).join(": ")
      this.fail(node, [...new Set(found.map(words))].join(" "))
    }
  }

  // When a prompt has run.
  forgetErrors() {
    for (const [node, { error }] of this.byNode) if (error !== null) this.byNode.delete(node)
  }

  // What to say of a node, { said, idle }: sentences, and whether for them NAG does nothing of use. No sentences if its
  // settings, its model, how the graph is wired or what the plan says of it have changed since. upToDate: whether the
  // plan is that of the graph as it is now; wiring: see snapshot.js.
  of(id, plan, upToDate, wiring) {
    const found = this.byNode.get(id)
    if (!found) return NOTHING
    const key = JSON.stringify([plan?.settings ?? null, plan?.family ?? null, plan?.message ?? null, wiring])
    if (upToDate) found.key ??= key
    if (found.key !== null && found.key !== key) return NOTHING
    return { said: found.error === null ? found.said : [found.error], idle: found.idle }
  }
}

const NOTHING = { said: [], idle: false }
