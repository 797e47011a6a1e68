// What people type into the number fields of our nodes: also a decimal comma, or nothing, which is "auto". ComfyUI's own
// fields make 4 of "0,4" and 0 of nothing.
import { meansAuto, settleText } from "./numbers.js"

const FIELD = "[data-node-id] input[role=spinbutton]" // of Nodes 2.0

const pointed = (typed) => String(typed).replace(/^(\s*[+-]?\d*),(\d+\s*)$/, "$1.$2")

// The canvas renderer asks in a dialog, which a widget opens when it is clicked.
export function takeTyped(widget) {
  const onClick = widget.onClick
  if (!onClick) return
  widget.onClick = function (given) {
    const { canvas } = given
    const prompt = (title, value, take, ...more) => {
      const taken = (typed) => (meansAuto(typed) ? settleText(this, "") : take(pointed(typed)))
      return canvas.prompt(title, value, taken, ...more)
    }
    return onClick.call(this, { ...given, canvas: Object.create(canvas, { prompt: { value: prompt } }) })
  }
}

// To be called before Nodes 2.0 reads a field. widgetOf(id, name): the widget of ours that it is for; locale: in which
// Nodes 2.0 writes numbers, some with a comma.
export function correctTyped({ type, key, target }, widgetOf, locale) {
  if ((type === "keyup" && key !== "Enter") || !target.matches?.(FIELD)) return
  const name = target.closest("[aria-label]")?.getAttribute("aria-label")
  const widget = widgetOf(target.closest("[data-node-id]").dataset.nodeId, name)
  if (!widget) return
  if (meansAuto(target.value)) {
    target.value = widget.value
    setTimeout(() => settleText(widget, "")) // when the field has set that
  } else if (!new Intl.NumberFormat(locale).format(0.5).includes(",")) {
    target.value = pointed(target.value)
  }
}
