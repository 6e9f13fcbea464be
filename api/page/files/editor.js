/**
 * The sentence, and marking in it. The text is an ordinary text field, so typing, selecting, undo and screen
 * readers work as everywhere. The marks are drawn by a copy of the text under the field.
 */

import { TYPES, MOST_ENTITIES } from "./case.js";
import { byId, el, fill } from "./dom.js";
import { particleOf } from "./josa.js";
import { inEveryLanguage, say } from "./language.js";
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

  const look = () => {
    const now = selection();
    if (now?.start === selected?.start && now?.end === selected?.end) return;
    selected = now;
    draw();
  };
  const draw = () => {
    drawMirror(subject, selected);
    drawMarking(subject.sentence, selected, mark, narrow);
  };
  const mark = (type, byKeyboard) => {
    const { start, end } = selected;
    const word = between(subject.sentence, start, end);
    selected = null;
    field.setSelectionRange(field.selectionEnd, field.selectionEnd);
    if (byKeyboard) field.focus(); // by touch the focus would open the keyboard again
    announce(
      subject.mark(start, end, type)
        ? say("marked", word, say("types")[type ?? "open"])
        : say("full", MOST_ENTITIES),
    );
    draw();
  };
  const narrow = (particle) => {
    const end = toUnits(subject.sentence, selected.end + 1) - particle.length;
    field.setSelectionRange(toUnits(subject.sentence, selected.start), end);
    look();
    marking.querySelector("button")?.focus();
  };

  field.addEventListener("input", () => {
    selected = null;
    subject.edit(field.value);
  });
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    look();
    if (selected) marking.querySelector("button")?.focus();
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
  const points = [...sentence];
  const roles =
    entities.length === 2 ? [say("subject"), say("object")] : entities.map((_, index) => String(index + 1));
  const marks = entities.map(({ start, end, type }, index) => ({
    start,
    end,
    kind: type ?? "open",
    tag: roles[index],
  }));
  if (selected) marks.push({ ...selected, kind: "selected", tag: "" });
  marks.sort((one, other) => one.start - other.start);
  const parts = [];
  let place = 0;
  for (const { start, end, kind, tag } of marks) {
    if (start === undefined || start < place || end >= points.length) continue; // no span, or under the selection
    parts.push(points.slice(place, start).join(""));
    parts.push(el("mark", { class: `type-${kind}`, "data-tag": tag }, points.slice(start, end + 1).join("")));
    place = end + 1;
  }
  fill(mirror, parts, points.slice(place).join(""), "\u200b"); // the last: a line break at the end counts
}

function drawMarking(sentence, selected, mark, narrow) {
  const word = selected && between(sentence, selected.start, selected.end);
  const particle = word && particleOf(word);
  const question = word ? say("marking", word) : say("markingEmpty");
  fill(
    marking,
    el("span", { id: "marking-label", class: "question" }, question),
    word &&
      el(
        "div",
        { class: "line" },
        [...TYPES, null].map((type) =>
          el(
            "button",
            {
              type: "button",
              class: `type-${type ?? "open"}`,
              on: { click: (event) => mark(type, event.detail === 0) },
            },
            say("types")[type ?? "open"],
          ),
        ),
        particle &&
          el(
            "button",
            { type: "button", class: "quiet", on: { click: () => narrow(particle) } },
            say("without", particle),
          ),
      ),
  );
}
