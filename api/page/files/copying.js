/** Copies text, also where the page is not served over HTTPS. */

import { button, el } from "./dom.js";
import { say } from "./language.js";

const SHOWN_MS = 1800;

/** A button that copies what `text` gives, and says so. */
export function copyButton(name, text) {
  const copy = ({ currentTarget }) => copyFrom(currentTarget, name, text());
  return button(say(name), copy, { class: "quiet", "data-focus": name });
}

export async function copyFrom(pressed, name, text) {
  pressed.textContent = say((await copied(text)) ? "copied" : "copyFailed");
  setTimeout(() => (pressed.textContent = say(name)), SHOWN_MS);
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
