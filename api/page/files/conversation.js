/** Asks the server about a case, and shows the answer, or each fault at its field. */

import { showPair, showPairs } from "./answer.js";
import { Refused, relations } from "./api.js";
import { byId, el, fill } from "./dom.js";
import { detail, faultLines, statusSentence } from "./faults.js";
import { say } from "./language.js";

const answer = byId("answer");
const heading = byId("answer-label");
const sentenceFaults = byId("sentence-faults");
const SEEN_PX = 160; // the heading and the relation under it

/**
 * Connects a case with the server.
 * `served` gives the document of /info, null before it is known; `state` a word for why it is not;
 * `showEntityFaults` shows a list of faults for each entity; `wantKey` is called when a key is missing.
 */
export function converse(subject, { served, state, showEntityFaults, wantKey, announce }) {
  let render = () => note(say("answerEmpty")); // draws what is shown, also in another language
  let asking = new AbortController();

  const show = (how) => {
    render = how;
    draw();
  };
  const draw = () => {
    answer.classList.remove("stale");
    fill(answer, render());
  };

  /** No longer waits for an answer; what is shown belongs to an earlier case. */
  const stop = () => {
    asking.abort();
    fill(sentenceFaults);
    answer.classList.add("stale");
    if (subject.entities.length < 2)
      show(() => note(say(subject.entities.length ? "answerOneMore" : "answerEmpty")));
  };

  /** Asks. `follow` brings the answer into view if it is outside: not while the user types. */
  const ask = async ({ follow }) => {
    stop();
    if (subject.entities.length < 2) return;
    if (!served()?.members) {
      show(() => note(say("states")[state()])); // the answer follows when the model is there
      return;
    }
    asking = new AbortController();
    const { signal } = asking;
    const onWait = (seconds) => show(() => note(say("waiting", seconds)));
    const asked = { words: subject.entities.map((_, index) => subject.word(index)), pairs: subject.pairs() };
    const request = subject.request();
    try {
      const found = await relations(request, { signal, onWait });
      if (signal.aborted) return;
      showAnswer(found, asked, request);
      if (follow) bringIntoView();
    } catch (error) {
      if (error instanceof Refused) refuse(error, follow);
      else if (error.name !== "AbortError") throw error;
    }
  };

  const showAnswer = ({ answer: found, times }, { words, pairs }, request) => {
    showEntityFaults([]);
    const view = found.relations
      ? showPairs(found, words, pairs, (pair) => askPair(request, pair))
      : showPair(found, words);
    show(() => view.draw(served(), times));
    announce(view.inWords(served()));
  };

  /** The prediction of one of a sentence's pairs; null if there is none. */
  const askPair = async ({ sentence, entities }, { subject: from, object: to }) => {
    const body = { sentence, subject_entity: entities[from], object_entity: entities[to], top_k: 30 };
    try {
      return (await relations(body)).answer;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      refuse(error);
      return null;
    }
  };

  const refuse = (refusal, follow = false) => {
    if (refusal.status === 401) wantKey();
    const { ofEntities, ofSentence, others } = placed(refusal.faults, subject.entities.length);
    showEntityFaults(ofEntities);
    fill(sentenceFaults, faultLines(ofSentence));
    show(() => [
      el("p", { class: "notice" }, statusSentence(refusal.status)),
      refusal.faults.length ? faultLines(others) : detail(refusal.message),
    ]);
    announce(statusSentence(refusal.status));
    if (follow && !refusal.faults.length) bringIntoView(); // a fault is shown at its field
  };

  return { ask, draw, stop };
}

/** Scrolls to the answer if the user cannot see it. style.css says how, and respects reduced motion. */
function bringIntoView() {
  const { top } = heading.getBoundingClientRect();
  const seen = visualViewport?.height ?? innerHeight; // without the keyboard of a phone
  if (top < 0 || top + SEEN_PX > seen) heading.parentElement.scrollIntoView();
}

/** Faults by the field that their `loc` names: ["body", "entities", 2, "word"] is about the third entity. */
function placed(faults, count) {
  const ofEntities = Array.from({ length: count }, () => []);
  const ofSentence = [];
  const others = [];
  for (const fault of faults) {
    const [, field, index] = fault.loc;
    const entity = { subject_entity: 0, object_entity: 1, entities: index }[field];
    (ofEntities[entity] ?? (field === "sentence" ? ofSentence : others)).push(fault);
  }
  return { ofEntities, ofSentence, others };
}

function note(sentence) {
  return el("p", { class: "note empty" }, sentence);
}
