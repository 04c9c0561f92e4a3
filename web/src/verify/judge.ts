/**
 * One sample through decode, resize, normalise and network, each stage judged on its right input.
 *
 * So a fault in one stage is never reported as a fault of the next; where the right input of a stage is not known,
 * it is not judged.
 */

import type { Bundle } from "../bundle/open.js";
import { sha256 } from "../bundle/store.js";
import { PhotoError } from "../errors.js";
import { decode, type Decoders } from "../images/decode.js";
import type { Pixels } from "../images/pixels.js";
import { decodePng } from "../images/png.js";
import type { Network } from "../network.js";
import { resize } from "../resample.js";
import type { Golden, Sample } from "./golden.js";
import { distances, isByOwnRecord } from "./record.js";
import { allowedBeside, margin, MARGIN_FACTOR } from "./tolerances.js";

export const STAGES = ["record", "decode", "resize", "normalise", "network", "labels"] as const;
export type Stage = (typeof STAGES)[number];

/** What was found of one stage: `ok` is null where it could not be judged. */
export interface StageProof {
  stage: Stage;
  ok: boolean | null;
  /** What differs, in words. */
  what: string | null;
  /** Of pixels or logits, where arrays could be compared; 0 where they are the same bits. */
  max_abs_difference: number | null;
  /** For logits: how large the difference may be. */
  allowed: number | null;
}

export interface SampleProof {
  id: string;
  label: string | null;
  predicted: string;
  /** What the network says here; null where it was not judged. */
  found: string | null;
  /** How far its logits are from PyTorch's, or from what stands for them. */
  pytorch_max_abs_difference: number | null;
  photo: string;
  ok: boolean;
  stages: StageProof[];
  milliseconds: number;
}

/** What is needed to run a sample. */
export interface Parts {
  bundle: Bundle;
  decoders: Decoders;
  network: Network;
}

/** Every stage of sample number `index`. Throws a BundleError where a file of it is not as listed. */
export async function judgeSample(parts: Parts, golden: Golden, index: number): Promise<SampleProof> {
  const start = performance.now();
  const sample = golden.samples[index]!;
  const stages: StageProof[] = [recordProof(parts, golden, index)];
  const pixels = await judgeDecode(parts, sample, stages);
  const small = await judgeResize(parts, sample, pixels, stages);
  const tensor = await judgeNormalise(parts, sample, small, stages);
  const isSound = golden.faults[index] === null; // else there is nothing to judge the network by
  const logits = await judgeNetwork(parts, golden.expected[index]!, isSound ? tensor : null, stages);
  const found = logits === null ? null : parts.bundle.info.labels[indexOfLargest(logits)]!;
  stages.push(labelsProof(parts, golden, index, found));
  return {
    id: sample.id,
    label: sample.label,
    predicted: sample.predicted,
    found,
    pytorch_max_abs_difference: logits === null ? null : largestDifference(logits, golden.logits[index]!),
    photo: sample.photo,
    ok: stages.every(({ ok }) => ok === true),
    stages,
    milliseconds: performance.now() - start,
  };
}

/** Where the largest value stands; the first of equal ones. */
export function indexOfLargest(values: Float32Array): number {
  return values.reduce((best, value, place) => (value > values[best]! ? place : best), 0);
}

function proof(stage: Stage, ok: boolean | null, what: string | null = null, difference: number | null = null): StageProof {
  return { stage, ok, what, max_abs_difference: ok === true ? 0 : difference, allowed: null };
}

/** Whether the record of the sample can be judged by; of an int8 copy also how far it is from PyTorch's. */
function recordProof({ network: { copy } }: Parts, { kind, faults, expected, logits }: Golden, index: number): StageProof {
  const what = faults[index]!;
  const isBound = isByOwnRecord(copy) && kind === "golden";
  const [far] = isBound ? distances([expected[index]!], [logits[index]!]) : [];
  const allowed = isBound ? (copy.recorded["max_abs_difference"] ?? null) : null;
  return { stage: "record", ok: what === null, what, max_abs_difference: far ?? null, allowed };
}

/** The right decoded pixels, where they are known. */
async function judgeDecode({ bundle, decoders }: Parts, sample: Sample, stages: StageProof[]): Promise<Pixels | null> {
  let found: Pixels | null = null;
  let what = `${sample.photo} gives other pixels than were recorded`;
  try {
    found = await decode(await bundle.read(sample.photo), decoders);
    const fits = found.width === sample.width && found.height === sample.height;
    if (fits && (await sha256(found.data)) === sample.decoded_sha256) {
      stages.push(proof("decode", true));
      return found;
    }
  } catch (error) {
    if (!(error instanceof PhotoError)) throw error;
    what = `${sample.photo} cannot be decoded: ${error.what}`;
  }
  const kept = sample.lossless === null ? null : await keptPixels(bundle, sample.lossless, sample.decoded_sha256);
  stages.push(proof("decode", false, what, kept && found ? largestDifference(found.data, kept.data) : null));
  return kept;
}

/** The right resized pixels, where they are known. */
async function judgeResize(
  { bundle }: Parts,
  sample: Sample,
  pixels: Pixels | null,
  stages: StageProof[],
): Promise<Pixels | null> {
  if (pixels !== null) {
    const found = resize(pixels, bundle.info.preprocess);
    if ((await sha256(found.data)) === sample.resized_sha256) {
      stages.push(proof("resize", true));
      return found;
    }
    const kept = await keptPixels(bundle, sample.resized, sample.resized_sha256);
    const difference = kept === null ? null : largestDifference(found.data, kept.data);
    stages.push(proof("resize", false, "resizing gives other pixels than were recorded", difference));
    return kept;
  }
  stages.push(proof("resize", null));
  return keptPixels(bundle, sample.resized, sample.resized_sha256);
}

/** The right tensor, where it is known. */
async function judgeNormalise(
  { bundle }: Parts,
  sample: Sample,
  small: Pixels | null,
  stages: StageProof[],
): Promise<Float32Array | null> {
  if (small === null) {
    stages.push(proof("normalise", null));
    return null;
  }
  const tensor = bundle.info.preprocess.normalise(small);
  const ok = (await sha256(tensor)) === sample.tensor_sha256;
  stages.push(proof("normalise", ok, ok ? null : "normalising gives another tensor than was recorded"));
  return ok ? tensor : null;
}

async function judgeNetwork(
  { network }: Parts,
  reference: Float32Array,
  tensor: Float32Array | null,
  stages: StageProof[],
): Promise<Float32Array | null> {
  if (tensor === null) {
    stages.push(proof("network", null));
    return null;
  }
  const logits = await network.logits(tensor);
  const difference = largestDifference(logits, reference);
  const allowed = allowedBeside(network.copy.precision, reference);
  const ok = difference <= allowed;
  const what = ok ? null : `the logits differ by ${difference}, where ${allowed} is allowed`;
  stages.push({ stage: "network", ok, what, max_abs_difference: difference, allowed });
  return logits;
}

/** Whether PyTorch's answer has the recorded name, and the network here gives the label that it must. */
function labelsProof({ bundle, network }: Parts, golden: Golden, index: number, found: string | null): StageProof {
  const { predicted } = golden.samples[index]!;
  const expected = golden.expected[index]!;
  const [named, wanted] = [golden.logits[index]!, expected].map((row) => bundle.info.labels[indexOfLargest(row)]);
  if (named !== predicted) return proof("labels", false, `bundle.json says '${named}', where '${predicted}' is recorded`);
  if (found === null) return proof("labels", null);
  const isTossUp = margin(expected) <= MARGIN_FACTOR * allowedBeside(network.copy.precision, expected);
  if (found !== wanted) return proof("labels", isTossUp, `'${found}', where '${wanted}' is recorded${isTossUp ? ", by a hair" : ""}`);
  return proof("labels", true, found === predicted ? null : `'${found}', as recorded; PyTorch says '${predicted}'`);
}

/** The pixels in a file of reference pixels; null where they are not the recorded ones. */
async function keptPixels(bundle: Bundle, path: string, hash: string): Promise<Pixels | null> {
  try {
    const pixels = decodePng(await bundle.read(path));
    return (await sha256(pixels.data)) === hash ? pixels : null;
  } catch (error) {
    if (error instanceof PhotoError) return null;
    throw error;
  }
}

/** The largest absolute difference; infinite where the lengths differ or a value is not a number. */
function largestDifference(found: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (found.length !== expected.length) return Infinity;
  let most = 0;
  for (let place = 0; place < found.length; place += 1) {
    const difference = Math.abs(found[place]! - expected[place]!);
    if (!(difference <= most)) most = Number.isNaN(difference) ? Infinity : difference;
  }
  return most;
}
