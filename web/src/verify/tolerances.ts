/** How far logits may lie from the reference and still count as the same; the table of docs/verify.md. */

import type { Precision } from "../bundle/format.js";

export interface Tolerance {
  name: string;
  /** In units of the logits. */
  abs: number;
  /** As a part of the reference's largest absolute logit. */
  rel: number;
}

const TOLERANCES: Record<Precision, Tolerance> = {
  fp32: { name: "fp32", abs: 1e-4, rel: 5e-6 },
  fp16: { name: "fp16", abs: 0.02, rel: 0.03 },
  int8: { name: "int8", abs: 0.02, rel: 0.07 },
};

/** Both logits of a pair may move by the tolerance, towards each other: a smaller margin proves nothing. */
export const MARGIN_FACTOR = 2;

/** The largest difference allowed of a copy of that precision beside the reference `logits`. */
export function allowedBeside(precision: Precision, logits: Float32Array): number {
  const { abs, rel } = TOLERANCES[precision];
  const scale = logits.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return Math.max(abs, rel * scale);
}

/** The largest of `logits` less the second largest; the largest's size if there is but one. */
export function margin(logits: Float32Array): number {
  let [first, second] = [-Infinity, -Infinity];
  for (const value of logits) [first, second] = value > first ? [value, first] : [first, Math.max(second, value)];
  return logits.length < 2 ? Math.abs(first) : Math.fround(first - second);
}
