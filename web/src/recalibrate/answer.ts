/** What a `samesight serve` says of a frame, read with limits. */

import { readAtMost } from "../bundle/store.js";
import { ServerError } from "../errors.js";

const LIMIT_BYTES = 16 * 2 ** 20;
const WORDS = 300;
const TIMEOUT_MS = 20_000;
/** Probabilities that come as JSON are not rounded: their sum is 1 but for the last bits. */
const SUM_TOLERANCE = 1e-6;

/** A larger model's answer, its probabilities in the order of this network's labels. */
export interface ServerAnswer {
  label: string;
  probabilities: Float64Array;
  /** The id of its bundle. */
  bundle: string;
}

/** Show `frame`, a PNG file, to the server at `url`. Throws ServerError. */
export async function askServer(
  url: URL,
  frame: Uint8Array<ArrayBuffer>,
  labels: readonly string[],
  signal: AbortSignal,
): Promise<ServerAnswer> {
  const address = new URL(url);
  address.searchParams.set("top", String(labels.length));
  const where = url.origin + url.pathname;
  let response: Response;
  let body: Uint8Array;
  try {
    response = await fetch(address, {
      method: "POST",
      headers: { "Content-Type": "image/png" },
      body: frame,
      credentials: "omit",
      cache: "no-store",
      redirect: "error",
      referrerPolicy: "no-referrer",
      signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
    });
    body = response.body === null ? new Uint8Array() : await readAtMost(response.body, LIMIT_BYTES);
  } catch (error) {
    throw new ServerError("the larger model cannot be asked", {
      where,
      found: error instanceof Error ? error.message : String(error),
      fix: `is the server there? It must allow this page: samesight serve … --cors ${location.origin}`,
    });
  }
  const text = new TextDecoder().decode(body);
  if (response.ok) return readAnswer(text, labels, where);
  const refused = new ServerError("the larger model's server refuses the frame", {
    where,
    found: `HTTP ${response.status}: ${reason(text)}`,
  });
  refused.retryMs = 1000 * (Number(response.headers.get("Retry-After")) || 0);
  throw refused;
}

/** The answer in `text`. Throws ServerError where it is none, or is not of the same labels. */
function readAnswer(text: string, labels: readonly string[], where: string): ServerAnswer {
  const found = parsed(text) as { label?: unknown; bundle?: unknown; top?: unknown } | null;
  const top = Array.isArray(found?.top) ? (found.top as { label?: unknown; probability?: unknown }[]) : null;
  if (found === null || typeof found.label !== "string" || top === null) {
    throw new ServerError("the larger model's server does not answer as `samesight serve` does", { where, found: text.slice(0, WORDS) });
  }
  const said = new Map(top.map((one) => [one?.label, one?.probability]));
  const missing = labels.find((label) => !said.has(label));
  if (missing !== undefined || said.size !== labels.length) {
    throw new ServerError("the larger model has other labels", {
      where,
      expected: `the ${labels.length} labels of this one`,
      found: missing === undefined ? `${said.size} labels` : `no '${missing}'`,
    });
  }
  const probabilities = Float64Array.from(labels, (label) => said.get(label) as number);
  const total = probabilities.reduce((sum, one) => sum + one, 0);
  if (!probabilities.every((one) => one >= 0 && one <= 1) || Math.abs(total - 1) > SUM_TOLERANCE || !labels.includes(found.label)) {
    throw new ServerError("the larger model's answer is no probabilities", { where, found: `a sum of ${total}` });
  }
  return { label: found.label, probabilities, bundle: String(found.bundle) };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Why the server refuses, in its own words. */
function reason(text: string): string {
  const error = (parsed(text) as { error?: unknown } | null)?.error;
  return (typeof error === "string" ? error : text).slice(0, WORDS);
}
