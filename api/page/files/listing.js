/** The rows of the table with their answers: sorted, filtered, compared with their labels. */

import { relationName } from "./answer.js";
import { button, el, fill, wide } from "./dom.js";
import { rowFaultLines } from "./faults.js";
import { number, percent, say } from "./language.js";
import { withMarks } from "./marks.js";
import { asCase } from "./rows.js";
import { FORMS, save } from "./saving.js";

const SORTS = {
  place: (one, other) => one.place - other.place,
  score: (one, other) => (one.prediction?.score ?? 2) - (other.prediction?.score ?? 2),
};

/**
 * Fills `list` with the rows that `table` shows.
 * `open` shows one row in the editor; `draw` draws the table again after a change.
 */
export function listRows(list, table, served, { open, draw }) {
  const { rows } = table;
  if (rows.length === 0 || !served) return fill(list);
  const withLabels = rows.some((row) => row.label !== null);
  const change = (changes) => {
    Object.assign(table, changes);
    draw();
  };
  const shown = chosen(table);
  const body = shown.map((row) => line(row, withLabels, served, open));
  const region = { class: "scroll", tabindex: 0, role: "region", "aria-label": say("tableLabel") };
  return fill(
    list,
    withLabels && agreement(rows),
    tools(table, withLabels, shown.length, served, change),
    el("div", region, el("table", {}, heads(table, withLabels, change), el("tbody", {}, body))),
  );
}

const differs = ({ label, prediction }) => prediction && label !== null && label !== prediction.relation;

/** The rows that pass the filters, in the order that was asked for. */
function chosen({ rows, relation, different, sort, down }) {
  return rows
    .filter((row) => !relation || row.prediction?.relation === relation)
    .filter((row) => !different || differs(row))
    .sort((one, other) => SORTS[sort](one, other) * (down ? -1 : 1));
}

function agreement(rows) {
  const labelled = rows.filter((row) => row.label !== null && row.prediction);
  if (labelled.length === 0) return null;
  const same = labelled.filter((row) => !differs(row)).length;
  const share = percent(same / labelled.length);
  return el("p", { class: "summary" }, say("agreement", number(same), number(labelled.length), share));
}

function tools(table, withLabels, shown, served, change) {
  return el(
    "div",
    { class: "line tools" },
    relationFilter(table, served, change),
    withLabels && differenceFilter(table, change),
    el("span", { class: "note" }, say("rowsShown", number(shown))),
    el("span", { class: "space" }),
    Object.entries(FORMS).map(([name, form]) =>
      button(say("download", name), () => save(form, table.rows), { class: "quiet", "data-focus": name }),
    ),
  );
}

function relationFilter({ rows, relation }, served, change) {
  const counts = new Map();
  for (const { prediction } of rows) {
    if (prediction) counts.set(prediction.relation, (counts.get(prediction.relation) ?? 0) + 1);
  }
  const options = [...counts]
    .sort((one, other) => other[1] - one[1])
    .map(([label, count]) => [label, `${relationName(label, served)} (${number(count)})`]);
  const choose = (event) => change({ relation: event.target.value });
  return el(
    "select",
    { "aria-label": say("filter"), "data-focus": "filter", on: { change: choose } },
    [["", say("allRelations")], ...options].map(([value, words]) =>
      el("option", { value, selected: value === relation }, words),
    ),
  );
}

function differenceFilter({ different }, change) {
  const choose = (event) => change({ different: event.target.checked });
  const box = { type: "checkbox", checked: different, "data-focus": "different", on: { change: choose } };
  return el("label", { class: "check" }, el("input", box), say("onlyDifferent"));
}

function heads({ sort, down }, withLabels, change) {
  const head = (column) => {
    const words = say("columns")[column];
    if (!(column in SORTS)) return el("th", { scope: "col" }, words);
    const sorted = sort === column ? (down ? "descending" : "ascending") : "none";
    const again = () => change({ sort: column, down: sort === column ? !down : column === "score" });
    const attributes = { "aria-label": say("sortBy", words), "data-focus": `sort-${column}` };
    return el("th", { scope: "col", "aria-sort": sorted }, button(words, again, attributes));
  };
  const columns = ["place", "sentence", "relation", "score", ...(withLabels ? ["label"] : [])];
  return el("thead", {}, el("tr", {}, columns.map(head)));
}

function line(row, withLabels, served, open) {
  const { place, example, faults } = row;
  const edit = () => open(asCase(example));
  return el(
    "tr",
    { class: faults ? "faulty" : null },
    el("td", { class: "place" }, String(place)),
    el(
      "td",
      { class: "text", lang: "ko" },
      button(marked(example), edit, { class: "row", title: say("openRow") }),
    ),
    faults ? el("td", { colspan: 2 }, rowFaultLines(faults)) : answerCells(row, served),
    withLabels && labelCell(row, served),
  );
}

function answerCells({ prediction }, served) {
  if (!prediction) return [el("td", {}, "…"), el("td")];
  const { relation, score } = prediction;
  const bar = el("span", { class: "track" }, wide(el("span", { class: "filled" }), score));
  return [
    el("td", {}, `${relationName(relation, served)} `, el("code", {}, relation)),
    el("td", { class: "score" }, percent(score), bar),
  ];
}

function labelCell(row, served) {
  const { label, prediction } = row;
  if (label === null) return el("td");
  if (!prediction) return el("td", {}, relationName(label, served));
  const wrong = differs(row);
  return el(
    "td",
    { class: wrong ? "different" : "same" },
    `${wrong ? "✗" : "✓"} ${relationName(label, served)}`,
  );
}

/** A row's sentence with its two entities marked, if their places are known. */
function marked(example) {
  const { sentence, entities } = asCase(example);
  return withMarks(
    sentence,
    entities.map(({ start, end, type }) => ({ start, end, kind: type })),
  );
}
