/**
 * A case as a link: `#text=이순신은…&e=0-2:PER&e="무신":POH`.
 * It is in the fragment, which browsers never send to a server.
 */

import { TYPES } from "./case.js";

const ENTITY = /^(?:(\d+)-(\d+)|"(.+)")(?::([A-Z]{3}))?$/s;

export function toFragment({ sentence, entities }) {
  const fields = new URLSearchParams({ text: sentence });
  for (const { word, start, end, type } of entities) {
    fields.append("e", (start === undefined ? `"${word}"` : `${start}-${end}`) + (type ? `:${type}` : ""));
  }
  return `#${fields}`;
}

/** The case of a fragment; null if it holds none. `broken` counts the entities that cannot be read. */
export function fromFragment(fragment) {
  const fields = new URLSearchParams(fragment.slice(1));
  const sentence = fields.get("text");
  if (!sentence) return null;
  const read = fields.getAll("e").map((text) => readEntity(text, [...sentence].length));
  const entities = read.filter(Boolean);
  return { sentence, entities, broken: read.length - entities.length };
}

function readEntity(text, length) {
  const [, start, end, word, named] = ENTITY.exec(text) ?? [];
  const type = TYPES.includes(named) ? named : null;
  if (word) return { word, type };
  const fits = start !== undefined && Number(start) <= Number(end) && Number(end) < length;
  return fits ? { start: Number(start), end: Number(end), type } : null;
}
