/** WebP: what the decoder needs of a file, and where the first frame of an animation stands. */

import { PhotoError } from "../errors.js";
import { riffChunks, viewOf, webpChunks } from "./parts.js";
import { joined } from "./plainjpeg.js";

/** A picture without animation as a WebP file of its own, and its place on the canvas. */
export interface Still {
  data: Uint8Array;
  left: number;
  top: number;
}

const PICTURE = ["ALPH", "VP8 ", "VP8L"];
const HAS_ALPHA = 0x10;

/**
 * The picture of a WebP file, or the first frame of its animation, without metadata.
 *
 * Throws PhotoError where the file is shorter than its header says, or has no picture.
 */
export function stillWebp(data: Uint8Array): Still {
  for (const { name, start, end } of webpChunks(data)) {
    if (name !== "ANMF") continue;
    if (end - start < 16) throw new PhotoError("damaged", { found: "a WebP frame that is too short" });
    const place = 2 * (data[start]! | (data[start + 1]! << 8) | (data[start + 2]! << 16));
    const down = 2 * (data[start + 3]! | (data[start + 4]! << 8) | (data[start + 5]! << 16));
    const size = data.subarray(start + 6, start + 12);
    return { data: file(pictureChunks(data, start + 16, end), size), left: place, top: down };
  }
  const limit = 8 + viewOf(data).getUint32(4, true);
  return { data: file(pictureChunks(data, 12, limit), data.subarray(24, 30)), left: 0, top: 0 };
}

/** The chunks of a picture in data[place:limit], each with its header and padding. */
function pictureChunks(data: Uint8Array, place: number, limit: number): { name: string; bytes: Uint8Array }[] {
  const chunks = [...riffChunks(data, place, limit)].filter(({ name }) => PICTURE.includes(name));
  if (!chunks.some(({ name }) => name !== "ALPH")) {
    throw new PhotoError("damaged", { found: "a WebP without a picture" });
  }
  return chunks.map(({ name, start, end }) => {
    const bytes = new Uint8Array(8 + (end - start) + ((end - start) & 1));
    bytes.set(data.subarray(start - 8, end));
    return { name, bytes };
  });
}

/** A WebP file of these chunks; `size` are the six bytes of VP8X's canvas size. */
function file(chunks: { name: string; bytes: Uint8Array }[], size: Uint8Array): Uint8Array {
  const hasAlpha = chunks.some(({ name }) => name === "ALPH");
  const extended = [0x56, 0x50, 0x38, 0x58, 10, 0, 0, 0, HAS_ALPHA, 0, 0, 0, ...size]; // "VP8X"
  const body = joined([...(hasAlpha ? [Uint8Array.from(extended)] : []), ...chunks.map(({ bytes }) => bytes)]);
  const head = Uint8Array.from([0x52, 0x49, 0x46, 0x46, 0, 0, 0, 0, 0x57, 0x45, 0x42, 0x50]); // RIFF … WEBP
  viewOf(head).setUint32(4, 4 + body.length, true);
  return joined([head, body]);
}
