// The steps to draw, and what to say of them: the plan's, with what happened at those that have run.
import { times } from "./legend.js"
import { number, percent } from "./text.js"

// Gives runs, each a list of steps { number, of, sigma, on, exact, done }: number from 1; sigma, on and done (the
// message of the statistics) may be null, and so may why, the reason if NAG acts at no step of the run.
export function stepsOf(plan, statistics) {
  const planned = plan?.runs ?? []
  const runs = []
  for (let i = 0; i < Math.max(planned.length, statistics.length); i++) {
    const [run, ran] = [planned[i], statistics[i]]
    const count = ran?.steps ?? run.steps
    runs.push(
      Array.from({ length: count }, (_, step) => {
        const done = ran?.done[step] ?? null
        return {
          number: step + 1,
          of: count,
          sigma: done?.sigma ?? run?.sigmas?.[step] ?? null,
          on: done?.on ?? run?.on?.[step] ?? null,
          exact: Boolean(done ?? run?.exact),
          why: run?.why ?? null,
          done: done?.on && done.ratio !== null ? done : null,
        }
      }),
    )
  }
  return runs.filter((steps) => steps.length)
}

const [MUTED, BYPASSED] = [2, 4] // modes of LiteGraph

// One line on when NAG acts.
export function headline(t, plan, mode, runs) {
  if (mode === MUTED) return t("muted")
  if (mode === BYPASSED) return t("bypassed")
  const steps = runs.flat()
  if (!steps.length) return t(plan.reached ? "unknown" : "unconnected")
  if (steps.some((step) => step.on === null)) return t("unknown")
  const on = steps.filter((step) => step.on)
  const guess = steps.every((step) => step.exact) ? "" : "≈ "
  if (!on.length) return guess + t("onInNone", steps.length)
  const sigmas = [on[0], on[on.length - 1]].map((step) => step.sigma)
  const range = sigmas.includes(null) ? "" : ` · σ ${sigmas.map(number).join(" → ")}`
  return guess + when(t, runs, on, steps.length) + range
}

function when(t, runs, on, total) {
  if (on.length === total) return t("onInAll", total)
  const [first, last] = [on[0].number, on[on.length - 1].number]
  const stretch = runs.length === 1 && on.length > 1 && on.length === last - first + 1
  return stretch ? t("on", first, last, total) : t("onInSome", on.length, total)
}

const HINTS = {
  NAGModel: "hintModel",
  NAGConditioning: "hintConditioning",
  NAGGuider: "hintGuider",
  NAGCFGGuider: "hintGuider",
}

// What to do first with a node whose NAG reaches no sampler; empty for others.
export function hint(t, plan, node) {
  const key = !node.mode && !plan.reached && HINTS[node.comfyClass]
  return key ? t(key) : ""
}

// Which step it is, and whether NAG is on.
export function describe(t, step) {
  const parts = [t("step", step.number, step.of)]
  if (step.sigma !== null) parts.push(`σ ${number(step.sigma)}`)
  if (step.on !== null) parts.push(t(step.on ? "stepOn" : "stepOff"))
  return parts.join(" · ")
}

// All that is known of a step.
export function describeWhole(t, step) {
  if (!step.done) return [describe(t, step), step.why].filter(Boolean).join("\n")
  const { ratio, clipped, moved } = step.done
  const shares = [`${t("clipped")} ${percent(clipped)}`, `${t("moved")} ${percent(moved)}`]
  return [describe(t, step), `${t("growth")} ${times(ratio)}`, ...shares].join(" · ")
}

// Means over the steps in which NAG acted: { ratio, clipped, moved }; null if none has run yet.
export function means(runs) {
  const done = runs.flat().flatMap((step) => step.done ?? [])
  if (!done.length) return null
  const mean = (name) => done.reduce((sum, each) => sum + each[name], 0) / done.length
  return { ratio: mean("ratio"), clipped: mean("clipped"), moved: mean("moved") }
}
