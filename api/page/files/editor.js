/**
 * The sentence, and marking in it. The text is an ordinary text field, so typing, selecting, undo and screen
 * readers work as everywhere. The marks are drawn by a copy of the text under the field.
 */

import { TYPES, MOST_ENTITIES } from "./case.js";
import { button, byId, el, fill } from "./dom.js";
import { particleOf } from "./josa.js";
import { inEveryLanguage, say } from "./language.js";
import { withMarks } from "./marks.js";
import { between, toPoints, toUnits } from "./offsets.js";

const field = byId("sentence");
const mirror = byId("mirror");
const marking = byId("marking");

/**
 * Connects the field with a case.
 * `announce` tells a screen reader a sentence; `ask` is called when the user wants the answer.
 */
export function editSentence(subject, { announce, ask }) {
  let selected = null; // {start, end} in code points, end inclusive
  let pressing = false; // a type: some phones drop the selection when a finger touches another place

  const look = () => {
    if (pressing) return;
    const now = selection();
    if (now?.start === selected?.start && now?.end === selected?.end) return;
    selected = now;
    draw();
  };
  const draw = () => {
    drawMirror(subject, selected);
    drawMarking(subject.sentence, selected, mark, narrow);
  };
  const choose = (from, to) => {
    field.focus();
    field.setSelectionRange(from, to);
  };
  const mark = (type) => {
    const { start, end } = selected;
    const word = between(subject.sentence, start, end);
    choose(field.selectionEnd, field.selectionEnd);
    selected = null;
    announce(
      subject.mark(start, end, type)
        ? say("marked", word, say("types")[type ?? "open"])
        : say("full", MOST_ENTITIES),
    );
    draw();
  };
  const narrow = (particle) => {
    const end = toUnits(subject.sentence, selected.end + 1) - particle.length;
    choose(toUnits(subject.sentence, selected.start), end);
    look();
  };

  // Pressing a type keeps the focus and the selection in the field; on a phone its keyboard stays as it is.
  marking.addEventListener("mousedown", (event) => event.preventDefault());
  const press = ({ type, target }) => {
    pressing = type === "pointerdown" && marking.contains(target);
    look();
  };
  marking.addEventListener("click", press); // after the button's own listener
  for (const event of ["pointerdown", "pointercancel", "keydown"]) document.addEventListener(event, press);
  field.addEventListener("input", () => {
    selected = null;
    subject.edit(field.value);
  });
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    look();
    if (selected) marking.querySelector("[class^=type-]").focus();
    else ask();
  });
  document.addEventListener("selectionchange", () => document.activeElement === field && look());
  for (const event of ["select", "keyup", "pointerup"]) field.addEventListener(event, look);
  subject.addEventListener("change", () => {
    if (field.value !== subject.sentence) {
      field.value = subject.sentence;
      selected = null;
    }
    draw();
  });
  inEveryLanguage(() => {
    field.placeholder = say("placeholder");
    draw();
  });
}

/** What is selected in the field, without the white space around it, in code points; null if nothing is. */
function selection() {
  const { value, selectionStart, selectionEnd } = field;
  const text = value.slice(selectionStart, selectionEnd);
  if (!text.trim()) return null;
  const start = toPoints(value, selectionStart + text.length - text.trimStart().length);
  return { start, end: start + [...text.trim()].length - 1 };
}

function drawMirror({ sentence, entities }, selected) {
  const roles =
    entities.length === 2 ? [say("subject"), say("object")] : entities.map((_, index) => index + 1);
  const spans = entities.map(({ start, end, type }, index) => ({
    start,
    end,
    kind: type,
    tag: roles[index],
  }));
  const touches = ({ start, end }) => selected && start <= selected.end && end >= selected.start;
  const seen = spans.filter((span) => !touches(span));
  if (selected) seen.push({ ...selected, kind: "selected", tag: "" });
  fill(mirror, withMarks(sentence, seen), "\u200b"); // the last: a line break at the end counts
}

function drawMarking(sentence, selected, mark, narrow) {
  const word = selected && between(sentence, selected.start, selected.end);
  const particle = word && particleOf(word);
  const choice = (type) =>
    button(say("types")[type ?? "open"], () => mark(type), {
      class: `type-${type ?? "open"}`,
      disabled: !word,
    });
  const without = () => [
    el("span", { class: "note" }, say("particle", particle)),
    button(say("without", particle), () => narrow(particle)),
  ];
  fill(
    marking,
    el(
      "p",
      { id: "marking-label", class: word ? "question" : "note" },
      word
        ? say("marking", word)
        : [
            el("span", { class: "by-mouse" }, `${say("markingHow")} ${say("markingKeys")}`),
            el("span", { class: "by-touch" }, say("markingTouch")),
          ],
    ),
    particle && el("div", { class: "line" }, without()),
    el("div", { class: "line" }, [...TYPES, null].map(choice)),
    el("p", { class: "note" }, say("typeHint")),
  );
}
