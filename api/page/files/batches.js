/** Asks for the answers to many rows, in batches, as a polite client does. */

import { Refused, relations } from "./api.js";

const BATCH = 32;
const ALWAYS = Infinity;

/**
 * Fills in each row's `prediction` or `faults`.
 *
 * 1. Take the next rows without either.
 * 2. Ask for them in one request. A busy server is asked again when it says so.
 * 3. Too large (413): halve the batch. Bad rows (422): they get their faults, the others are asked again.
 * 4. Tell `onProgress`, and go on until every row has one of both or `signal` stops it.
 *
 * Throws Refused when the server gives another refusal: rows that have no answer then can be asked later.
 */
export async function answerRows(rows, { limit, signal, onProgress, onWait }) {
  let size = Math.min(BATCH, limit);
  for (;;) {
    signal.throwIfAborted();
    const batch = rows.filter((row) => !row.prediction && !row.faults).slice(0, size);
    if (batch.length === 0) return;
    try {
      const body = { examples: batch.map((row) => row.example), top_k: 30 };
      const { answer } = await relations(body, { signal, patience: ALWAYS, onWait });
      batch.forEach((row, index) => (row.prediction = answer.predictions[index]));
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (error.status === 413 && batch.length > 1) size = Math.ceil(batch.length / 2);
      else if (error.status === 413) batch[0].faults = [{ type: "too_large", loc: [], msg: error.message }];
      else if (error.status !== 422 || !setAside(batch, error.faults)) throw error;
    }
    onProgress();
  }
}

/** Gives the bad rows of a refused batch their faults; returns whether there were any. */
function setAside(batch, faults) {
  const found = faults.filter(({ loc }) => loc[1] === "examples" && batch[loc[2]]);
  for (const { loc, ...fault } of found) {
    const row = batch[loc[2]];
    row.faults = [...(row.faults ?? []), { ...fault, loc: loc.slice(3) }];
  }
  return found.length > 0;
}
