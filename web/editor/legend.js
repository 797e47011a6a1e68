// What the picture's three measures are called, and what to do about them.
import { number, percent } from "./text.js"

// What is little and what is much, on average over a run. On the playground a nag_scale of 1.5 moves the features by 2
// to 4 %, "auto" by 11 to 19 %, and at 65 to 116 % the pictures break.
const HARDLY_MOVED = 0.03
const FAR_MOVED = 0.6
const HARDLY_HELD = 0.02 // of the tokens
const MOSTLY_HELD = 0.5

// measured: { ratio, clipped, moved }, of a step or on average; tau: the limit of the ratio, or null. Gives elements.
export function legend(t, measured, tau) {
  const items = [
    ["ratio", t("growth"), times(measured.ratio), t("ratioHint", tau === null ? "?" : number(tau))],
    ["clipped", t("clipped"), percent(measured.clipped), t("clippedHint")],
    ["moved", t("moved"), percent(measured.moved), t("movedHint")],
  ]
  return items.map(([measure, name, value, hint]) => {
    const item = document.createElement("div")
    item.className = `nag-legend nag-${measure}`
    item.textContent = `${name} ${value}`
    item.title = hint
    return item
  })
}

// One sentence. measured: averages of a run; dial: the widget of the node that makes NAG stronger and weaker.
export function advice(t, measured, dial) {
  const { clipped, moved } = measured
  if (moved > FAR_MOVED) return t("adviceFar", dial)
  if (moved < HARDLY_MOVED) return clipped > MOSTLY_HELD ? t("adviceTauHolds") : t("adviceHardly", dial)
  if (clipped < HARDLY_HELD) return t("adviceTauIdle")
  return clipped > MOSTLY_HELD ? t("adviceTauMost") : t("adviceTauSome", percent(clipped))
}

// The widget that `advice` names.
export function dialOf(node) {
  return ["strength", "nag_alpha"].find((name) => node.widgets?.some((widget) => widget.name === name)) ?? "nag_alpha"
}

export function times(ratio) {
  return `${ratio.toFixed(2)}×`
}
