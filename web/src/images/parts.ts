/**
 * What an image file says of itself before it is decoded: its format, size, orientation and parts.
 *
 * spec/preprocess.md has the same in words, sections 3 and 4.
 */

import { PhotoError } from "../errors.js";

export type Format = "jpeg" | "png" | "webp" | "gif" | "tiff" | "bmp";
/** Width and height in pixels. */
export type Size = readonly [number, number];

/** A JPEG segment, or a PNG or RIFF chunk; its payload is data[start:end]. */
export interface Part {
  name: string;
  marker: number;
  start: number;
  end: number;
}

export interface JpegFrame {
  marker: number;
  bits: number;
  width: number;
  height: number;
  components: { id: number; across: number; down: number }[];
}

export const SOI = 0xd8;
export const EOI = 0xd9;
export const SOS = 0xda;
export const APP0 = 0xe0;
export const APP1 = 0xe1;
export const APP14 = 0xee;
export const APP15 = 0xef;
export const COM = 0xfe;
const EXIF = "Exif\0\0";
const ORIENTATION_TAG = 0x0112;

/** Whether a marker stands alone, without a length: TEM, RST0 … RST7. */
export function isLonely(marker: number): boolean {
  return marker === 0x01 || (marker >= 0xd0 && marker <= 0xd7);
}

function isFrame(marker: number): boolean {
  return marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc;
}

/** The format by the first bytes. Throws PhotoError of kind "empty" or "unknown". */
export function imageFormat(data: Uint8Array): Format {
  if (data.length === 0) throw new PhotoError("empty");
  if (begins(data, 0, [0xff, 0xd8, 0xff])) return "jpeg";
  if (begins(data, 0, [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])) return "png";
  if (ascii(data, 0, 4) === "RIFF" && ascii(data, 8, 4) === "WEBP") return "webp";
  if (["GIF87a", "GIF89a"].includes(ascii(data, 0, 6))) return "gif";
  if (["II*\0", "MM\0*"].includes(ascii(data, 0, 4))) return "tiff";
  if (ascii(data, 0, 2) === "BM") return "bmp";
  throw new PhotoError("unknown", { expected: "JPEG, PNG or WebP" });
}

/**
 * Width and height as the header of a JPEG, PNG or WebP gives them, before the orientation is applied.
 *
 * Throws PhotoError where the header is cut short or damaged.
 */
export function imageSize(data: Uint8Array, format: Format): Size {
  let size: Size;
  try {
    size = format === "jpeg" ? jpegSize(data) : format === "png" ? pngSize(data) : webpSize(data);
  } catch (error) {
    if (error instanceof RangeError) {
      throw new PhotoError("truncated", { found: "the file ends within its header" });
    }
    throw error;
  }
  if (size[0] < 1 || size[1] < 1) {
    throw new PhotoError("damaged", { found: `a size of ${size[0]} x ${size[1]} pixels` });
  }
  return size;
}

/** The Exif orientation, 1 to 8; 1 where there is none, or it is malformed, or the file is. Never throws. */
export function orientation(data: Uint8Array): number {
  try {
    const block = exifBlock(data);
    return block === null ? 1 : exifOrientation(block);
  } catch (error) {
    if (error instanceof RangeError || error instanceof PhotoError) return 1;
    throw error;
  }
}

/**
 * The segments of a JPEG up to and with its first SOS, or to EOI; bytes between segments are passed over.
 *
 * Throws PhotoError where the file ends before, or a length is impossible.
 */
export function* jpegSegments(data: Uint8Array): Generator<Part> {
  let place = 2;
  for (;;) {
    place = data.indexOf(0xff, place);
    while (place >= 0 && place < data.length && data[place] === 0xff) place += 1;
    if (place < 0 || place >= data.length) {
      throw new PhotoError("truncated", { found: "the file ends before its picture" });
    }
    const marker = data[place++]!;
    if (isLonely(marker) || marker === 0 || marker === SOI) continue;
    if (marker === EOI) return;
    if (place + 2 > data.length) {
      throw new PhotoError("truncated", { found: "the file ends within a segment" });
    }
    const end = place + ((data[place]! << 8) | data[place + 1]!);
    if (end < place + 2) throw new PhotoError("damaged", { found: "a JPEG segment of impossible length" });
    if (end > data.length) throw new PhotoError("truncated", { found: "the file ends within a segment" });
    yield { name: "", marker, start: place + 2, end };
    if (marker === SOS) return;
    place = end;
  }
}

/** The first frame header of a JPEG. Throws PhotoError where there is none before the first scan. */
export function jpegFrame(data: Uint8Array): JpegFrame {
  for (const { marker, start, end } of jpegSegments(data)) {
    if (!isFrame(marker)) continue;
    const payload = data.subarray(start, end);
    const count = payload[5] ?? 0;
    if (payload.length < 6 || payload.length < 6 + 3 * count) {
      throw new PhotoError("damaged", { found: "a JPEG frame header that is too short" });
    }
    const view = viewOf(payload);
    const components = [];
    for (let place = 6; place < 6 + 3 * count; place += 3) {
      const factors = payload[place + 1]!;
      components.push({ id: payload[place]!, across: factors >> 4, down: factors & 15 });
    }
    return {
      marker,
      bits: payload[0]!,
      height: view.getUint16(1),
      width: view.getUint16(3),
      components,
    };
  }
  throw new PhotoError("damaged", { found: "a JPEG without a frame header" });
}

/**
 * The chunks of a PNG up to and with IEND; the CRC of each critical chunk is checked.
 *
 * Throws PhotoError where the file ends before IEND, or a CRC is wrong.
 */
export function* pngChunks(data: Uint8Array): Generator<Part> {
  const view = viewOf(data);
  let place = 8;
  for (;;) {
    if (place + 12 > data.length) {
      throw new PhotoError("truncated", { found: "the file ends before its IEND chunk" });
    }
    const name = ascii(data, place + 4, 4);
    const start = place + 8;
    const end = start + view.getUint32(place);
    if (end + 4 > data.length) {
      throw new PhotoError("truncated", { found: `the file ends within its ${name} chunk` });
    }
    const critical = (data[place + 4]! & 0x20) === 0;
    if (critical && crc32(data, place + 4, end) !== view.getUint32(end)) {
      throw new PhotoError("damaged", { found: `a wrong checksum in the ${name} chunk` });
    }
    yield { name, marker: 0, start, end };
    if (name === "IEND") return;
    place = end + 4;
  }
}

/**
 * The chunks of a WebP file, within the length that its RIFF header gives.
 *
 * Throws PhotoError where the file is shorter than that.
 */
export function* webpChunks(data: Uint8Array): Generator<Part> {
  const limit = 8 + viewOf(data).getUint32(4, true);
  if (limit > data.length) {
    throw new PhotoError("truncated", { expected: `${limit} bytes`, found: `${data.length} bytes` });
  }
  yield* riffChunks(data, 12, limit);
}

/** The RIFF chunks of data[place:limit]. Throws PhotoError where one is longer than what is left. */
export function* riffChunks(data: Uint8Array, place: number, limit: number): Generator<Part> {
  const view = viewOf(data);
  while (place + 8 <= limit) {
    const name = ascii(data, place, 4);
    const length = view.getUint32(place + 4, true);
    const start = place + 8;
    const end = start + length;
    if (end > limit) throw new PhotoError("truncated", { found: `the file ends within its ${name} chunk` });
    yield { name, marker: 0, start, end };
    place = end + (length & 1);
  }
}

/** The bytes data[start:start + length] as Latin-1; shorter where the data ends. */
export function ascii(data: Uint8Array, start: number, length: number): string {
  return String.fromCharCode(...data.subarray(start, start + length));
}

export function viewOf(data: Uint8Array): DataView {
  return new DataView(data.buffer, data.byteOffset, data.byteLength);
}

function begins(data: Uint8Array, place: number, bytes: readonly number[]): boolean {
  return bytes.every((byte, index) => data[place + index] === byte);
}

function jpegSize(data: Uint8Array): Size {
  const { width, height } = jpegFrame(data);
  return [width, height];
}

function pngSize(data: Uint8Array): Size {
  const view = viewOf(data);
  const size: Size = [view.getUint32(16), view.getUint32(20)];
  if (ascii(data, 12, 4) !== "IHDR") {
    throw new PhotoError("damaged", { found: "a PNG that does not begin with IHDR" });
  }
  return size;
}

function webpSize(data: Uint8Array): Size {
  const view = viewOf(data);
  const name = ascii(data, 12, 4);
  if (name === "VP8X") {
    const across = view.getUint16(24, true) | (view.getUint8(26) << 16);
    const down = view.getUint16(27, true) | (view.getUint8(29) << 16);
    return [1 + across, 1 + down];
  }
  if (name === "VP8L") {
    const bits = view.getUint32(21, true);
    return [1 + (bits & 0x3fff), 1 + ((bits >>> 14) & 0x3fff)];
  }
  if (name === "VP8 ") return [view.getUint16(26, true) & 0x3fff, view.getUint16(28, true) & 0x3fff];
  throw new PhotoError("damaged", { found: `a WebP that begins with a ${name} chunk` });
}

/** The TIFF block that an Exif orientation would stand in. */
function exifBlock(data: Uint8Array): Uint8Array | null {
  const format = imageFormat(data);
  if (format === "jpeg") {
    for (const { marker, start, end } of jpegSegments(data)) {
      if (marker === APP1 && end - start >= EXIF.length && ascii(data, start, EXIF.length) === EXIF) {
        return data.subarray(start + EXIF.length, end);
      }
    }
  } else if (format === "png") {
    for (const { name, start, end } of pngChunks(data)) {
      if (name === "eXIf") return data.subarray(start, end);
    }
  } else if (format === "webp" && ascii(data, 12, 4) === "VP8X") {
    for (const { name, start, end } of webpChunks(data)) {
      if (name !== "EXIF") continue;
      const block = data.subarray(start, end);
      return ascii(block, 0, EXIF.length) === EXIF ? block.subarray(EXIF.length) : block;
    }
  }
  return null;
}

/** The first entry 0x0112 of a TIFF block's first directory, if one SHORT from 1 to 8; else 1. */
function exifOrientation(block: Uint8Array): number {
  const order = ascii(block, 0, 4);
  if (order !== "II*\0" && order !== "MM\0*") return 1;
  const little = order[0] === "I";
  const view = viewOf(block);
  const directory = view.getUint32(4, little);
  const entries = view.getUint16(directory, little);
  for (let index = 0; index < entries; index += 1) {
    const place = directory + 2 + 12 * index;
    if (place + 12 > block.length) return 1;
    if (view.getUint16(place, little) !== ORIENTATION_TAG) continue;
    const isOneShort = view.getUint16(place + 2, little) === 3 && view.getUint32(place + 4, little) === 1;
    const value = view.getUint16(place + 8, little);
    return isOneShort && value >= 1 && value <= 8 ? value : 1;
  }
  return 1;
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, start) => {
  let value = start;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value >>> 0;
});

/** CRC-32 of data[start:end], as PNG has it. */
/** The checksum of `data` from `start` to `end`, as PNG has it. */
export function crc32(data: Uint8Array, start: number, end: number): number {
  let crc = 0xffffffff;
  for (let place = start; place < end; place += 1) {
    crc = CRC_TABLE[(crc ^ data[place]!) & 0xff]! ^ (crc >>> 8);
  }
  return (crc ^ 0xffffffff) >>> 0;
}
