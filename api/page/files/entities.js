/** The list of what is marked: the word, its type, its role, and what the API finds wrong with it. */

import { TYPES } from "./case.js";
import { button, byId, el, fill } from "./dom.js";
import { faultLines } from "./faults.js";
import { particleOf } from "./josa.js";
import { inEveryLanguage, say } from "./language.js";

const list = byId("entities");

/** Shows a case's entities. The returned function shows the faults of each, by index. */
export function listEntities(subject) {
  let faults = [];
  const draw = () => {
    const pair = subject.entities.length === 2;
    fill(
      list,
      el(
        "ul",
        { class: "entities", "aria-label": say("entities"), hidden: subject.entities.length === 0 },
        subject.entities.map((entity, index) => item(subject, index, pair, faults[index] ?? [])),
      ),
      pair && button(`⇄ ${say("swap")}`, () => subject.swap(), { class: "quiet", "data-focus": "swap" }),
    );
  };
  subject.addEventListener("change", () => {
    faults = [];
    draw();
  });
  inEveryLanguage(draw);
  return (found) => {
    faults = found;
    draw();
  };
}

function item(subject, index, pair, faults) {
  const { type } = subject.entities[index];
  const word = subject.word(index);
  const about = `entity-${index}-faults`;
  const particle = particleOf(word);
  const change = (event) => subject.setType(index, event.target.value || null);
  const options = [["", say("typeOpen")], ...TYPES.map((name) => [name, `${say("types")[name]} ${name}`])];
  const chosen = el(
    "select",
    {
      "aria-label": say("typeOf", word),
      "aria-invalid": String(faults.length > 0),
      "aria-describedby": faults.length ? about : null,
      "data-focus": `type-${index}`,
      on: { change },
    },
    options.map(([value, words]) => el("option", { value, selected: value === (type ?? "") }, words)),
  );
  return el(
    "li",
    { class: faults.length ? "faulty" : null },
    el(
      "div",
      { class: "line" },
      el("span", { class: "role" }, pair ? say(index ? "object" : "subject") : String(index + 1)),
      el("span", { class: `word type-${type ?? "open"}`, lang: "ko" }, word),
      chosen,
      button("×", () => subject.remove(index), { class: "quiet icon", "aria-label": say("remove", word) }),
    ),
    particle &&
      el(
        "p",
        { class: "line note particle" },
        say("particle", particle),
        button(say("without", particle), () => subject.shorten(index, particle.length), { class: "quiet" }),
      ),
    faults.length > 0 && el("div", { class: "faults", id: about }, faultLines(faults)),
  );
}
