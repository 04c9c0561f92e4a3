/** Pillow's 8-bit resampler as integer arithmetic, horizontal pass first (spec/preprocess.md, section 5). */

import { InputError } from "./errors.js";
import { checkPixels } from "./images/decode.js";
import type { Pixels } from "./images/pixels.js";
import type { Interpolation, Preprocess } from "./preprocess.js";

const PRECISION = 22;
const ONE = 2 ** PRECISION;

interface Filter {
  reach: number;
  weight: (x: number) => number;
}

const FILTERS: Record<Exclude<Interpolation, "nearest">, Filter> = {
  box: { reach: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  bilinear: { reach: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  hamming: { reach: 1, weight: hamming },
  bicubic: { reach: 2, weight: bicubic },
  lanczos: { reach: 3, weight: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

/** For each target place the first source place, how many there are, and their weights, `width` apart. */
interface Weights {
  first: Int32Array;
  count: Int32Array;
  values: Int32Array;
  width: number;
}

/** What is kept of a resized picture. */
interface Box {
  left: number;
  top: number;
  width: number;
  height: number;
}

/** `pixels` resized and cropped as `spec` says. Throws PhotoError where a long, thin picture grows too large. */
export function resize(pixels: Pixels, spec: Preprocess): Pixels {
  const [across, down] = spec.size;
  const [width, height] = spec.resizedSize(pixels.width, pixels.height);
  const box = { left: middle(width - across), top: middle(height - down), width: across, height: down };
  return resample(pixels, width, height, spec.interpolation, box);
}

/** `pixels` resized to width × height. */
export function resizeExact(
  pixels: Pixels,
  width: number,
  height: number,
  interpolation: Interpolation,
): Pixels {
  return resample(pixels, width, height, interpolation, { left: 0, top: 0, width, height });
}

/** The part `box` of `pixels` resized to width × height; only what the box needs is computed. */
function resample(
  pixels: Pixels,
  width: number,
  height: number,
  interpolation: Interpolation,
  box: Box,
): Pixels {
  if (pixels.data.length !== pixels.width * pixels.height * 3 || pixels.data.length === 0) {
    throw new InputError("these are not RGB pixels", { expected: "width × height × 3 bytes" });
  }
  checkPixels(width, height);
  checkPixels(width, pixels.height);
  const rows = weights(pixels.height, height, interpolation, box.top, box.height);
  const top = rows.first[0]!;
  const end = rows.first.reduce((most, first, place) => Math.max(most, first + rows.count[place]!), 0);
  const strip = { width: pixels.width, height: end - top, data: pixels.data.subarray(top * pixels.width * 3) };
  const columns = weights(pixels.width, width, interpolation, box.left, box.width);
  const half = alongRows(strip, columns);
  for (let place = 0; place < rows.first.length; place += 1) rows.first[place]! -= top;
  return alongColumns(half, rows);
}

/** The weights of `count` of the `to` target places, from the place `start` on, of a row of `from` values. */
function weights(from: number, to: number, interpolation: Interpolation, start: number, count: number): Weights {
  if (from === to) return steps(Int32Array.from({ length: count }, (_, place) => start + place));
  const scale = from / to;
  if (interpolation === "nearest") {
    const first = new Int32Array(count);
    for (let place = 0, at = scale * 0.5; place < start + count; place += 1, at += scale) {
      if (place >= start) first[place - start] = Math.trunc(at);
    }
    return steps(first);
  }
  const { reach, weight } = FILTERS[interpolation];
  const stretch = Math.max(scale, 1);
  const support = reach * stretch;
  const inverse = 1 / stretch;
  const width = Math.ceil(support) * 2 + 1;
  const found = { first: new Int32Array(count), count: new Int32Array(count), values: new Int32Array(count * width), width };
  const parts = new Float64Array(width);
  for (let place = 0; place < count; place += 1) {
    const centre = (start + place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(from, Math.trunc(centre + support + 0.5));
    let total = 0;
    for (let j = 0; j < last - first; j += 1) {
      parts[j] = weight((j + first - centre + 0.5) * inverse);
      total += parts[j]!;
    }
    for (let j = 0; j < last - first; j += 1) {
      const part = total === 0 ? parts[j]! : parts[j]! / total;
      found.values[place * width + j] = Math.trunc(part * ONE + (part < 0 ? -0.5 : 0.5));
    }
    found.first[place] = first;
    found.count[place] = last - first;
  }
  return found;
}

/** Weights that take one source place each, as it is. */
function steps(first: Int32Array): Weights {
  return { first, count: new Int32Array(first.length).fill(1), values: new Int32Array(first.length).fill(ONE), width: 1 };
}

function alongRows(pixels: Pixels, { first, count, values, width }: Weights): Pixels {
  const across = first.length;
  const source = pixels.data;
  const data = new Uint8Array(across * pixels.height * 3);
  let to = 0;
  for (let row = 0; row < pixels.height; row += 1) {
    for (let place = 0; place < across; place += 1, to += 3) {
      let from = (row * pixels.width + first[place]!) * 3;
      let weight = place * width;
      let red = ONE / 2;
      let green = red;
      let blue = red;
      for (const end = weight + count[place]!; weight < end; weight += 1, from += 3) {
        const value = values[weight]!;
        red = (red + Math.imul(source[from]!, value)) | 0;
        green = (green + Math.imul(source[from + 1]!, value)) | 0;
        blue = (blue + Math.imul(source[from + 2]!, value)) | 0;
      }
      data[to] = clip(red >> PRECISION);
      data[to + 1] = clip(green >> PRECISION);
      data[to + 2] = clip(blue >> PRECISION);
    }
  }
  return { width: across, height: pixels.height, data };
}

function alongColumns(pixels: Pixels, { first, count, values, width }: Weights): Pixels {
  const down = first.length;
  const source = pixels.data;
  const rowBytes = pixels.width * 3;
  const data = new Uint8Array(down * rowBytes);
  const sums = new Int32Array(rowBytes);
  for (let place = 0; place < down; place += 1) {
    sums.fill(ONE / 2);
    for (let j = 0; j < count[place]!; j += 1) {
      const value = values[place * width + j]!;
      const from = (first[place]! + j) * rowBytes;
      for (let at = 0; at < rowBytes; at += 1) sums[at]! += Math.imul(source[from + at]!, value);
    }
    for (let at = 0; at < rowBytes; at += 1) data[place * rowBytes + at] = clip(sums[at]! >> PRECISION);
  }
  return { width: pixels.width, height: down, data };
}

/** Half of `spare`, a half rounded to the even neighbour (section 6). */
function middle(spare: number): number {
  const half = Math.floor(spare / 2);
  return half + (spare % 2 === 1 ? half % 2 : 0);
}

function clip(value: number): number {
  return value < 0 ? 0 : value > 255 ? 255 : value;
}

function hamming(x: number): number {
  const distance = Math.abs(x);
  if (distance === 0) return 1;
  if (distance >= 1) return 0;
  const turn = distance * Math.PI;
  return (Math.sin(turn) / turn) * (Math.fround(0.54) + Math.fround(0.46) * Math.cos(turn));
}

function bicubic(x: number): number {
  const d = Math.abs(x);
  if (d < 1) return (1.5 * d - 2.5) * d * d + 1;
  return d < 2 ? (((d - 5) * d + 8) * d - 4) * -0.5 : 0;
}

function sinc(x: number): number {
  if (x === 0) return 1;
  const turn = x * Math.PI;
  return Math.sin(turn) / turn;
}
