/** From a photo's bytes to upright RGB pixels, by the rules of spec/preprocess.md. */

import type { EmscriptenModule, WasmDecoder } from "./wasm.js";
import { PhotoError } from "../errors.js";
import { decodeJpegExactly } from "./jpegpixels.js";
import { imageFormat, imageSize, type JpegFrame, jpegFrame, orientation } from "./parts.js";
import { type Pixels, upright, withoutAlpha } from "./pixels.js";
import { plainJpeg } from "./plainjpeg.js";
import { decodePng } from "./png.js";
import { stillWebp } from "./webp.js";

export const MAX_PIXELS = 8192 * 8192;
export const MAX_BYTES = 256 * 2 ** 20;

/** Baseline, extended and progressive Huffman coding. */
const READ_FRAMES = [0xc0, 0xc1, 0xc2];
/** The samplings of colour in which the WebAssembly decoder was compared with libjpeg-turbo 3. */
const COMPARED_SAMPLINGS = ["1x1", "2x1", "2x2", "4x1"];

/** The decoders that are WebAssembly. */
export interface Decoders {
  jpeg: WasmDecoder;
  webp: WasmDecoder;
}

/**
 * The upright pixels of a photo.
 *
 * Sizes are held to their limits before anything is decoded. Throws PhotoError, with the kind of refusal, where
 * the file has no rule in spec/preprocess.md; BMP, GIF and TIFF are left to runtimes that have them.
 */
export async function decode(data: Uint8Array, decoders: Decoders): Promise<Pixels> {
  const format = imageFormat(data);
  if (data.length > MAX_BYTES) {
    throw new PhotoError("too-large", { expected: `at most ${MAX_BYTES} bytes`, found: `${data.length} bytes` });
  }
  if (format !== "jpeg" && format !== "png" && format !== "webp") {
    throw new PhotoError("unsupported", { found: `a photo of format ${format}`, fix: "save it as JPEG or PNG" });
  }
  const [width, height] = imageSize(data, format);
  checkPixels(width, height);
  let pixels: Pixels;
  if (format === "jpeg") pixels = await decodeJpeg(data, jpegFrame(data), decoders.jpeg);
  else if (format === "png") pixels = decodePng(data);
  else pixels = await decodeWebp(data, [width, height], decoders.webp);
  if (pixels.width !== width || pixels.height !== height) {
    const found = `a header of ${width} x ${height} but a picture of ${pixels.width} x ${pixels.height} pixels`;
    throw new PhotoError("damaged", { found });
  }
  return upright(pixels, orientation(data));
}

/** Throw PhotoError of kind "too-large" where there are more than MAX_PIXELS. */
export function checkPixels(width: number, height: number): void {
  if (width * height > MAX_PIXELS) {
    throw new PhotoError("too-large", {
      expected: `at most ${MAX_PIXELS} pixels`,
      found: `${width} x ${height} pixels`,
    });
  }
}

async function decodeJpeg(data: Uint8Array, frame: JpegFrame, decoder: WasmDecoder): Promise<Pixels> {
  const count = frame.components.length;
  if (!READ_FRAMES.includes(frame.marker)) {
    throw new PhotoError("unsupported", { found: `a JPEG of coding SOF${frame.marker - 0xc0}` });
  }
  if (frame.bits !== 8 || ![1, 3, 4].includes(count)) {
    throw new PhotoError("unsupported", { found: `a JPEG of ${count} channels of ${frame.bits} bits` });
  }
  const plain = plainJpeg(data);
  if (!isCompared(frame)) return decodeJpegExactly(plain, frame);
  const image = await decoder.decode(plain, (module: EmscriptenModule, bytes) => module.decode(bytes, false));
  return withoutAlpha(image.data, image.width, image.height);
}

function isCompared({ components }: JpegFrame): boolean {
  if (components.length === 1) return true;
  const [luma, ...chroma] = components.map(({ across, down }) => `${across}x${down}`);
  return chroma.length === 2 && COMPARED_SAMPLINGS.includes(luma!) && chroma.every((one) => one === "1x1");
}

async function decodeWebp(
  data: Uint8Array,
  [width, height]: [number, number],
  decoder: WasmDecoder,
): Promise<Pixels> {
  const still = stillWebp(data);
  const image = await decoder.decode(still.data, (module, bytes) => module.decode(bytes));
  const frame = withoutAlpha(image.data, image.width, image.height);
  if (still.left === 0 && still.top === 0 && frame.width === width && frame.height === height) return frame;
  if (still.left + frame.width > width || still.top + frame.height > height) {
    throw new PhotoError("damaged", { found: "a WebP frame beyond its canvas" });
  }
  const canvas = { width, height, data: new Uint8Array(width * height * 3) };
  for (let row = 0; row < frame.height; row += 1) {
    const line = frame.data.subarray(row * frame.width * 3, (row + 1) * frame.width * 3);
    canvas.data.set(line, ((still.top + row) * width + still.left) * 3);
  }
  return canvas;
}
