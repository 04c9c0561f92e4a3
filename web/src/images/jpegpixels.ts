/**
 * A JPEG decoder that does what libjpeg-turbo does by default, to the last bit.
 *
 * For the kinds that the WebAssembly decoder cannot read (four components) or reads otherwise (colour at half
 * height): the accurate integer inverse transform, smooth chroma upsampling, fixed-point colour conversion.
 */

import { type Coefficients, type Component, readCoefficients, spoilt } from "./jpegparts.js";
import type { JpegFrame } from "./parts.js";
import type { Pixels } from "./pixels.js";

/** A component's samples, one byte each. */
interface Plane {
  width: number;
  height: number;
  stride: number;
  samples: Uint8Array;
}

/** The pixels of a JPEG without metadata, not turned. Throws PhotoError where its data is spoilt. */
export function decodeJpegExactly(data: Uint8Array, frame: JpegFrame): Pixels {
  const found = readCoefficients(data, frame);
  const { width, height } = frame;
  const planes = found.components.map((one) => {
    const across = found.mostAcross / one.across;
    const down = found.mostDown / one.down;
    return upsample(inverse(one, found, width, height), across, down, width, height);
  });
  const pixels = { width, height, data: new Uint8Array(width * height * 3) };
  if (planes.length === 1) greyToRgb(planes[0]!, pixels);
  else if (planes.length === 3) colourToRgb(planes, pixels, isYcc(found));
  else cmykToRgb(planes, pixels, found.adobe === 2);
  return pixels;
}

/** Whether three components are luma and chroma (spec/preprocess.md, section 3). */
function isYcc({ jfif, adobe, components }: Coefficients): boolean {
  if (jfif) return true;
  if (adobe !== null) return adobe !== 0;
  return components.map(({ id }) => String.fromCharCode(id)).join("") !== "RGB";
}

function fixed(value: number): number {
  return Math.round(value * 8192);
}

// jidctint.c: 13 bits of constants, 2 more bits between the passes
const F0298 = fixed(0.298631336);
const F0390 = fixed(0.390180644);
const F0541 = fixed(0.5411961);
const F0765 = fixed(0.765366865);
const F0899 = fixed(0.899976223);
const F1175 = fixed(1.175875602);
const F1501 = fixed(1.501321110);
const F1847 = fixed(1.847759065);
const F1961 = fixed(1.961570560);
const F2053 = fixed(2.053119869);
const F2562 = fixed(2.562915447);
const F3072 = fixed(3.072711026);

/** One direction of the inverse transform: 8 values, `step` apart, from `from` to `to`, by `shift` less. */
function transform(from: Int32Array, to: Int32Array, at: number, step: number, shift: number): void {
  const even2 = from[at + 2 * step]!;
  const even6 = from[at + 6 * step]!;
  const turn = (even2 + even6) * F0541;
  const t2 = turn - even6 * F1847;
  const t3 = turn + even2 * F0765;
  const t0 = (from[at]! + from[at + 4 * step]!) * 8192;
  const t1 = (from[at]! - from[at + 4 * step]!) * 8192;
  const even = [t0 + t3, t1 + t2, t1 - t2, t0 - t3];
  const s0 = from[at + 7 * step]!;
  const s1 = from[at + 5 * step]!;
  const s2 = from[at + 3 * step]!;
  const s3 = from[at + step]!;
  const z5 = (s0 + s2 + s1 + s3) * F1175;
  const z1 = (s0 + s3) * -F0899;
  const z2 = (s1 + s2) * -F2562;
  const z3 = (s0 + s2) * -F1961 + z5;
  const z4 = (s1 + s3) * -F0390 + z5;
  const odd = [s3 * F1501 + z1 + z4, s2 * F3072 + z2 + z3, s1 * F2053 + z2 + z4, s0 * F0298 + z1 + z3];
  const half = 2 ** (shift - 1);
  for (let index = 0; index < 4; index += 1) {
    to[at + index * step] = (even[index]! + odd[index]! + half) >> shift;
    to[at + (7 - index) * step] = (even[index]! - odd[index]! + half) >> shift;
  }
}

/** The samples of a component from its coefficients. */
function inverse(component: Component, found: Coefficients, width: number, height: number): Plane {
  const table = found.quantisation[component.table];
  if (table === undefined) throw spoilt("a quantisation table that is missing");
  const stride = component.stride * 8;
  const samples = new Uint8Array(stride * component.rows * 8);
  const block = new Int32Array(64);
  const half = new Int32Array(64);
  for (let row = 0; row < component.rows; row += 1) {
    for (let column = 0; column < component.columns; column += 1) {
      const at = 64 * (row * component.stride + column);
      for (let k = 0; k < 64; k += 1) block[k] = component.coefficients[at + k]! * table[k]!;
      for (let x = 0; x < 8; x += 1) transform(block, half, x, 8, 11);
      for (let y = 0; y < 8; y += 1) transform(half, block, 8 * y, 1, 18);
      for (let k = 0; k < 64; k += 1) {
        samples[(8 * row + (k >> 3)) * stride + 8 * column + (k & 7)] = clip(block[k]! + 128);
      }
    }
  }
  return {
    width: Math.ceil((width * component.across) / found.mostAcross),
    height: Math.ceil((height * component.down) / found.mostDown),
    stride,
    samples,
  };
}

/** A plane grown `across` × `down` times (jdsample.c): smoothly by two, else by repeating samples. */
function upsample(plane: Plane, across: number, down: number, width: number, height: number): Plane {
  if (across === 1 && down === 1) return plane;
  if (across % 1 !== 0 || down % 1 !== 0) throw spoilt("a sampling that is not a whole ratio");
  const whole = { width, height, stride: width, samples: new Uint8Array(width * height) };
  const smoothAcross = across === 2 && down <= 2 && plane.width > 2;
  const smoothDown = down === 2 && (across === 1 || smoothAcross);
  for (let y = 0; y < height; y += 1) {
    const near = Math.floor(y / down);
    const sums = smoothDown ? blendRows(plane, near, y) : plane.samples.subarray(near * plane.stride);
    for (let x = 0; x < width; x += 1) {
      whole.samples[y * width + x] = smoothAcross
        ? blendColumns(sums, x, plane.width, smoothDown)
        : smoothDown
          ? (sums[x]! + 1 + (y & 1)) >> 2
          : sums[Math.floor(x / across)]!;
    }
  }
  return whole;
}

/** Three parts of the nearer row and one of the next, for output row `y`. */
function blendRows(plane: Plane, near: number, y: number): Uint16Array {
  const other = Math.min(Math.max(y & 1 ? near + 1 : near - 1, 0), plane.height - 1);
  const sums = new Uint16Array(plane.width);
  for (let x = 0; x < plane.width; x += 1) {
    sums[x] = 3 * plane.samples[near * plane.stride + x]! + plane.samples[other * plane.stride + x]!;
  }
  return sums;
}

/** The same along a row, for output column `x`; the rounding alternates, and at the edges there is no neighbour. */
function blendColumns(sums: Uint8Array | Uint16Array, x: number, width: number, isSum: boolean): number {
  const near = x >> 1;
  const isRight = (x & 1) === 1;
  const other = isRight ? near + 1 : near - 1;
  const isEdge = other < 0 || other >= width;
  if (isSum) {
    const blend = isEdge ? 4 * sums[near]! : 3 * sums[near]! + sums[other]!;
    return (blend + (isRight ? 7 : 8)) >> 4;
  }
  return isEdge ? sums[near]! : (3 * sums[near]! + sums[other]! + (isRight ? 2 : 1)) >> 2;
}

function greyToRgb(plane: Plane, { width, height, data }: Pixels): void {
  for (let y = 0, to = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1, to += 3) data.fill(plane.samples[y * plane.stride + x]!, to, to + 3);
  }
}

function colourToRgb(planes: Plane[], { width, height, data }: Pixels, ycc: boolean): void {
  const rgb = new Uint8Array(3);
  for (let y = 0, to = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1, to += 3) {
      for (let channel = 0; channel < 3; channel += 1) {
        const plane = planes[channel]!;
        rgb[channel] = plane.samples[y * plane.stride + x]!;
      }
      if (ycc) fromYcc(rgb);
      data.set(rgb, to);
    }
  }
}

/** Four inverted samples: first to ink, then to light by the formula of spec/preprocess.md. */
function cmykToRgb(planes: Plane[], { width, height, data }: Pixels, ycck: boolean): void {
  const ink = new Uint8Array(3);
  for (let y = 0, to = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1, to += 3) {
      const [c, m, yellow, k] = planes.map((plane) => plane.samples[y * plane.stride + x]!);
      ink[0] = c!;
      ink[1] = m!;
      ink[2] = yellow!;
      if (ycck) {
        fromYcc(ink);
        for (let channel = 0; channel < 3; channel += 1) ink[channel] = 255 - ink[channel]!;
      }
      for (let channel = 0; channel < 3; channel += 1) {
        const product = (255 - ink[channel]!) * k! + 128;
        data[to + channel] = clip(k! - (((product >> 8) + product) >> 8));
      }
    }
  }
}

/** Luma and chroma to red, green and blue in place, by jdcolor.c's fixed-point numbers of 16 bits. */
function fromYcc(samples: Uint8Array): void {
  const luma = samples[0]!;
  const blue = samples[1]! - 128;
  const red = samples[2]! - 128;
  samples[0] = clip(luma + ((91881 * red + 32768) >> 16));
  samples[1] = clip(luma + ((-22554 * blue - 46802 * red + 32768) >> 16));
  samples[2] = clip(luma + ((116130 * blue + 32768) >> 16));
}

function clip(value: number): number {
  return value < 0 ? 0 : value > 255 ? 255 : value;
}
