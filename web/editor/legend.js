// What the picture's three measures are called, and what to do about them.
import { number, percent } from "./text.js"

// What is little and what is much, on average over a run. On the playground a nag_scale of 1.5 moves the features by 2
// to 4 %, "auto" by 11 to 19 %, and at 65 to 116 % the pictures break.
const HARDLY_MOVED = 0.03
const FAR_MOVED = 0.6
const HARDLY_HELD = 0.02 // of the tokens
const MOSTLY_HELD = 0.5

// measured: { ratio, clipped, moved }, of a step or on average; clipped: null where nothing is to be held back. Gives
// { measure, said }, in words.
export function measuresOf(t, { ratio, clipped, moved }) {
  const found = [["ratio", t("growth"), times(ratio)], ["clipped", t("clipped"), clipped], ["moved", t("moved"), moved]]
  const known = found.filter(([, , value]) => value !== null)
  const words = (value) => (typeof value === "number" ? percent(value) : value)
  return known.map(([measure, name, value]) => ({ measure, said: `${name} ${words(value)}` }))
}

// measured: see measuresOf; tau: the limit of the ratio, or null. Gives elements.
export function legend(t, measured, tau) {
  const limited = t("ratioHint", tau === null ? "?" : number(tau))
  const hints = {
    ratio: measured.clipped === null ? t("ratioFreeHint") : limited,
    clipped: t("clippedHint"),
    moved: t("movedHint"),
  }
  return measuresOf(t, measured).map(({ measure, said }) => {
    const item = document.createElement("div")
    item.className = `nag-legend nag-${measure}`
    item.textContent = said
    item.title = hints[measure]
    return item
  })
}

// One sentence, or null where there is nothing to advise. measured: averages of a run, see measuresOf; dial: the widget
// of the node that makes NAG stronger and weaker.
export function advice(t, measured, dial) {
  const { clipped, moved } = measured
  if (moved > FAR_MOVED) return t("adviceFar", dial)
  if (moved < HARDLY_MOVED) return clipped > MOSTLY_HELD ? t("adviceTauHolds") : t("adviceHardly", dial)
  if (clipped === null) return null
  if (clipped < HARDLY_HELD) return t("adviceTauIdle")
  return clipped > MOSTLY_HELD ? t("adviceTauMost") : t("adviceTauSome", percent(clipped))
}

// The widget that `advice` names. blended: whether nag_alpha is used.
export function dialOf(node, blended) {
  const has = (name) => node.widgets?.some((widget) => widget.name === name)
  return has("strength") ? "strength" : blended ? "nag_alpha" : "nag_scale"
}

function times(ratio) {
  return `${ratio.toFixed(2)}×`
}
