/**
 * The one place that converts between JavaScript's UTF-16 units and the API's code points.
 * "😀" is two units and one code point.
 */

/** How many code points are before a place that is counted in UTF-16 units. */
export const toPoints = (text, units) => [...text.slice(0, units)].length;

/** The place in UTF-16 units before which there are so many code points. */
export const toUnits = (text, points) => [...text].slice(0, points).join("").length;

/** The text between two code points; `end` is inclusive, as in the API. */
export const between = (text, start, end) => [...text].slice(start, end + 1).join("");
