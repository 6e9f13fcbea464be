/** Answers: relations with their probabilities, which members voted, and where the time went. */

import { el, fill, wide } from "./dom.js";
import { number, percent, say, currentLanguage } from "./language.js";

const FEW = 5;
const NO_RELATION = "no_relation";

/**
 * Shows the answer to one pair.
 * `served` is the document of /info, `names` its two words.
 */
export function showPair(container, prediction, names, served, times) {
  fill(
    container,
    headline(names, prediction, served),
    bars(prediction, served),
    voters(prediction, served),
    reading(prediction),
    timing(times),
  );
}

/**
 * Shows the answers to all pairs of a sentence, best first, then those without a relation.
 * `askPair` resolves to the prediction of one pair.
 */
export function showPairs(container, { relations, pairs }, subject, served, times, askPair) {
  if (pairs === 0) {
    fill(container, el("p", { class: "note" }, say("noPairs")));
    return;
  }
  const found = new Set(relations.map((pair) => `${pair.subject} ${pair.object}`));
  const others = subject.pairs().filter((pair) => !found.has(`${pair.subject} ${pair.object}`));
  const names = (pair) => [subject.word(pair.subject), subject.word(pair.object)];
  fill(
    container,
    el("p", { class: "summary" }, say("pairs", relations.length, pairs)),
    el(
      "ol",
      { class: "pairs" },
      relations.map((pair) => el("li", {}, foldedPair(pair, names(pair), served))),
    ),
    others.length > 0 && el("h3", { class: "heading" }, say("unrelated", others.length)),
    el(
      "ul",
      { class: "pairs unrelated" },
      others.map((pair) => el("li", {}, unrelatedPair(pair, names(pair), served, askPair))),
    ),
    timing(times),
  );
}

export function relationName(label, served) {
  return served.labels.find((relation) => relation.label === label)?.name[currentLanguage()] ?? label;
}

function headline(names, { relation, score }, served) {
  const { definition } = served.labels.find(({ label }) => label === relation) ?? {};
  return el(
    "div",
    { class: `headline${relation === NO_RELATION ? " none" : ""}` },
    el(
      "div",
      { class: "arc" },
      el("span", { class: "end", lang: "ko" }, names[0]),
      el("span", { class: "thread" }, el("span", { class: "relation" }, relationName(relation, served))),
      el("span", { class: "end", lang: "ko" }, names[1]),
    ),
    el("p", { class: "line certain" }, el("strong", {}, percent(score)), el("code", {}, relation)),
    definition && el("p", { class: "definition" }, definition[currentLanguage()]),
  );
}

function bars({ probabilities }, served) {
  const all = Object.entries(probabilities);
  const list = el("ol", { class: "bars" });
  const more = el("button", { type: "button", class: "quiet", "aria-expanded": "false" }, say("showAll"));
  const draw = (open) => {
    fill(
      list,
      all.slice(0, open ? all.length : FEW).map(([label, share]) => bar(label, share, served)),
    );
    more.textContent = say(open ? "showFew" : "showAll");
    more.setAttribute("aria-expanded", String(open));
  };
  more.addEventListener("click", () => draw(more.getAttribute("aria-expanded") === "false"));
  draw(false);
  return el("div", {}, list, all.length > FEW && more);
}

function bar(label, share, served) {
  const title = served.labels.find((relation) => relation.label === label)?.definition[currentLanguage()];
  return el(
    "li",
    { title },
    el("span", { class: "name" }, relationName(label, served), " ", el("code", {}, label)),
    el("span", { class: "share" }, percent(share)),
    el("span", { class: "track" }, wide(el("span", { class: "filled" }), share)),
  );
}

function voters({ members: voted }, served) {
  const members = served.members ?? [];
  if (members.length === 0) return null;
  const threshold = served.cascade_thresholds?.[voted - 1];
  const sentence =
    voted < members.length
      ? say("votedSome", voted, members.length, threshold && `${number(threshold * 100)}%`)
      : say("votedAll", voted);
  const dots = members.map(({ name, layers }, index) => {
    const words = say("memberVoted", name, layers, index < voted);
    return el(
      "li",
      { class: index < voted ? "voted" : null, title: words },
      el("span", { class: "unseen" }, words),
    );
  });
  return el("div", { class: "voters line" }, el("ul", { class: "dots" }, dots), el("span", {}, sentence));
}

const reading = ({ truncated }) =>
  el("p", { class: truncated ? "notice" : "note" }, say(truncated ? "truncated" : "whole"));

function timing(times) {
  const total = Object.values(times).reduce((sum, ms) => sum + ms, 0);
  const stages = Object.entries(times);
  return el(
    "div",
    { class: "timing" },
    el("p", { class: "note" }, say("took", number(Number(total.toFixed(1))))),
    el(
      "div",
      { class: "stack", "aria-hidden": true },
      stages.map(([name, ms]) => wide(el("span", { class: `stage-${name}` }), ms / total)),
    ),
    el(
      "ul",
      { class: "legend" },
      stages.map(([name, ms]) =>
        el("li", { class: `stage-${name}` }, `${say("stages")[name]} ${number(Number(ms.toFixed(1)))} ms`),
      ),
    ),
  );
}

function foldedPair(pair, names, served) {
  return el(
    "details",
    {},
    el(
      "summary",
      {},
      el("span", { class: "who", lang: "ko" }, `${names[0]} → ${names[1]}`),
      el("span", { class: "name" }, relationName(pair.relation, served)),
      el("span", { class: "share" }, percent(pair.score)),
      el("span", { class: "track" }, wide(el("span", { class: "filled" }), pair.score)),
    ),
    el(
      "div",
      { class: "inside" },
      headline(names, pair, served),
      bars(pair, served),
      voters(pair, served),
      reading(pair),
    ),
  );
}

function unrelatedPair(pair, names, served, askPair) {
  const inside = el("div", { class: "inside" });
  const open = async (event) => {
    if (!event.target.open || inside.childElementCount) return;
    const prediction = await askPair(pair);
    if (prediction) fill(inside, bars(prediction, served), voters(prediction, served), reading(prediction));
  };
  return el(
    "details",
    { on: { toggle: open } },
    el(
      "summary",
      {},
      el("span", { class: "who", lang: "ko" }, `${names[0]} → ${names[1]}`),
      el("span", { class: "share quiet" }, say("probabilities")),
    ),
    inside,
  );
}
