/** Starts the page, asks, and shows what comes back in its place. */

import { Refused, hasKey, info, relations, useKey } from "./api.js";
import { relationName, showPair, showPairs } from "./answer.js";
import { Case, MOST_ENTITIES } from "./case.js";
import { copyFrom } from "./copying.js";
import { byId, el, fill } from "./dom.js";
import { editSentence } from "./editor.js";
import { faultLines, listEntities } from "./entities.js";
import { EXAMPLES } from "./examples.js";
import { chooseLanguage, currentLanguage, inEveryLanguage, percent, say, writeWords } from "./language.js";
import { fromFragment, toFragment } from "./link.js";
import { showServed } from "./served.js";
import { showSnippets } from "./snippets.js";
import { manyRows } from "./table.js";

const AFTER_TYPING_MS = 600;
const LOADING_MS = 1000;

const subject = new Case();
let served = null; // the document of /info
let shown = () => say("answerEmpty"); // draws the answer again in another language
let asking = new AbortController();
let timer = 0;

inEveryLanguage(writeWords);
const announce = (sentence) => (byId("said").textContent = sentence);
const showEntityFaults = listEntities(subject);
editSentence(subject, { announce, ask });
const table = manyRows(byId("table"), {
  served: () => served,
  open: (example) => {
    subject.load(example);
    byId("try").scrollIntoView();
    byId("sentence").focus({ preventScroll: true });
  },
  refused: (refusal) => refusal.status === 401 && wantKey(),
});
inEveryLanguage(drawExamples);
inEveryLanguage(() => draw());
subject.addEventListener("change", ({ detail: how }) => {
  clearTimeout(timer);
  asking.abort();
  byId("clear").disabled = !subject.sentence;
  byId("copy-link").disabled = !subject.sentence;
  fill(byId("sentence-faults"));
  drawExamples();
  if (subject.entities.length < 2)
    show(() => note(say(subject.entities.length ? "answerOneMore" : "answerEmpty")));
  else if (how === "edited") timer = setTimeout(ask, AFTER_TYPING_MS);
  else ask();
  drawSnippets();
});
for (const button of document.querySelectorAll("[data-language]")) {
  button.addEventListener("click", () => chooseLanguage(button.dataset.language));
}
byId("ask").addEventListener("click", ask);
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
if (!openLink()) subject.load(EXAMPLES[0]);
start();

/** Asks what is served, again while the model loads; then asks about the present case. */
async function start() {
  try {
    served = await info();
  } catch (refusal) {
    if (!(refusal instanceof Refused)) throw refusal;
    if (refusal.status === 401) wantKey();
    else setTimeout(start, LOADING_MS);
    showState(refusal.status === 401 ? "locked" : "unreachable");
    return;
  }
  byId("key").hidden = true;
  byId("info-link").hidden = hasKey(); // a link cannot carry the key
  showState(served.state);
  draw();
  if (served.state === "loading") setTimeout(start, LOADING_MS);
  else if (subject.entities.length >= 2) ask();
}

/** Asks about the present case and shows the answer, or why there is none. */
async function ask() {
  clearTimeout(timer);
  asking.abort();
  if (subject.entities.length < 2)
    return show(() => note(say(subject.entities.length ? "answerOneMore" : "answerEmpty")));
  if (!served?.members) return undefined; // start() asks once the model is there
  asking = new AbortController();
  const { signal } = asking;
  byId("answer").classList.add("stale");
  const onWait = (seconds) => show(() => note(say("waiting", seconds)));
  try {
    const { answer, times } = await relations(subject.request(), { signal, onWait });
    showEntityFaults([]);
    showAnswer(answer, times);
  } catch (error) {
    if (error instanceof Refused) showRefusal(error);
    else if (error.name !== "AbortError") throw error;
  }
  return undefined;
}

function showAnswer(answer, times) {
  if (answer.relations) {
    show((container) => showPairs(container, answer, subject, served, times, askPair));
    announce(say("pairs", answer.relations.length, answer.pairs));
    return;
  }
  const names = [subject.word(0), subject.word(1)];
  show((container) => showPair(container, answer, names, served, times));
  announce(say("found", ...names, relationName(answer.relation, served), percent(answer.score)));
}

/** The prediction of one of a sentence's pairs; null if there is none. */
async function askPair(pair) {
  const { sentence, entities } = subject.request();
  try {
    const body = {
      sentence,
      subject_entity: entities[pair.subject],
      object_entity: entities[pair.object],
      top_k: 30,
    };
    return (await relations(body)).answer;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    showRefusal(error);
    return null;
  }
}

/** Shows each fault at its field, and the rest in place of the answer. */
function showRefusal(refusal) {
  if (refusal.status === 401) wantKey();
  const ofEntities = subject.entities.map(() => []);
  const ofSentence = [];
  const others = [];
  for (const fault of refusal.faults) {
    const [, field, index] = fault.loc;
    const entity =
      { subject_entity: 0, object_entity: 1 }[field] ?? (field === "entities" ? index : undefined);
    (ofEntities[entity] ?? (field === "sentence" ? ofSentence : others)).push(fault);
  }
  showEntityFaults(ofEntities);
  fill(byId("sentence-faults"), faultLines(ofSentence));
  const details = refusal.faults.length
    ? faultLines(others)
    : el("p", { class: "api-says", lang: "en" }, refusal.message);
  show(() => [el("p", { class: "notice" }, say("status", refusal.status)), details]);
  announce(say("status", refusal.status));
}

function wantKey() {
  const form = byId("key");
  byId("key-note").textContent = say(hasKey() ? "keyWrong" : "keyNote");
  form.hidden = false;
  byId("key-field").focus();
}

/** Draws the answer's place now and in every language. `render` fills it, or returns what it holds. */
function show(render) {
  shown = render;
  draw();
}

function draw() {
  const container = byId("answer");
  container.classList.remove("stale");
  const content = shown(container);
  if (content) fill(container, content);
  drawSnippets();
  if (!served) return;
  showState(served.state);
  showServed(byId("facts"), served);
}

function drawSnippets() {
  showSnippets(byId("snippets"), subject.entities.length < 2 ? null : subject.request());
}

function drawExamples() {
  const choose = (example) => subject.load(example);
  fill(
    byId("examples"),
    EXAMPLES.map((example, index) =>
      el(
        "button",
        {
          type: "button",
          "aria-pressed": String(example.sentence === subject.sentence),
          "data-focus": `example-${index}`,
          on: { click: () => choose(example) },
        },
        example.name[currentLanguage()],
      ),
    ),
  );
}

function showState(state) {
  fill(byId("state"), el("span", { class: `dot ${state}` }), say("states")[state] ?? state);
  table?.draw();
}

function openLink() {
  const linked = fromFragment(location.hash);
  if (!linked) return false;
  subject.load(linked);
  if (linked.broken) fill(byId("sentence-faults"), el("p", {}, say("linkBroken", linked.broken)));
  return true;
}

function note(sentence) {
  return el("p", { class: "note empty" }, sentence);
}
