// The steps to draw, and what to say of them: the plan's, with what happened at those that have run.
import { measuresOf } from "./legend.js"
import { number } from "./text.js"

// Gives runs, each a list of steps { number, of, sigma, on, strength, height, exact, done }: number from 1; sigma, on,
// strength and done (the message of the statistics) may be null, and so may why, the reason if NAG acts at no step of
// the run; of what is not capped, done holds back null; height: of the strength beside the node's own and the highest there is, 0 to 1.
export function stepsOf(plan, statistics) {
  const planned = plan?.runs ?? []
  const capped = plan?.settings?.capped ?? true
  const most = Math.max(plan?.settings?.strength ?? 0, ...planned.flatMap((run) => run.strengths ?? []))
  const runs = []
  for (let i = 0; i < Math.max(planned.length, statistics.length); i++) {
    const [run, ran] = [planned[i], statistics[i]]
    const count = ran?.steps ?? run.steps
    runs.push(
      Array.from({ length: count }, (_, step) => {
        const done = ran?.done[step] ?? null
        const strength = run?.strengths?.[step] ?? null
        return {
          number: step + 1,
          of: count,
          sigma: done?.sigma ?? run?.sigmas?.[step] ?? null,
          on: done?.on ?? run?.on?.[step] ?? null,
          strength,
          height: strength === null || most === 0 ? 1 : strength / most,
          exact: Boolean(done ?? run?.exact),
          why: run?.why ?? null,
          done: done?.on && done.ratio !== null ? (capped ? done : { ...done, clipped: null }) : null,
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

// What is not as usual: the equation, the blocks in which NAG acts, and how strong and where each of its negatives is.
export function factsOf(t, { settings, blocks, negative }) {
  const facts = []
  if (settings && settings.equation !== "nag") facts.push(settings.equation)
  if (blocks) facts.push(t("inBlocks", blocks.acting, blocks.of))
  const weights = negative?.weights?.map((each) => (each === null ? "?" : number(each)))
  if (weights) facts.push(t("weights", weights.join(" / ")))
  if (negative?.placed) facts.push(t("inPart"))
  return facts
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

// Which step it is, whether NAG is on, and how strong if not as the numbers say.
export function describe(t, step) {
  const parts = [t("step", step.number, step.of)]
  if (step.sigma !== null) parts.push(`σ ${number(step.sigma)}`)
  if (step.on !== null) parts.push(t(step.on ? "stepOn" : "stepOff"))
  if (step.on && step.strength !== null && step.strength !== 1) parts.push(t("stepStrength", number(step.strength)))
  return parts.join(" · ")
}

// All that is known of a step.
export function describeWhole(t, step) {
  if (!step.done) return [describe(t, step), step.why].filter(Boolean).join("\n")
  return [describe(t, step), ...measuresOf(t, step.done).map(({ said }) => said)].join(" · ")
}

// Means over the steps in which NAG acted: { ratio, clipped, moved }; null if none has run yet.
export function means(runs) {
  const done = runs.flat().flatMap((step) => step.done ?? [])
  if (!done.length) return null
  const mean = (name) => done.reduce((sum, each) => sum + each[name], 0) / done.length
  const capped = done[0].clipped !== null
  return { ratio: mean("ratio"), clipped: capped ? mean("clipped") : null, moved: mean("moved") }
}
