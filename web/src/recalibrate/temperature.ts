/** One number by which logits are divided, so that they say what a larger model's probabilities say. */

/** A frame: this network's logits, and the larger model's probabilities of the same labels, in the same order. */
export interface Pair {
  logits: Float32Array;
  probabilities: Float64Array;
}

/** Temperatures are looked for from 1 / HOTTEST to HOTTEST, as for the report of a training run. */
export const HOTTEST = 20;
const STEPS = 60;

/**
 * The temperature T that minimises the mean of −Σ p · log softmax(z / T) over the pairs of logits z and
 * probabilities p (Guo et al. 2017, with p in the place of a label).
 *
 * The mean is convex in 1 / T, so its slope is bisected: the mean over frames of the logits' expectation under
 * softmax(z / T), less that under p. Where the slope has one sign throughout, the bound that it falls to.
 */
export function fitTemperature(pairs: readonly Pair[]): number {
  let low = 1 / HOTTEST;
  let high = HOTTEST;
  for (let step = 0; step < STEPS; step += 1) {
    const middle = Math.sqrt(low * high); // bisected on a logarithmic scale
    if (slope(pairs, middle) < 0) low = middle;
    else high = middle;
  }
  return 1 / Math.sqrt(low * high);
}

/** The slope of the sum of the negative log-likelihoods, in the inverse of the temperature. */
function slope(pairs: readonly Pair[], inverse: number): number {
  return pairs.reduce((sum, { logits, probabilities }) => {
    const own = softmax(logits, 1 / inverse);
    return sum + logits.reduce((part, logit, place) => part + logit * (own[place]! - probabilities[place]!), 0);
  }, 0);
}

/** The probabilities of `logits` divided by `temperature`, in double precision. */
export function softmax(logits: Float32Array, temperature = 1): Float64Array {
  const most = logits.reduce((high, value) => Math.max(high, value), -Infinity);
  const powers = Float64Array.from(logits, (value) => Math.exp((value - most) / temperature));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
}
