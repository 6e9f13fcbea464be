/** The page's language: the browser's at first, then the one that was chosen. */

import { WORDS } from "./words.js";

const KEPT_AS = "kore.language";
let language = kept() ?? (navigator.languages.find((tag) => /^(ko|en)\b/.test(tag)) ?? "en").slice(0, 2);
const listeners = [];

export const currentLanguage = () => language;

/** The page's words for `name`; a function among them gets the values. */
export function say(name, ...values) {
  const words = WORDS[language][name];
  return typeof words === "function" ? words(...values) : words;
}

/** Calls `render` now and each time the language changes. */
export function inEveryLanguage(render) {
  listeners.push(render);
  render();
}

export function chooseLanguage(chosen) {
  language = chosen;
  try {
    localStorage.setItem(KEPT_AS, chosen);
  } catch {
    // Storage can be forbidden; the choice then lasts as long as the page.
  }
  for (const render of listeners) render();
}

/** Writes the words into the elements that name them. `title` names the words of the window's title. */
export function writeWords(title = "title") {
  document.documentElement.lang = language;
  document.title = `KoRE Serve · ${say(title)}`;
  for (const [data, write] of [
    ["word", (element, words) => (element.textContent = words)],
    ["label", (element, words) => element.setAttribute("aria-label", words)],
    ["placeholder", (element, words) => (element.placeholder = words)],
  ]) {
    for (const element of document.querySelectorAll(`[data-${data}]`))
      write(element, say(element.dataset[data]));
  }
  for (const button of document.querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", String(button.dataset.language === language));
  }
}

function kept() {
  try {
    const chosen = localStorage.getItem(KEPT_AS);
    return chosen in WORDS ? chosen : null;
  } catch {
    return null;
  }
}

/** 0.9731 as "97.3%"; small ones keep two places, so that none looks like nothing. */
export const percent = (share) => `${(share * 100).toFixed(share < 0.01 ? 2 : 1)}%`;

export const number = (value) => value.toLocaleString(language);
