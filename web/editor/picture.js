// The picture: a bar for each step, coloured where NAG acts, as high as it is strong; after a run, what it did there.
import { number } from "./text.js"

const SVG = "http://www.w3.org/2000/svg"
const GAP = 0.03 // between sampler runs, as a share of the steps
const HEIGHT = 100
const ROOM = 1.15 // above the highest ratio
const LEAST = 0.05 // of the height, else it could not be seen that NAG acts

// Gives { root, svg, axes, measures }: axes has the scales, in letters that do not stretch with the picture; measures
// is the place beside it for what legend.js makes.
export function makePicture() {
  const svg = element("svg", { preserveAspectRatio: "none" })
  const [root, plot, axes, measures] = ["nag-picture", "nag-plot", "nag-axes", "nag-measures"].map((name) => {
    const made = document.createElement("div")
    made.className = name
    return made
  })
  plot.append(svg, axes)
  root.append(plot, measures)
  return { root, svg, axes, measures }
}

// runs: see steps.js; tau: the limit of the ratio, or null; describe(step): the bar's title.
export function draw({ svg, axes }, runs, tau, describe) {
  const steps = runs.flat()
  const gap = Math.max(GAP * steps.length, 0.35)
  const width = steps.length + gap * Math.max(runs.length - 1, 0)
  svg.setAttribute("viewBox", `0 0 ${Math.max(width, 1)} ${HEIGHT}`)
  const done = steps.filter((step) => step.done)
  const top = ROOM * Math.max(1, done.length ? tau ?? 0 : 0, ...done.map((step) => step.done.ratio))
  const parts = []
  let x = 0
  for (const run of runs) {
    parts.push(...run.map((step, i) => bar(step, x + i, width, describe)))
    parts.push(...ratioLines(run, x, top))
    x += run.length + gap
  }
  if (done.length && tau !== null) parts.push(line("tau", [[0, tau], [width, tau]], top))
  svg.replaceChildren(...parts)
  axes.replaceChildren(...(done.length ? scales(tau, top) : []))
}

// At the left that of the growth, with tau; at the right that of the two shares.
function scales(tau, top) {
  const growth = tau === null ? ["left", 1, `${number(top)}×`] : ["left", tau / top, `tau ${number(tau)}×`]
  const marks = [growth, ["right", 1, "100%"]]
  return marks.map(([side, height, words]) => {
    const mark = document.createElement("span")
    mark.className = `nag-${side}`
    mark.style.setProperty("--nag-height", height)
    mark.textContent = words
    return mark
  })
}

function bar(step, x, width, describe) {
  const inset = width > 120 ? 0 : 0.06
  const [left, wide] = [x + inset, 1 - 2 * inset]
  const state = step.done ? "done" : step.on ? "on" : "off"
  const group = element("g", { class: `step ${state}` })
  const share = state === "off" ? 1 : Math.max(step.height, LEAST)
  if (share < 1) group.append(element("rect", { class: "rest", x: left, y: 0, width: wide, height: HEIGHT }))
  group.append(element("rect", { class: "bar", x: left, y: HEIGHT * (1 - share), width: wide, height: HEIGHT * share }))
  if (step.done) {
    const height = HEIGHT * Math.min(step.done.clipped ?? 0, 1)
    group.append(element("rect", { class: "clipped", x: left, y: HEIGHT - height, width: wide, height }))
    const moved = HEIGHT * (1 - Math.min(step.done.moved, 1))
    group.append(element("path", { class: "moved", d: `M${left} ${moved}h${wide}` }))
  }
  const title = element("title", {})
  title.textContent = describe(step)
  group.append(title)
  group.step = step
  return group
}

// The ratio over the steps of one run, a line for each stretch in which NAG acted.
function ratioLines(steps, x, top) {
  const stretches = [[]]
  steps.forEach((step, i) => {
    if (step.done) stretches.at(-1).push([x + i + 0.5, step.done.ratio])
    else if (stretches.at(-1).length) stretches.push([])
  })
  return stretches.filter((points) => points.length).map((points) => line("ratio", widened(points), top))
}

// A line of one point would not be seen.
function widened(points) {
  return points.length > 1 ? points : [-0.3, 0.3].map((aside) => [points[0][0] + aside, points[0][1]])
}

function line(name, points, top) {
  const at = points.map(([x, value]) => `${x},${HEIGHT * (1 - value / top)}`)
  return element("polyline", { class: name, points: at.join(" ") })
}

function element(name, attributes) {
  const made = document.createElementNS(SVG, name)
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value)
  return made
}
