/** The table of many: a file's rows with their answers. */

import { Refused } from "./api.js";
import { relationName } from "./answer.js";
import { answerRows } from "./batches.js";
import { el, fill, wide } from "./dom.js";
import { EXAMPLES } from "./examples.js";
import { inEveryLanguage, number, percent, say } from "./language.js";
import { between, toPoints } from "./offsets.js";
import { MOST_ROWS, UnreadableFile, readRows } from "./rows.js";
import { FORMS, save } from "./saving.js";

const SORTS = {
  place: (one, other) => one.place - other.place,
  score: (one, other) => (one.prediction?.score ?? 2) - (other.prediction?.score ?? 2),
};

/**
 * Builds the table in a container.
 * `served` gives the document of /info, `open` shows one row in the editor, `refused` hears of refusals.
 */
export function manyRows(container, { served, open, refused }) {
  const state = {
    rows: [],
    total: 0,
    sort: "place",
    down: false,
    relation: "",
    different: false,
    words: () => "",
    stop: null,
  };
  const place = el("div", { class: "drop" });
  const status = el("div", { class: "status" });
  const result = el("div", {});
  container.append(place, status, result);

  const draw = () => {
    drawDrop(place, load, tryExamples);
    drawStatus(status, state, run);
    drawResult(result, state, served(), open, draw);
  };
  const load = async (file) => {
    state.stop?.abort();
    try {
      Object.assign(state, readRows(file.name, await file.arrayBuffer()), {
        relation: "",
        different: false,
        sort: "place",
        down: false,
      });
    } catch (error) {
      if (!(error instanceof UnreadableFile)) throw error;
      Object.assign(state, { rows: [], words: () => say("fileFaulty", say(error.reason, ...error.values)) });
      draw();
      return;
    }
    await run();
  };
  const tryExamples = () => {
    const lines = EXAMPLES.map(({ sentence, entities: [subject, object] }) =>
      JSON.stringify({
        sentence,
        subject_entity: asSent(sentence, subject),
        object_entity: asSent(sentence, object),
      }),
    );
    return load(new File([lines.join("\n")], "examples.jsonl"));
  };
  const run = async () => {
    const stop = (state.stop = new AbortController());
    const say_ = (words) => {
      state.words = words;
      draw();
    };
    say_(() => "");
    try {
      await answerRows(state.rows, {
        limit: served()?.limits.max_examples ?? 1,
        signal: stop.signal,
        onProgress: () => say_(() => ""),
        onWait: (seconds) => say_(() => say("waiting", seconds)),
      });
      state.stop = null;
      say_(() => say("finished", number(state.rows.length), state.rows.filter((row) => row.fault).length));
    } catch (error) {
      if (state.stop !== stop) return; // another file has begun
      state.stop = null;
      if (error.name === "AbortError") say_(() => say("stopped"));
      else if (error instanceof Refused) {
        say_(() => `${say("status", error.status)} ${error.message}`);
        refused(error);
      } else throw error;
    }
  };

  for (const event of ["dragover", "dragleave", "drop"]) {
    place.addEventListener(event, (dropped) => {
      dropped.preventDefault();
      place.classList.toggle("over", event === "dragover");
      if (event === "drop" && dropped.dataTransfer.files[0]) load(dropped.dataTransfer.files[0]);
    });
  }
  inEveryLanguage(draw);
  return { draw };
}

function asSent(sentence, { start, end, type }) {
  return { word: between(sentence, start, end), start_idx: start, end_idx: end, type };
}

function drawDrop(place, load, tryExamples) {
  const choose = (event) => event.target.files[0] && load(event.target.files[0]);
  fill(
    place,
    el("span", {}, say("drop")),
    el(
      "label",
      { class: "file" },
      el("input", {
        type: "file",
        class: "unseen",
        accept: ".jsonl,.json,.csv,.tsv,.ndjson",
        "data-focus": "file",
        on: { change: choose },
      }),
      say("choose"),
    ),
    el(
      "button",
      { type: "button", class: "quiet", "data-focus": "try", on: { click: tryExamples } },
      say("tryRows"),
    ),
  );
}

function drawStatus(status, { rows, total, words, stop }, run) {
  const done = rows.filter((row) => row.prediction || row.fault).length;
  const unfinished = done < rows.length;
  fill(
    status,
    rows.length > 0 &&
      el(
        "div",
        { class: "line progress" },
        el("progress", { max: rows.length, value: done, "aria-label": say("progress", done, rows.length) }),
        el("span", {}, say("progress", number(done), number(rows.length))),
        stop &&
          el(
            "button",
            { type: "button", "data-focus": "stop", on: { click: () => stop.abort() } },
            say("stop"),
          ),
        !stop &&
          unfinished &&
          el("button", { type: "button", "data-focus": "stop", on: { click: run } }, say("resume")),
      ),
    el("p", { role: "status" }, words()),
    total > MOST_ROWS && el("p", { class: "notice" }, say("fileCut", number(total))),
  );
}

function drawResult(result, state, served, open, draw) {
  const { rows } = state;
  if (rows.length === 0 || !served) return fill(result);
  const labelled = rows.filter((row) => row.label !== null && row.prediction);
  const same = labelled.filter((row) => row.label === row.prediction.relation).length;
  const listed = rows
    .filter((row) => !state.relation || row.prediction?.relation === state.relation)
    .filter(
      (row) =>
        !state.different || (row.prediction && row.label !== null && row.label !== row.prediction.relation),
    )
    .sort((one, other) => SORTS[state.sort](one, other) * (state.down ? -1 : 1));
  const change = (changes) => {
    Object.assign(state, changes);
    draw();
  };
  return fill(
    result,
    labelled.length > 0 &&
      el(
        "p",
        { class: "summary" },
        say("agreement", number(same), number(labelled.length), percent(same / labelled.length)),
      ),
    tools(state, labelled.length > 0, listed.length, served, change),
    el(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": say("tableLabel") },
      el(
        "table",
        {},
        heads(
          state,
          change,
          rows.some((row) => row.label !== null),
        ),
        el(
          "tbody",
          {},
          listed.map((row) => line(row, state.rows, served, open)),
        ),
      ),
    ),
  );
}

function tools(state, withLabels, shown, served, change) {
  const counts = new Map();
  for (const { prediction } of state.rows)
    if (prediction) counts.set(prediction.relation, (counts.get(prediction.relation) ?? 0) + 1);
  const relations = [...counts].sort((one, other) => other[1] - one[1]);
  return el(
    "div",
    { class: "line tools" },
    el(
      "select",
      {
        "aria-label": say("filter"),
        "data-focus": "filter",
        on: { change: (event) => change({ relation: event.target.value }) },
      },
      el("option", { value: "" }, say("allRelations")),
      relations.map(([label, count]) =>
        el(
          "option",
          { value: label, selected: label === state.relation },
          `${relationName(label, served)} (${count})`,
        ),
      ),
    ),
    withLabels &&
      el(
        "label",
        { class: "check" },
        el("input", {
          type: "checkbox",
          checked: state.different,
          "data-focus": "different",
          on: { change: (event) => change({ different: event.target.checked }) },
        }),
        say("onlyDifferent"),
      ),
    el("span", { class: "note" }, say("rowsShown", number(shown))),
    el("span", { class: "space" }),
    Object.keys(FORMS).map((form) =>
      el(
        "button",
        {
          type: "button",
          class: "quiet",
          "data-focus": form,
          on: { click: () => save(FORMS[form], state.rows) },
        },
        say("download", form),
      ),
    ),
  );
}

function heads(state, change, withLabels) {
  const columns = ["place", "sentence", "relation", "score", ...(withLabels ? ["label"] : [])];
  const sorted = (column) => (state.sort === column ? (state.down ? "descending" : "ascending") : "none");
  const sort = (column) =>
    change({ sort: column, down: state.sort === column ? !state.down : column === "score" });
  return el(
    "thead",
    {},
    el(
      "tr",
      {},
      columns.map((column) => {
        const words = say("columns")[column];
        if (!(column in SORTS)) return el("th", { scope: "col" }, words);
        const button = {
          type: "button",
          "aria-label": say("sortBy", words),
          "data-focus": `sort-${column}`,
          on: { click: () => sort(column) },
        };
        return el("th", { scope: "col", "aria-sort": sorted(column) }, el("button", button, words));
      }),
    ),
  );
}

function line(row, rows, served, open) {
  const { place, example, label, prediction, fault } = row;
  const right = prediction && label === prediction.relation;
  return el(
    "tr",
    { class: fault ? "faulty" : null },
    el("td", { class: "place" }, String(place)),
    el(
      "td",
      { class: "text", lang: "ko" },
      el(
        "button",
        { type: "button", class: "row", title: say("openRow"), on: { click: () => open(asCase(example)) } },
        marked(example),
      ),
    ),
    fault
      ? el("td", { colspan: 2, lang: "en", class: "api-says" }, fault)
      : [
          el(
            "td",
            {},
            prediction
              ? [relationName(prediction.relation, served), " ", el("code", {}, prediction.relation)]
              : "…",
          ),
          el(
            "td",
            { class: "score" },
            prediction
              ? [
                  percent(prediction.score),
                  el("span", { class: "track" }, wide(el("span", { class: "filled" }), prediction.score)),
                ]
              : "",
          ),
        ],
    rows.some((other) => other.label !== null) &&
      el(
        "td",
        { class: prediction ? (right ? "same" : "different") : null },
        prediction && label !== null ? `${right ? "✓" : "✗"} ` : "",
        label === null ? "" : relationName(label, served),
      ),
  );
}

/** A row's sentence with its two entities marked, if their places are known. */
function marked({ sentence, subject_entity, object_entity }) {
  if (typeof sentence !== "string") return "";
  const points = [...sentence];
  const spans = asCase({ sentence, subject_entity, object_entity }).entities.filter(
    ({ start, end }) => start !== undefined && end < points.length,
  );
  spans.sort((one, other) => one.start - other.start);
  const parts = [];
  let place = 0;
  for (const { start, end, type } of spans) {
    if (start < place) continue;
    parts.push(
      points.slice(place, start).join(""),
      el("mark", { class: `type-${type ?? "open"}` }, points.slice(start, end + 1).join("")),
    );
    place = end + 1;
  }
  return [...parts, points.slice(place).join("")];
}

/** A row's example as a case of the editor. */
function asCase({ sentence, subject_entity, object_entity }) {
  const entities = [subject_entity, object_entity]
    .filter(Boolean)
    .map(({ word, start_idx, end_idx, type }) => {
      const found = typeof word === "string" ? sentence.indexOf(word) : -1;
      if (Number.isInteger(start_idx) && Number.isInteger(end_idx))
        return { start: start_idx, end: end_idx, type: type ?? null };
      if (found < 0 || sentence.indexOf(word, found + 1) >= 0)
        return { word: word ?? "", type: type ?? null };
      const start = toPoints(sentence, found);
      return { start, end: start + [...word].length - 1, type: type ?? null };
    });
  return { sentence: sentence ?? "", entities };
}
