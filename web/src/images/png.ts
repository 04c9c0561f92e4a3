/** PNG of every kind to RGB, without a canvas: browsers premultiply alpha and round 16 bits. */

import { unzlibSync } from "fflate";

import { PhotoError } from "../errors.js";
import { pngChunks, viewOf } from "./parts.js";
import type { Pixels } from "./pixels.js";

const CHANNELS: Record<number, number> = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };
const DEPTHS: Record<number, readonly number[]> = {
  0: [1, 2, 4, 8, 16],
  2: [8, 16],
  3: [1, 2, 4, 8],
  4: [8, 16],
  6: [8, 16],
};
const PALETTE = 3;
/** Adam7: first column, first row, step across, step down of each pass. */
const PASSES = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
] as const;
const WHOLE = [[0, 0, 1, 1]] as const;

interface Header {
  width: number;
  height: number;
  depth: number;
  colour: number;
  interlaced: boolean;
}

/** The pixels of a PNG file, not turned. Throws PhotoError where it is cut short or damaged. */
export function decodePng(data: Uint8Array): Pixels {
  let header: Header | null = null;
  let palette = new Uint8Array();
  const packed: Uint8Array[] = [];
  for (const { name, start, end } of pngChunks(data)) {
    if (name === "IHDR") header ??= readHeader(data.subarray(start, end));
    else if (name === "PLTE") palette = data.slice(start, end);
    else if (name === "IDAT") packed.push(data.subarray(start, end));
  }
  if (header === null || packed.length === 0) throw new PhotoError("damaged", { found: "a PNG without a picture" });
  const passes = header.interlaced ? PASSES : WHOLE;
  const bits = CHANNELS[header.colour]! * header.depth;
  let length = 0;
  for (const pass of passes) {
    const [across, down] = passSize(header, pass);
    if (across > 0) length += down * (1 + Math.ceil((across * bits) / 8));
  }
  const rows = inflate(packed, length);
  const pixels = { width: header.width, height: header.height, data: new Uint8Array(header.width * header.height * 3) };
  let place = 0;
  for (const pass of passes) {
    const [across, down] = passSize(header, pass);
    if (across === 0 || down === 0) continue;
    const rowBytes = Math.ceil((across * bits) / 8);
    unfilter(rows, place, rowBytes, down, Math.max(1, bits >> 3));
    for (let row = 0; row < down; row += 1) {
      paint(pixels, header, palette, rows, place + row * (rowBytes + 1) + 1, across, pass, row);
    }
    place += down * (rowBytes + 1);
  }
  return pixels;
}

function readHeader(payload: Uint8Array): Header {
  const view = viewOf(payload);
  const depth = payload[8] ?? 0;
  const colour = payload[9] ?? 0;
  if (payload.length !== 13 || !DEPTHS[colour]?.includes(depth) || payload[10] || payload[11] || payload[12]! > 1) {
    throw new PhotoError("damaged", { found: "a PNG header that says what no PNG can be" });
  }
  return { width: view.getUint32(0), height: view.getUint32(4), depth, colour, interlaced: payload[12] === 1 };
}

function passSize(header: Header, [left, top, right, down]: readonly [number, number, number, number]): [number, number] {
  return [Math.ceil((header.width - left) / right), Math.ceil((header.height - top) / down)];
}

/** `length` bytes out of the zlib stream in the IDAT chunks. */
function inflate(parts: Uint8Array[], length: number): Uint8Array {
  const packed = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let place = 0;
  for (const part of parts) {
    packed.set(part, place);
    place += part.length;
  }
  let found: Uint8Array;
  try {
    found = unzlibSync(packed, { out: new Uint8Array(length) });
  } catch (error) {
    const words = error instanceof Error ? error.message : String(error);
    throw new PhotoError(words.includes("EOF") ? "truncated" : "damaged", { found: words });
  }
  if (found.length < length) throw new PhotoError("truncated", { found: "a picture that ends too early" });
  return found;
}

/** Undo the filters of `count` rows that begin at `place`, each a filter byte and `rowBytes` bytes. */
function unfilter(rows: Uint8Array, place: number, rowBytes: number, count: number, step: number): void {
  for (let row = 0; row < count; row += 1, place += rowBytes + 1) {
    const filter = rows[place]!;
    if (filter > 4) throw new PhotoError("damaged", { found: `a PNG row filter ${filter}` });
    const above = place - rowBytes - 1;
    for (let at = 1; at <= rowBytes; at += 1) {
      const left = at > step ? rows[place + at - step]! : 0;
      const up = row > 0 ? rows[above + at]! : 0;
      const corner = row > 0 && at > step ? rows[above + at - step]! : 0;
      rows[place + at] = rows[place + at]! + predicted(filter, left, up, corner);
    }
  }
}

function predicted(filter: number, left: number, up: number, corner: number): number {
  if (filter === 0) return 0;
  if (filter === 1) return left;
  if (filter === 2) return up;
  if (filter === 3) return (left + up) >> 1;
  const byLeft = Math.abs(up - corner);
  const byUp = Math.abs(left - corner);
  const byCorner = Math.abs(left + up - 2 * corner);
  return byLeft <= byUp && byLeft <= byCorner ? left : byUp <= byCorner ? up : corner;
}

/** Put one row of a pass into the picture: alpha dropped, 16 bits cut to the high byte, small greys spread. */
function paint(
  pixels: Pixels,
  { depth, colour }: Header,
  palette: Uint8Array,
  rows: Uint8Array,
  place: number,
  across: number,
  [left, top, right, down]: readonly [number, number, number, number],
  row: number,
): void {
  const bytes = depth === 16 ? 2 : 1;
  const channels = CHANNELS[colour]!;
  const isColour = channels >= 3;
  const spread = colour === PALETTE || depth >= 8 ? 1 : 255 / ((1 << depth) - 1);
  let to = ((top + row * down) * pixels.width + left) * 3;
  for (let x = 0; x < across; x += 1, to += right * 3) {
    let value: number;
    if (depth < 8) {
      const bit = x * depth;
      value = ((rows[place + (bit >> 3)]! >> (8 - depth - (bit & 7))) & ((1 << depth) - 1)) * spread;
    } else {
      value = rows[place + x * channels * bytes]!;
    }
    const from = place + x * channels * bytes;
    if (colour === PALETTE) {
      for (let channel = 0; channel < 3; channel += 1) pixels.data[to + channel] = palette[value * 3 + channel] ?? 0;
    } else {
      pixels.data[to] = value;
      pixels.data[to + 1] = isColour ? rows[from + bytes]! : value;
      pixels.data[to + 2] = isColour ? rows[from + 2 * bytes]! : value;
    }
  }
}
