/** Copies text, also where the page is not served over HTTPS. */

import { el } from "./dom.js";
import { say } from "./language.js";

const SHOWN_MS = 1800;

/** A button that copies what `text` gives, and says so. */
export function copyButton(name, text) {
  const button = el("button", { type: "button", class: "quiet", "data-focus": name }, say(name));
  button.addEventListener("click", () => copyFrom(button, name, text()));
  return button;
}

export async function copyFrom(button, name, text) {
  button.textContent = say((await copied(text)) ? "copied" : "copyFailed");
  setTimeout(() => (button.textContent = say(name)), SHOWN_MS);
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copiedFromField(text); // the clipboard needs HTTPS or localhost
  }
}

function copiedFromField(text) {
  const field = el("textarea", { class: "unseen", "aria-hidden": true, tabindex: -1 });
  const focused = document.activeElement;
  field.value = text;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  focused?.focus();
  return done;
}
