/** What answers here: bundle, quality, device, limits, as /info tells them. */

import { el, fill } from "./dom.js";
import { number, say } from "./language.js";

const MEBIBYTE = 1024 * 1024;

export function showServed(container, served) {
  const { bundle, device, lanes, members, quality, limits, max_length: window, source, version } = served;
  const facts = {
    bundle,
    members: members?.map(({ name, layers }) => say("memberFact", name, layers)).join(", "),
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
    source: source && [source.encoder, source.data, ...source.licences].join(" · "),
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
