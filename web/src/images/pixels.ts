/** Pixels in memory, and turning them upright. */

/** A picture of width × height pixels; `data` is red, green, blue, row by row, 8 bits each. */
export interface Pixels {
  width: number;
  height: number;
  data: Uint8Array;
}

/** `pixels` of four bytes each without the fourth, which is alpha. */
export function withoutAlpha(rgba: Uint8Array | Uint8ClampedArray, width: number, height: number): Pixels {
  const data = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; to < data.length; from += 4, to += 3) {
    data[to] = rgba[from]!;
    data[to + 1] = rgba[from + 1]!;
    data[to + 2] = rgba[from + 2]!;
  }
  return { width, height, data };
}

/** `pixels` turned as Exif's orientation 1 to 8 asks (spec/preprocess.md, section 4). */
export function upright(pixels: Pixels, orientation: number): Pixels {
  if (orientation === 1) return pixels;
  const turned = orientation >= 5;
  const width = turned ? pixels.height : pixels.width;
  const height = turned ? pixels.width : pixels.height;
  const fromRight = [2, 3, 7, 8].includes(orientation);
  const fromBottom = [3, 4, 6, 7].includes(orientation);
  const data = new Uint8Array(pixels.data.length);
  let to = 0;
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const along = turned ? y : x;
      const down = turned ? x : y;
      const column = fromRight ? pixels.width - 1 - along : along;
      const row = fromBottom ? pixels.height - 1 - down : down;
      const from = (row * pixels.width + column) * 3;
      data[to++] = pixels.data[from]!;
      data[to++] = pixels.data[from + 1]!;
      data[to++] = pixels.data[from + 2]!;
    }
  }
  return { width, height, data };
}
