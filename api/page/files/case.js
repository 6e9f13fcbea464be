/**
 * What the page is about: one sentence and its entities.
 *
 * An entity is `{start, end, type}` in code points, `end` inclusive as in the API, or `{word, type}` if only
 * its word is known. A type of null is left open. With two entities the first is the subject.
 */

import { between, onlyPlace } from "./offsets.js";

export const TYPES = ["PER", "ORG", "LOC", "DAT", "POH", "NOH"];
export const MOST_ENTITIES = 16;
const SUBJECTS = ["PER", "ORG", null];

export class Case extends EventTarget {
  sentence = "";
  entities = [];

  /** Takes another sentence with its entities. `how` says why: "loaded" by the user, or only "shown". */
  load({ sentence, entities }, how = "loaded") {
    this.sentence = sentence;
    this.entities = entities.slice(0, MOST_ENTITIES);
    this.#changed(how);
  }

  /** Takes the sentence as the user has edited it. Entities move with their text. */
  edit(sentence) {
    const before = [...this.sentence];
    const after = [...sentence];
    let head = 0;
    while (head < before.length && head < after.length && before[head] === after[head]) head++;
    let tail = 0;
    const most = Math.min(before.length, after.length) - head;
    while (tail < most && before[before.length - 1 - tail] === after[after.length - 1 - tail]) tail++;
    const cut = { from: head, to: before.length - tail, grown: after.length - before.length };
    this.sentence = sentence;
    this.entities = this.entities.map((entity) => moved(entity, cut)).filter(Boolean);
    this.#changed("edited");
  }

  /** Marks a span. What overlaps it is no longer marked. Returns whether there was room for it. */
  mark(start, end, type) {
    const outside = (other) => other.start === undefined || other.end < start || other.start > end;
    const same = this.entities.findIndex((other) => other.start === start && other.end === end);
    if (same >= 0) {
      this.setType(same, type);
      return true;
    }
    return this.#add(this.entities.filter(outside), { start, end, type });
  }

  /** Adds an entity by its word. Unless it occurs once, the API says why it cannot find it. */
  addWord(word, type) {
    const place = onlyPlace(this.sentence, word);
    return place.word ? this.#add(this.entities, { word, type }) : this.mark(place.start, place.end, type);
  }

  setType(index, type) {
    this.entities[index] = { ...this.entities[index], type };
    this.#changed("marked");
  }

  /** Leaves the last characters of a mark out. */
  shorten(index, count) {
    const { word, start, end, type } = this.entities[index];
    this.entities[index] =
      start === undefined
        ? { ...onlyPlace(this.sentence, word.slice(0, -count)), type }
        : { start, end: end - count, type };
    this.#changed("marked");
  }

  remove(index) {
    this.entities.splice(index, 1);
    this.#changed("marked");
  }

  swap() {
    this.entities.reverse();
    this.#changed("marked");
  }

  word(index) {
    const { word, start, end } = this.entities[index];
    return start === undefined ? word : between(this.sentence, start, end);
  }

  /** The request that asks about this case: two entities as one example, more as all their pairs. */
  request() {
    const entities = this.entities.map(({ start, end, type }, index) => ({
      word: this.word(index),
      ...(start === undefined ? {} : { start_idx: start, end_idx: end }),
      ...(type === null ? {} : { type }),
    }));
    const [subject_entity, object_entity] = entities;
    return entities.length === 2
      ? { sentence: this.sentence, subject_entity, object_entity, top_k: 30 }
      : { sentence: this.sentence, entities, top_k: 30 };
  }

  /** The ordered pairs that the API asks: KLUE's subjects are persons and organisations. */
  pairs() {
    const indices = this.entities.map((_, index) => index);
    return indices
      .filter((subject) => SUBJECTS.includes(this.entities[subject].type))
      .flatMap((subject) =>
        indices.filter((object) => object !== subject).map((object) => ({ subject, object })),
      );
  }

  #add(others, entity) {
    if (others.length >= MOST_ENTITIES) return false;
    this.entities = [...others, entity];
    const [first, second] = this.entities;
    const turned =
      this.entities.length === 2 && !SUBJECTS.includes(first.type) && SUBJECTS.includes(second.type);
    if (turned) this.entities.reverse(); // a date or a place is never the subject
    this.#changed("marked");
    return true;
  }

  #changed(how) {
    this.dispatchEvent(new CustomEvent("change", { detail: how }));
  }
}

/** An entity after the text `from`-`to` was replaced by one that is `grown` longer; null if it is gone. */
function moved(entity, { from, to, grown }) {
  const { start, end } = entity;
  if (start === undefined || end < from) return entity;
  if (start >= to) return { ...entity, start: start + grown, end: end + grown };
  const inside = start <= from && to <= end + 1;
  const left = inside ? end + grown : Math.min(end, from - 1);
  const begins = inside || start < from ? start : to + grown;
  const stops = start < from || inside ? left : end + grown;
  return stops >= begins ? { ...entity, start: begins, end: stops } : null;
}
