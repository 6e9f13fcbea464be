/** Starts the page and connects its parts. */

import { Refused, hasKey, info, useKey } from "./api.js";
import { Case, MOST_ENTITIES } from "./case.js";
import { converse } from "./conversation.js";
import { copyFrom } from "./copying.js";
import { button, byId, el, fill } from "./dom.js";
import { editSentence } from "./editor.js";
import { listEntities } from "./entities.js";
import { EXAMPLES } from "./examples.js";
import { chooseLanguage, currentLanguage, inEveryLanguage, say, writeWords } from "./language.js";
import { fromFragment, toFragment } from "./link.js";
import { showServed } from "./served.js";
import { showSnippets } from "./snippets.js";
import { manyRows } from "./table.js";

const AFTER_TYPING_MS = 600;
const AGAIN_MS = 1000;

const subject = new Case();
let served = null; // the document of /info
let state = "loading";
let typing = 0;

inEveryLanguage(() => writeWords());
const announce = (sentence) => (byId("said").textContent = sentence);
const conversation = converse(subject, {
  served: () => served,
  state: () => state,
  showEntityFaults: listEntities(subject),
  wantKey,
  announce,
});
editSentence(subject, { announce, ask: () => conversation.ask({ follow: true }) });
const drawTable = manyRows(byId("table"), {
  served: () => served,
  open: (example) => {
    subject.load(example, "shown");
    byId("try").scrollIntoView();
    byId("sentence").focus({ preventScroll: true });
  },
  refused: (refusal) => refusal.status === 401 && wantKey(),
  announce,
});
inEveryLanguage(drawAll);
subject.addEventListener("change", ({ detail: how }) => {
  clearTimeout(typing);
  for (const id of ["clear", "copy-link"]) byId(id).disabled = !subject.sentence;
  drawExamples();
  drawSnippets();
  conversation.stop();
  const ask = () => conversation.ask({ follow: how === "loaded" || how === "marked" });
  if (how === "edited") typing = setTimeout(ask, AFTER_TYPING_MS);
  else ask();
});
for (const choice of document.querySelectorAll("[data-language]")) {
  choice.addEventListener("click", () => chooseLanguage(choice.dataset.language));
}
byId("ask").addEventListener("click", () => {
  conversation.ask({ follow: true });
  if (subject.entities.length < 2) {
    const missing = say(subject.entities.length ? "markOneMore" : "markTwo");
    fill(byId("sentence-faults"), el("p", {}, missing));
    announce(missing);
    byId("sentence").focus();
  }
});
byId("clear").addEventListener("click", () => {
  subject.load({ sentence: "", entities: [] });
  byId("sentence").focus();
});
byId("copy-link").addEventListener("click", (event) => {
  history.replaceState(null, "", toFragment(subject));
  copyFrom(event.currentTarget, "copyLink", location.href);
});
byId("add").addEventListener("submit", (event) => {
  event.preventDefault();
  const word = byId("add-word").value.trim();
  if (!word) return;
  announce(subject.addWord(word, null) ? say("marked", word, say("types").open) : say("full", MOST_ENTITIES));
  byId("add-word").value = "";
});
byId("key").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(byId("key-field").value.trim());
  start();
});
window.addEventListener("hashchange", openLink);
if (!openLink()) subject.load(EXAMPLES[0], "shown");
start();

/** Finds out what is served, again while the model loads; then asks about the present case. */
async function start() {
  try {
    served = await info();
    ({ state } = served);
    byId("key").hidden = true;
  } catch (refusal) {
    if (!(refusal instanceof Refused)) throw refusal;
    state = refusal.status === 401 ? "locked" : "unreachable";
    if (refusal.status === 401) wantKey();
  }
  if (["loading", "unreachable"].includes(state)) setTimeout(start, AGAIN_MS);
  drawAll();
  conversation.ask({ follow: false });
}

function wantKey() {
  byId("key-note").textContent = say(hasKey() ? "keyWrong" : "keyNote");
  byId("key").hidden = false;
  byId("key-field").focus();
}

function drawAll() {
  drawExamples();
  drawSnippets();
  conversation.draw();
  drawTable();
  fill(byId("state"), el("span", { class: `dot ${state}` }), say("states")[state] ?? state);
  byId("info-link").hidden = hasKey(); // a link cannot carry the key
  byId("card-link").hidden = hasKey() || !served?.card;
  if (served) showServed(byId("facts"), served);
}

function drawSnippets() {
  showSnippets(byId("snippets"), subject.entities.length < 2 ? null : subject.request());
}

function drawExamples() {
  const choice = (example, index) =>
    button(example.name[currentLanguage()], () => subject.load(example), {
      "aria-pressed": String(example.sentence === subject.sentence),
      "data-focus": `example-${index}`,
    });
  fill(byId("examples"), EXAMPLES.map(choice));
}

/** Shows the case of the address; returns whether it holds one. */
function openLink() {
  const linked = fromFragment(location.hash);
  if (!linked) return false;
  subject.load(linked);
  if (linked.broken) fill(byId("sentence-faults"), el("p", {}, say("linkBroken", linked.broken)));
  return true;
}
