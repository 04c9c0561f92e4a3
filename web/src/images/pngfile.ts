/** Pixels as a PNG file, without loss: what a server is shown is what this browser saw. */

import { crc32 } from "./parts.js";
import type { Pixels } from "./pixels.js";

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

/** `pixels` as a PNG of 8-bit RGB. */
export async function encodePng({ width, height, data }: Pixels): Promise<Uint8Array<ArrayBuffer>> {
  const rows = new Uint8Array(height * (1 + 3 * width));
  for (let row = 0; row < height; row += 1) {
    // Each row starts with its filter; "sub", the difference from the pixel to the left, packs photos best for its cost.
    const from = row * 3 * width;
    const to = row * (1 + 3 * width) + 1;
    rows[to - 1] = 1;
    for (let at = 0; at < 3 * width; at += 1) rows[to + at] = data[from + at]! - (at < 3 ? 0 : data[from + at - 3]!);
  }
  const packed = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, 2, 0, 0, 0], 8);
  const image = new Uint8Array(await new Response(packed).arrayBuffer());
  const parts = [new Uint8Array(SIGNATURE), chunk("IHDR", header), chunk("IDAT", image), chunk("IEND", new Uint8Array())];
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

function chunk(name: string, content: Uint8Array): Uint8Array<ArrayBuffer> {
  const data = new Uint8Array(12 + content.length);
  const view = new DataView(data.buffer);
  view.setUint32(0, content.length);
  data.set(new TextEncoder().encode(name), 4);
  data.set(content, 8);
  view.setUint32(8 + content.length, crc32(data, 4, 8 + content.length));
  return data;
}
