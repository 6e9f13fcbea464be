/**
 * The one place that converts between JavaScript's UTF-16 units and the API's code points.
 * "😀" is two units and one code point.
 */

/** How many code points are before a place that is counted in UTF-16 units. */
export const toPoints = (text, units) => [...text.slice(0, units)].length;

/** The position in UTF-16 units that follows the given number of code points. */
export const toUnits = (text, points) => [...text].slice(0, points).join("").length;

/** The text between two code points; `end` is inclusive, as in the API. */
export const between = (text, start, end) => [...text].slice(start, end + 1).join("");

/** The span of a word that occurs once in a sentence; else `{word}`. */
export function onlyPlace(sentence, word) {
  const first = sentence.indexOf(word);
  if (!word || first < 0 || sentence.indexOf(word, first + 1) >= 0) return { word };
  const start = toPoints(sentence, first);
  return { start, end: start + [...word].length - 1 };
}
