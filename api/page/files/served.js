/** What answers here: bundle, quality, device, limits, as /info tells them. */

import { el, fill } from "./dom.js";
import { number, say } from "./language.js";

export const MEGABYTE = 1e6;
const MEBIBYTE = 1024 * 1024;

/** The layers of all members: one of a shared trunk has only its own. */
export const layersOf = (members) => members.reduce((sum, { layers }) => sum + layers, 0);

export const lines = (texts) => texts.map((text) => el("span", { class: "one" }, text));

export function showServed(container, served) {
  const { bundle, device, lanes, members, quality, limits, source, version } = served;
  const { bundle_bytes: bytes, max_length: window } = served;
  const facts = {
    bundle: bundle && say("bundleFact", bundle, number(Math.round(bytes / MEGABYTE))),
    members: members && say("memberFact", members.length, layersOf(members)),
    quality:
      quality &&
      say("qualityFact", quality.micro_f1.toFixed(1), quality.auprc.toFixed(1), number(quality.rows)),
    device: device && say("deviceFact", device, lanes),
    limits: say(
      "limitsFact",
      number(limits.max_examples),
      number(Math.round(limits.max_body_bytes / MEBIBYTE)),
      number(limits.request_timeout_s),
    ),
    window: window && say("windowFact", number(window)),
    version,
    source: source && lines([source.encoder, source.data, ...source.licences]),
  };
  const named = Object.entries(facts).filter(([, fact]) => fact);
  fill(
    container,
    el(
      "dl",
      { class: "facts" },
      named.map(([name, fact]) =>
        el("div", { class: name }, el("dt", {}, say("facts")[name]), el("dd", {}, fact)),
      ),
    ),
    quality && el("p", { class: "note" }, say("qualityNote")),
  );
}
