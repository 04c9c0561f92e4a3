/** A JPEG's file without what decoding does not need, so that no metadata can mislead a decoder. */

import { PhotoError } from "../errors.js";
import { APP0, APP14, APP15, ascii, COM, EOI, isLonely, jpegSegments, type Part, SOS } from "./parts.js";

/**
 * The JPEG with its tables, frame and scans only, its pixels and their compressed form as they were.
 *
 * Throws PhotoError where the segments cannot be followed to an EOI.
 */
export function plainJpeg(data: Uint8Array): Uint8Array {
  const kept: Uint8Array[] = [Uint8Array.of(0xff, 0xd8)];
  for (const segment of jpegSegments(data)) {
    const one = keptSegment(data, segment);
    if (one !== null) kept.push(one);
    if (segment.marker === SOS) {
      keepScans(data, segment.end, kept);
      return joined(kept);
    }
  }
  throw new PhotoError("damaged", { found: "a JPEG without a scan" });
}

/** What stays of a segment: JFIF without its thumbnail, Adobe's transform, all that is coding. */
function keptSegment(data: Uint8Array, { marker, start, end }: Part): Uint8Array | null {
  const length = end - start;
  if (marker === APP0 && length >= 14 && ascii(data, start, 5) === "JFIF\0") {
    return segment(marker, joined([data.subarray(start, start + 12), Uint8Array.of(0, 0)]));
  }
  if (marker === APP14 && length >= 12 && ascii(data, start, 5) === "Adobe") {
    return segment(marker, data.subarray(start, start + 12));
  }
  if ((marker >= APP0 && marker <= APP15) || marker === COM) return null;
  return segment(marker, data.subarray(start, end));
}

function segment(marker: number, payload: Uint8Array): Uint8Array {
  const length = payload.length + 2;
  return joined([Uint8Array.of(0xff, marker, length >> 8, length & 0xff), payload]);
}

/** From the first scan's entropy-coded data to EOI, without the metadata that may stand between scans. */
function keepScans(data: Uint8Array, place: number, kept: Uint8Array[]): void {
  for (;;) {
    const found = nextMarker(data, place);
    if (found === null) throw new PhotoError("truncated", { found: "the file ends within its picture" });
    kept.push(data.subarray(place, found.start));
    if (found.marker === EOI) {
      kept.push(Uint8Array.of(0xff, EOI));
      return;
    }
    const end = found.end + (((data[found.end] ?? 0) << 8) | (data[found.end + 1] ?? 0));
    if (end < found.end + 2 || end > data.length) {
      throw new PhotoError("truncated", { found: "the file ends within a segment" });
    }
    // Metadata is followed by a marker; what is not is a scan's header, or damage that decoders are to see.
    if (nextMarker(data, end)?.start === end) {
      const one = keptSegment(data, { name: "", marker: found.marker, start: found.end + 2, end });
      if (one !== null) kept.push(one);
    } else {
      kept.push(data.subarray(found.start, end));
    }
    place = end;
  }
}

/** The next marker in entropy-coded data, to which stuffed zeros, restarts and a stray TEM belong. */
export function nextMarker(
  data: Uint8Array,
  place: number,
): { marker: number; start: number; end: number } | null {
  for (;;) {
    const start = data.indexOf(0xff, place);
    if (start < 0) return null;
    let end = start;
    while (data[end] === 0xff) end += 1;
    if (end >= data.length) return null;
    const marker = data[end]!;
    if (marker !== 0 && !isLonely(marker)) return { marker, start, end: end + 1 };
    place = end + 1;
  }
}

export function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let place = 0;
  for (const part of parts) {
    whole.set(part, place);
    place += part.length;
  }
  return whole;
}
