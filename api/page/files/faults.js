/** What the server refuses, in the page's language. The server's own English sentence is under it, small. */

import { el } from "./dom.js";
import { say } from "./language.js";

/** The server's own sentence. */
export const detail = (message) => message && el("span", { lang: "en", class: "api-says" }, message);

/** One paragraph for each fault. The fault's type chooses the sentence. */
export const faultLines = (faults) =>
  faults.map(({ type, msg }) => el("p", {}, sentence(type), detail(msg)));

/** The same for a row of the table: each names the field that `loc` begins with. */
export const rowFaultLines = (faults) =>
  faults.map(({ type, msg, loc: [field] }) => {
    const named = { sentence: "sentence", subject_entity: "subject", object_entity: "object" }[field];
    const words = named ? say("faultAt", say(named), sentence(type)) : sentence(type);
    return el("p", {}, words, detail(msg));
  });

const sentence = (type) => say("faults")[type] ?? say("faults").other;

/** What a status means, and what to do. */
export const statusSentence = (status) => say("statuses")[status] ?? say("statuses").other;
