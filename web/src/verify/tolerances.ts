/** How far logits may lie from the reference and still count as the same; the table of docs/verify.md. */

import type { Precision } from "../bundle/format.js";

export interface Tolerance {
  name: string;
  /** In units of the logits. */
  abs: number;
  /** As a part of the reference's largest absolute logit. */
  rel: number;
}

const TOLERANCES: Partial<Record<Precision, Tolerance>> = {
  fp32: { name: "fp32", abs: 1e-4, rel: 5e-6 },
  fp16: { name: "fp16", abs: 0.02, rel: 0.03 },
};

/** The tolerance of a copy's logits beside the reference's; null where the table has none. */
export function toleranceFor(precision: Precision): Tolerance | null {
  return TOLERANCES[precision] ?? null;
}

/** The largest difference allowed beside the reference `logits`. */
export function allowedBeside(tolerance: Tolerance, logits: Float32Array): number {
  const scale = logits.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return Math.max(tolerance.abs, tolerance.rel * scale);
}
