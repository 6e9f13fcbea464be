/** The page of the model card: what its figures mean, and its own phrases in the page's language. */

import { Refused, info } from "./api.js";
import { byId, el, fill } from "./dom.js";
import { chooseLanguage, currentLanguage, inEveryLanguage, number, say, writeWords } from "./language.js";
import { MEGABYTE, layersOf, lines } from "./served.js";
import { CARD_IN_KOREAN } from "./words.js";

const card = byId("card");
const phrases = [...card.querySelectorAll("h1, h2, p, li, th, td")].map((element) => ({
  element,
  written: [...element.childNodes],
  korean: inKorean(element.textContent.trim()),
}));
const withoutTypes = valueBeside("as served, entity types not given", "micro-F1");
for (const table of card.querySelectorAll("table")) furnish(table);

let served = null; // the document of /info
inEveryLanguage(draw);
for (const choice of document.querySelectorAll("[data-language]")) {
  choice.addEventListener("click", () => chooseLanguage(choice.dataset.language));
}

try {
  served = await info();
  draw();
} catch (refusal) {
  if (!(refusal instanceof Refused)) throw refusal; // without it, the card is here all the same
}

function draw() {
  writeWords("cardTitle");
  drawPhrases();
  drawFigures();
}

/** The Korean of a text that every card has; null if its makers wrote it. */
function inKorean(text) {
  const [pattern, korean] = CARD_IN_KOREAN.find(([english]) => english.test(text)) ?? [];
  return korean ? text.replace(pattern, korean) : null;
}

function drawPhrases() {
  const language = currentLanguage();
  for (const { element, written, korean } of phrases) {
    const translated = language === "ko" && korean;
    fill(element, translated || written);
    if (translated) element.lang = "ko";
    else element.removeAttribute("lang");
    const relation = written[0]?.nodeName === "CODE" && relationOf(element.textContent);
    if (relation) {
      const pieces = relation.label.split(/(?<=[:/_])/).flatMap((piece) => [piece, el("wbr")]);
      fill(
        element,
        el("span", { class: "in-words", lang: language }, relation.name[language]),
        el("code", {}, pieces),
      );
    }
  }
}

function relationOf(text) {
  return served?.labels.find(({ label }) => label === text);
}

function drawFigures() {
  const { quality, source, members, bundle_bytes: bytes } = served ?? {};
  const values = {
    microF1: quality && say("pointsFact", quality.micro_f1.toFixed(1)),
    auprc: quality && say("pointsFact", quality.auprc.toFixed(1)),
    untyped: withoutTypes && say("pointsFact", Number(withoutTypes).toFixed(1)),
    rows: quality && say("rowsFact", number(quality.rows)),
    size: bytes && say("sizeFact", number(Math.round(bytes / MEGABYTE)), layersOf(members)),
    licences: source && lines(source.licences),
  };
  fill(
    byId("figures"),
    Object.entries(say("cardFigures")).map(([figure, [name, meaning]]) =>
      el(
        "div",
        { class: figure },
        el("dt", {}, name),
        el("dd", { class: "value" }, values[figure] ?? "–"),
        el("dd", { class: "note" }, meaning),
      ),
    ),
  );
}

/** A cell of the card by the names of its row and its column in the Markdown; undefined if it is missing. */
function valueBeside(row, column) {
  const first = [...card.querySelectorAll("td:first-child")].find((cell) => cell.textContent === row);
  const heads = first ? [...first.closest("table").querySelectorAll("th")] : [];
  return first?.parentElement.cells[heads.findIndex((head) => head.textContent === column)]?.textContent;
}

/** Names the frame in which a table scrolls sideways by the heading above, and sets its numbers to the right. */
function furnish(table) {
  const titles = [...card.querySelectorAll("h2")];
  const above = titles.findLast(
    (title) => title.compareDocumentPosition(table) & Node.DOCUMENT_POSITION_FOLLOWING,
  );
  if (above) {
    above.id ||= `section-${titles.indexOf(above)}`;
    table.parentElement.setAttribute("aria-labelledby", above.id);
  }
  const lines = [...(table.tBodies[0]?.rows ?? [])];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const cells = lines.map((line) => line.cells[column]);
    if (cells.every((cell) => /^[\d.,–]+$/.test(cell.textContent)))
      for (const cell of [head, ...cells]) cell.classList.add("figure");
  });
}
