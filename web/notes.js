// The notes of the pack's workflows in the user's language: each brings what it says in all that we speak.
import { app } from "../../scripts/app.js"
import { localeOf } from "./editor/panel.js"

app.registerExtension({
  name: "nag.notes",

  afterConfigureGraph() {
    for (const node of app.graph._nodes) {
      const texts = node.properties?.nag_note
      const shown = node.widgets?.[0]
      // What the user has written stays.
      if (!texts || !Object.values(texts).includes(shown?.value)) continue
      shown.value = texts[String(localeOf(app)).slice(0, 2)] ?? texts.en
    }
  },
})
