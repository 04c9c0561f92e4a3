/** Whether what a bundle says of its samples can be judged by, before anything is run. */

import type { Copy } from "../bundle/format.js";
import type { Golden } from "./golden.js";
import { allowedBeside, margin, MARGIN_FACTOR } from "./tolerances.js";

/** Relative: the recorded margin was computed from the very same float32 logits. */
const SAME_MARGIN = 1e-5;

/** An int8 copy is too coarse for PyTorch's logits: it is held to its own, and they to PyTorch's. */
export function isByOwnRecord(copy: Copy): boolean {
  return copy.precision === "int8";
}

/** What is wrong with the record, a sample a place; null where nothing is. */
export function judgeRecord({ kind, samples, logits, expected }: Golden, copy: Copy): (string | null)[] {
  const faults = samples.map((sample, index) => {
    const found = margin(logits[index]!);
    const isSame = Math.abs(found - sample.margin) <= SAME_MARGIN * Math.max(1, Math.abs(sample.margin));
    return isSame ? null : `a margin of ${sample.margin} is recorded, where the recorded logits have ${found}`;
  });
  if (isByOwnRecord(copy) && kind === "golden") {
    const bound = copy.recorded["max_abs_difference"];
    if (bound == null) {
      faults[0] ??= `bundle.json does not say how far the ${copy.name} copy may be from PyTorch's logits`;
    } else {
      for (const [index, far] of distances(expected, logits).entries()) {
        if (far <= bound * (1 + SAME_MARGIN)) continue;
        faults[index] ??= `the ${copy.name} copy's record is ${far} from PyTorch's logits, where bundle.json says ${bound} at most`;
      }
    }
  }
  const isClear = (row: Float32Array): boolean => margin(row) > MARGIN_FACTOR * allowedBeside(copy.precision, row);
  if (!expected.some(isClear)) faults[0] ??= "no sample's margin is more than twice the tolerance: they prove nothing";
  return faults;
}

/** The largest absolute difference of each pair of rows. */
export function distances(some: readonly Float32Array[], others: readonly Float32Array[]): number[] {
  return some.map((row, index) =>
    row.reduce((most, value, place) => Math.max(most, Math.abs(value - others[index]![place]!)), 0),
  );
}
