// Keeps the server's plan of the graph up to date.
import { snapshot, wiringOf } from "./snapshot.js"

const PAUSE = 150 // ms that a graph rests before the server is asked about it

export class Planner {
  // rootGraph(): the graph; concerns(type): whether a node of this type has a plan; fetchPlan(body): asks the server;
  // show(plan, idsOf, wiring): see snapshot.js for the last two.
  constructor(rootGraph, concerns, fetchPlan, show) {
    Object.assign(this, { rootGraph, concerns, fetchPlan, show })
    this.plan = null
    this.asked = null // the question that the plan answers
    this.busy = false
    this.gone = false
    this.timer = null
    this.frame = null
    this.askSoon = this.askSoon.bind(this)
  }

  askSoon() {
    clearTimeout(this.timer)
    this.timer = setTimeout(() => {
      this.timer = null
      this.ask()
    }, PAUSE)
  }

  get upToDate() {
    return this.timer === null && !this.busy
  }

  async ask() {
    if (this.gone) return
    if (this.busy) return this.askSoon() // when the last question has its answer
    const { nodes } = snapshot(this.rootGraph())
    if (!Object.values(nodes).some(({ type }) => this.concerns(type))) return
    const body = JSON.stringify({ nodes })
    if (body !== this.asked) await this.fetch(body)
    this.showAgain()
  }

  async fetch(body) {
    this.busy = true
    try {
      this.plan = await this.fetchPlan(body)
      this.asked = body
    } catch (error) {
      this.gone = error.cause === 404 // such a server will not learn it; one that is away may come back
    } finally {
      this.busy = false
    }
  }

  // Show the plan once more, with what may have changed beside it; at most once a frame.
  showAgain() {
    if (!this.plan || this.frame !== null) return
    this.frame = setTimeout(() => {
      this.frame = null
      const { nodes, idsOf } = snapshot(this.rootGraph())
      this.show(this.plan, idsOf, wiringOf(nodes))
    }, 16)
  }
}
