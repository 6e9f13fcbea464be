/** Answers: relations with their probabilities, which members voted, and where the time went. */

import { arcs } from "./arcs.js";
import { button, el, fill, wide } from "./dom.js";
import { number, percent, say, currentLanguage } from "./language.js";

const FEW = 5;
const MOST_ARCS = 6; // words; more would be too small to read
const NO_RELATION = "no_relation";

/**
 * The answer to one pair as a view: `draw` gives its elements, `inWords` a sentence for a screen reader.
 * `words` are the subject's and the object's; `served` is the document of /info.
 */
export function showPair(prediction, words) {
  return {
    draw: (served, times) => [
      headline(words, prediction, served),
      bars(prediction, served),
      voters(prediction, served),
      reading(prediction),
      timing(times),
    ],
    inWords: (served) =>
      say("found", ...words, relationName(prediction.relation, served), percent(prediction.score)),
  };
}

/**
 * The answers to all pairs of a sentence as a view: the related ones, best first, then the others.
 * `asked` are the pairs that were asked; `askPair` resolves to the prediction of one pair.
 */
export function showPairs({ relations, pairs }, words, asked, askPair) {
  const key = ({ subject, object }) => `${subject} ${object}`;
  const found = new Set(relations.map(key));
  const others = asked.filter((pair) => !found.has(key(pair)));
  const names = ({ subject, object }) => `${words[subject]} → ${words[object]}`;
  const inWords = () => (pairs ? say("pairs", relations.length, pairs) : say("noPairs"));
  return {
    draw: (served, times) => [
      el("p", { class: "summary" }, inWords()),
      relations.length > 0 && words.length <= MOST_ARCS && arcs(words, relations),
      el(
        "ol",
        { class: "pairs" },
        relations.map((pair) => el("li", {}, relatedPair(pair, names(pair), served))),
      ),
      others.length > 0 && el("h3", { class: "heading" }, say("unrelated", others.length)),
      el(
        "ul",
        { class: "pairs unrelated" },
        others.map((pair) =>
          el(
            "li",
            {},
            otherPair(names(pair), served, () => askPair(pair)),
          ),
        ),
      ),
      timing(times),
    ],
    inWords,
  };
}

const described = (label, served) => served.labels.find((relation) => relation.label === label);

export const relationName = (label, served) => described(label, served)?.name[currentLanguage()] ?? label;

const definition = (label, served) => described(label, served)?.definition[currentLanguage()] ?? "";

function headline(names, { relation, score }, served) {
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
    el("p", { class: "definition" }, definition(relation, served)),
  );
}

function bars({ probabilities }, served) {
  const all = Object.entries(probabilities);
  const list = el("ol", { class: "bars" });
  const draw = (open) => {
    fill(
      list,
      all.slice(0, open ? all.length : FEW).map(([label, share]) => bar(label, share, served)),
    );
    more.textContent = say(open ? "showFew" : "showAll");
    more.setAttribute("aria-expanded", String(open));
  };
  const turn = () => draw(more.getAttribute("aria-expanded") === "false");
  const more = button("", turn, { class: "quiet" });
  draw(false);
  return el("div", {}, list, all.length > FEW && more);
}

function bar(label, share, served) {
  return el(
    "li",
    { title: definition(label, served) },
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

function relatedPair(pair, names, served) {
  const { relation, score } = pair;
  const bar = el("span", { class: "track" }, wide(el("span", { class: "filled" }), score));
  return el(
    "details",
    {},
    el(
      "summary",
      {},
      el("span", { class: "who", lang: "ko" }, names),
      el("span", { class: "name" }, relationName(relation, served)),
      el("span", { class: "share" }, percent(score)),
      bar,
    ),
    el(
      "div",
      { class: "inside" },
      el("p", { class: "definition" }, definition(relation, served)),
      bars(pair, served),
      voters(pair, served),
      reading(pair),
    ),
  );
}

/** A pair without a relation. The API leaves its probabilities out, so they are asked when it is opened. */
function otherPair(names, served, askThis) {
  const inside = el("div", { class: "inside" });
  const toggle = async ({ target }) => {
    if (!target.open || inside.childElementCount) return;
    const prediction = await askThis();
    if (prediction) fill(inside, bars(prediction, served), voters(prediction, served), reading(prediction));
  };
  return el(
    "details",
    { on: { toggle } },
    el(
      "summary",
      {},
      el("span", { class: "who", lang: "ko" }, names),
      el("span", { class: "share" }, say("probabilities")),
    ),
    inside,
  );
}
