/**
 * Draws the relations of a sentence as arcs between its words: to the right above them, to the left below.
 * The list under the drawing says the same in words, so screen readers skip the drawing.
 */

import { drawn } from "./dom.js";

const STEP = 130;
const RISE = 34; // of an arc, for each word that it passes
const GAP = 15; // between a word's middle and its arcs
const LONGEST = 9;

export function arcs(words, relations) {
  const distance = ({ subject, object }) => object - subject;
  const above = Math.max(0, ...relations.map(distance)) * RISE + GAP + 6;
  const below = Math.max(0, ...relations.map((pair) => -distance(pair))) * RISE + GAP + 6;
  const middle = (index) => STEP * (index + 0.5);
  return drawn(
    "svg",
    { class: "arcs", viewBox: `0 0 ${STEP * words.length} ${above + below}`, "aria-hidden": "true" },
    drawn(
      "marker",
      { id: "tip", viewBox: "0 0 8 8", refX: 6, refY: 4, markerWidth: 5, markerHeight: 5, orient: "auto" },
      drawn("path", { d: "M1 1 6.5 4 1 7" }),
    ),
    relations.map((pair) => arc(middle(pair.subject), middle(pair.object), above, pair)),
    words.map((word, index) =>
      drawn(
        "text",
        { x: middle(index), y: above + 5 },
        word.length > LONGEST ? `${word.slice(0, LONGEST)}…` : word,
      ),
    ),
  );
}

/** An arc from a word to another; the more certain the relation, the darker. */
function arc(from, to, level, { subject, object, score }) {
  const up = to > from ? -1 : 1;
  const start = from - up * 10;
  const end = to + up * 10;
  const base = level + up * GAP;
  const top = base + up * Math.abs(object - subject) * RISE * 1.3;
  const path = `M${start} ${base} C${start - up * 14} ${top} ${end + up * 14} ${top} ${end} ${base}`;
  return drawn("path", {
    class: "relating",
    d: path,
    "stroke-opacity": (0.25 + 0.75 * score).toFixed(2),
    "marker-end": "url(#tip)",
  });
}
