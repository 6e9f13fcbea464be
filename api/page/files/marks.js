/** Draws a sentence with its marks. */

import { el } from "./dom.js";

/**
 * The sentence as text and marks. A span is `{start, end, kind, tag}` in code points; one that is outside the
 * sentence, or overlaps an earlier one, is left out.
 */
export function withMarks(sentence, spans) {
  const points = [...sentence];
  const text = (start, end) => points.slice(start, end).join("");
  const parts = [];
  let place = 0;
  for (const { start, end, kind, tag } of spans.toSorted((one, other) => one.start - other.start)) {
    if (start === undefined || start < place || end >= points.length) continue;
    parts.push(
      text(place, start),
      el("mark", { class: `type-${kind ?? "open"}`, "data-tag": tag }, text(start, end + 1)),
    );
    place = end + 1;
  }
  return [...parts, text(place)];
}
