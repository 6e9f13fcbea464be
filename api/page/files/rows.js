/**
 * Reads a file of rows: JSONL, a JSON list, or CSV with KLUE-RE's columns (comma, semicolon or tab).
 *
 * A row is `{place, example, label, guid, faults}`: `example` is what the API is asked, `faults` say why it
 * cannot be asked. What an example needs is the API's to judge.
 */

import { onlyPlace } from "./offsets.js";

export const MOST_ROWS = 1000;

/** A file that cannot be read. `reason` names a sentence of words.js, `values` fill it. */
export class UnreadableFile extends Error {
  constructor(reason, ...values) {
    super(reason);
    this.reason = reason;
    this.values = values;
  }
}

/** The rows of a file, and how many it has. Only the first thousand are kept. */
export function readRows(name, bytes) {
  const text = decode(bytes);
  const records = /\.(csv|tsv)$/i.test(name) ? fromCsv(text) : fromJson(text);
  if (records.length === 0) throw new UnreadableFile("fileEmpty");
  return { rows: records.slice(0, MOST_ROWS).map(toRow), total: records.length };
}

/** UTF-8, UTF-16 with its mark, or cp949, in which Korean spreadsheets save CSV. */
function decode(bytes) {
  const [first, second] = new Uint8Array(bytes, 0, Math.min(2, bytes.byteLength));
  if (first === 0xff && second === 0xfe) return new TextDecoder("utf-16le").decode(bytes);
  if (first === 0xfe && second === 0xff) return new TextDecoder("utf-16be").decode(bytes);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder("euc-kr").decode(bytes); // browsers read all of cp949 under this name
  }
}

function fromJson(text) {
  try {
    const document = JSON.parse(text);
    const list = Array.isArray(document) ? document : (document.examples ?? document.data ?? [document]);
    if (Array.isArray(list)) return list;
  } catch {
    // One document per line, then.
  }
  return text.split("\n").flatMap((line, index) => {
    if (!line.trim()) return [];
    try {
      return [JSON.parse(line)];
    } catch {
      throw new UnreadableFile("fileBroken", index + 1);
    }
  });
}

function fromCsv(text) {
  const header = text.slice(0, text.indexOf("\n") + 1 || text.length);
  const separator = [",", ";", "\t"].reduce((best, sign) =>
    header.split(sign).length > header.split(best).length ? sign : best,
  );
  const [columns, ...lines] = cells(text, separator);
  const names = columns?.map((column) => column.trim()) ?? [];
  if (!["sentence", "subject_entity", "object_entity"].every((name) => names.includes(name)))
    throw new UnreadableFile("fileColumns");
  return lines.map((line) => {
    const record = Object.fromEntries(names.map((name, index) => [name, line[index] ?? ""]));
    return {
      ...record,
      subject_entity: entityOf(record.subject_entity),
      object_entity: entityOf(record.object_entity),
    };
  });
}

/** CSV as lists of cells (RFC 4180): quoted cells hold separators, line breaks and doubled quotes. */
function cells(text, separator) {
  const lines = [[]];
  const cell = new RegExp(`(?:"((?:[^"]|"")*)"|([^${separator}\\r\\n]*))(${separator}|\\r?\\n|\\r|$)`, "gy");
  while (cell.lastIndex < text.length) {
    const found = cell.exec(text);
    if (!found) throw new UnreadableFile("fileColumns");
    lines.at(-1).push(found[1]?.replaceAll('""', '"') ?? found[2]);
    if (found[3] !== separator && found[3] !== "") lines.push([]);
  }
  return lines.filter((line) => line.some((value) => value.trim()));
}

/** An entity in a cell: as Python or JSON writes a dictionary, or only its word. */
function entityOf(cell) {
  if (!cell.trim().startsWith("{")) return { word: cell };
  const entity = {};
  const field = /['"](\w+)['"]\s*:\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|(-?\d+))/gs;
  for (const [, name, single, double, digits] of cell.matchAll(field)) {
    entity[name] = digits === undefined ? (single ?? double).replace(/\\(.)/gs, "$1") : Number(digits);
  }
  return entity;
}

function toRow(record, index) {
  const { sentence, subject_entity, object_entity, label, guid } = record ?? {};
  return {
    place: index + 1,
    example: { sentence, subject_entity: entity(subject_entity), object_entity: entity(object_entity) },
    label: typeof label === "string" && label ? label : null,
    guid,
    prediction: null,
    faults: null,
  };
}

/** Only what the API reads; an empty type is one that is not known. */
function entity(sent) {
  if (typeof sent !== "object" || sent === null) return sent;
  const { word, start_idx, end_idx, type } = sent;
  return { word, start_idx, end_idx, type: type || undefined };
}

/** A row's example as a case of the editor. */
export function asCase({ sentence, subject_entity, object_entity }) {
  const text = typeof sentence === "string" ? sentence : "";
  const entities = [subject_entity, object_entity].filter(
    (sent) => typeof sent === "object" && sent !== null,
  );
  return { sentence: text, entities: entities.map((sent) => spanOf(text, sent)) };
}

/** An entity by its indices, or by its word if that occurs once; else only the word. */
function spanOf(sentence, { word, start_idx: start, end_idx: end, type = null }) {
  if (Number.isInteger(start) && Number.isInteger(end)) return { start, end, type };
  return { ...onlyPlace(sentence, String(word ?? "")), type };
}
