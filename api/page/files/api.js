/** Speaks to the server that served the page: GET /info and POST /relations. */

const KEPT_AS = "kore.key";
let key = kept();

/** A request that got no answer. A status of 0 says that the server was not reached. */
export class Refused extends Error {
  constructor(status, detail, retryAfterS = 0) {
    super(Array.isArray(detail) ? detail.map((fault) => fault.msg).join(" ") : String(detail));
    this.status = status;
    this.faults = Array.isArray(detail) ? detail : [];
    this.retryAfterS = retryAfterS;
  }
}

/** Keeps the key for this tab. */
export function useKey(entered) {
  key = entered;
  try {
    sessionStorage.setItem(KEPT_AS, key);
  } catch {
    // Storage can be forbidden; the key then lasts as long as the page.
  }
}

export const hasKey = () => key !== "";

export const info = async () => (await send("info")).document;

/**
 * Answers to one request, with its times in milliseconds by stage.
 *
 * A busy server (429, 503) is asked again when its Retry-After allows it, at most `patience` times; `onWait`
 * is told the seconds of each wait.
 */
export async function relations(body, { signal, patience = 3, onWait = () => {} } = {}) {
  for (let waits = 0; ; waits++) {
    try {
      const { document: answer, times } = await send("relations", {
        method: "POST",
        body: JSON.stringify(body),
        signal,
      });
      return { answer, times };
    } catch (refusal) {
      if (!refusal.retryAfterS || waits >= patience) throw refusal;
      onWait(refusal.retryAfterS);
      await pause(refusal.retryAfterS, signal);
    }
  }
}

async function send(path, options = {}) {
  const headers = {
    ...(options.body && { "Content-Type": "application/json" }),
    ...(key && { Authorization: `Bearer ${key}` }),
  };
  const began = performance.now();
  let response, text;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store" });
    text = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, error.message);
  }
  const document = parsed(text);
  const retryAfterS = Number(response.headers.get("Retry-After")) || 0;
  if (!response.ok || document === undefined)
    throw new Refused(response.status, document?.detail ?? text.slice(0, 200), retryAfterS);
  return { document, times: stages(response.headers.get("Server-Timing") ?? "", performance.now() - began) };
}

/** Server-Timing's stages, what else the server did, and the rest, which is the network's. */
function stages(header, tookMs) {
  const found = Object.fromEntries(
    [...header.matchAll(/(\w+);dur=([\d.]+)/g)].map(([, name, ms]) => [name, Number(ms)]),
  );
  const { encode = 0, queue = 0, inference = 0, total = tookMs } = found;
  const rest = Math.max(0, total - encode - queue - inference);
  return { encode, queue, inference, rest, network: Math.max(0, tookMs - total) };
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener(
      "abort",
      () => (clearTimeout(timer), reject(new DOMException("stopped", "AbortError"))),
    );
  });
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function kept() {
  try {
    return sessionStorage.getItem(KEPT_AS) ?? "";
  } catch {
    return "";
  }
}
