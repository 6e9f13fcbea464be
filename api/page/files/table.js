/** The table of many: takes a file, asks for its rows, and shows how far it is. */

import { Refused } from "./api.js";
import { answerRows } from "./batches.js";
import { button, el, fill } from "./dom.js";
import { EXAMPLES } from "./examples.js";
import { detail, statusSentence } from "./faults.js";
import { inEveryLanguage, number, say } from "./language.js";
import { listRows } from "./listing.js";
import { between } from "./offsets.js";
import { MOST_ROWS, UnreadableFile, readRows } from "./rows.js";

const FILE_ENDINGS = ".jsonl,.ndjson,.json,.csv,.tsv";
const VIEW = { sort: "place", down: false, relation: "", different: false };

/**
 * Builds the table in a container.
 * `served` gives the document of /info; `open` shows one row in the editor; `refused` hears of a refusal that
 * ends the work; `announce` tells a screen reader a sentence.
 */
export function manyRows(container, { served, open, refused, announce }) {
  const table = { ...VIEW, rows: [], total: 0, words: () => "", said: "", stop: null };
  const drop = el("div", { class: "drop" });
  const status = el("div", { class: "status" });
  const list = el("div");
  container.append(drop, status, list);

  const draw = () => {
    drawDrop(drop, load);
    drawStatus(status, table, run);
    listRows(list, table, served(), { open, draw });
  };
  const tell = (words = () => "", said = "") => {
    Object.assign(table, { words, said }); // what the page says, and the server's own sentence
    draw();
  };
  const load = async (file) => {
    table.stop?.abort();
    table.stop = null;
    try {
      Object.assign(table, VIEW, readRows(file.name, await file.arrayBuffer()));
    } catch (error) {
      if (!(error instanceof UnreadableFile)) throw error;
      Object.assign(table, { rows: [], total: 0 });
      tell(() => say("fileFaulty", say(error.reason, ...error.values)));
      return;
    }
    await run();
  };
  const run = async () => {
    const stop = new AbortController();
    table.stop = stop;
    tell();
    const [ending, said] = await endOfWork(table.rows, {
      limit: served()?.limits.max_examples ?? 1,
      signal: stop.signal,
      onProgress: () => tell(),
      onWait: (seconds) => tell(() => say("waiting", seconds)),
      refused,
    });
    if (table.stop !== stop) return; // another file has begun
    table.stop = null;
    tell(ending, said);
    announce(ending());
  };

  for (const kind of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      const [file] = event.dataTransfer.files;
      if (kind === "drop" && file) load(file);
    });
  }
  inEveryLanguage(draw);
  return draw;
}

/** Asks for the rows' answers; returns a function that says how that ended, and the server's own sentence. */
async function endOfWork(rows, { refused, ...options }) {
  try {
    await answerRows(rows, options);
    const failed = rows.filter((row) => row.faults).length;
    return [() => say("finished", number(rows.length), failed)];
  } catch (error) {
    if (error.name === "AbortError") return [() => say("stopped")];
    if (!(error instanceof Refused)) throw error;
    refused(error);
    return [() => statusSentence(error.status), error.message];
  }
}

function drawDrop(drop, load) {
  const change = (event) => event.target.files[0] && load(event.target.files[0]);
  const field = { type: "file", class: "unseen", accept: FILE_ENDINGS, "data-focus": "file", on: { change } };
  fill(
    drop,
    el("span", {}, say("drop")),
    el("label", { class: "file" }, el("input", field), say("choose")),
    button(say("tryRows"), () => load(examplesFile()), { class: "quiet", "data-focus": "try" }),
  );
}

/** The page's examples as a file of rows: the first two entities of each. */
function examplesFile() {
  const asRow = ({ sentence, entities }) => {
    const [subject_entity, object_entity] = entities.map(({ start, end, type }) => ({
      word: between(sentence, start, end),
      start_idx: start,
      end_idx: end,
      type,
    }));
    return JSON.stringify({ sentence, subject_entity, object_entity });
  };
  return new File([EXAMPLES.map(asRow).join("\n")], "examples.jsonl");
}

function drawStatus(status, { rows, total, words, said, stop }, run) {
  const done = rows.filter((row) => row.prediction || row.faults).length;
  const control = () => {
    if (stop) return button(say("stop"), () => stop.abort(), { "data-focus": "stop" });
    return done < rows.length && button(say("resume"), run, { "data-focus": "stop" });
  };
  const progress = () => {
    const sentence = say("progress", number(done), number(rows.length));
    const bar = el("progress", { max: rows.length, value: done, "aria-label": sentence });
    return el("div", { class: "line" }, bar, el("span", {}, sentence), control());
  };
  fill(
    status,
    rows.length > 0 && progress(),
    el("p", {}, words(), detail(said)),
    total > MOST_ROWS && el("p", { class: "notice" }, say("fileCut", number(total))),
  );
}
