/** Gives the answers of a table as a file to keep. */

import { el } from "./dom.js";

export const FORMS = {
  JSONL: { name: "predictions.jsonl", type: "application/x-ndjson", text: asJsonLines },
  CSV: { name: "predictions.csv", type: "text/csv", text: asCsv },
};

export function save({ name, type, text }, rows) {
  const address = URL.createObjectURL(new Blob([text(rows)], { type }));
  el("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** The row's faults as the API says them: "object_entity.word: …". */
const errorOf = (faults) =>
  faults?.map(({ loc, msg }) => (loc.length ? `${loc.join(".")}: ${msg}` : msg)).join("; ");

/** One line per row: the fields that scoring writes, or the row's faults. */
function asJsonLines(rows) {
  const line = ({ place, guid, label, prediction, faults }) => ({
    ...(guid === undefined ? { row: place } : { guid }),
    ...(label === null ? {} : { label }),
    ...(prediction ?? { error: errorOf(faults) ?? "not asked" }),
  });
  return rows.map((row) => `${JSON.stringify(line(row))}\n`).join("");
}

/** With a byte order mark: without it Excel reads Korean as something else. */
function asCsv(rows) {
  const header = ["row", "guid", "sentence", "subject", "object", "relation", "score", "label", "error"];
  const lines = rows.map(({ place, guid, example, label, prediction, faults }) => [
    place,
    guid,
    example.sentence,
    example.subject_entity?.word,
    example.object_entity?.word,
    prediction?.relation,
    prediction?.score,
    label,
    errorOf(faults),
  ]);
  const cell = (value) => `"${String(value ?? "").replaceAll('"', '""')}"`;
  return `\ufeff${[header, ...lines].map((line) => line.map(cell).join(",")).join("\r\n")}\r\n`;
}
