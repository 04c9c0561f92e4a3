/** How a photo's pixels become a network's tensor: the parameters, checked, and the last step. */

import { BundleInvalid } from "./errors.js";
import type { Pixels } from "./images/pixels.js";
import { choice, each, number, table, whole } from "./bundle/strictjson.js";

export const INTERPOLATIONS = ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"] as const;
export type Interpolation = (typeof INTERPOLATIONS)[number];
const MAX_SIZE = 8192;

type Three = readonly [number, number, number];

/** The object `preprocess` of bundle.json (spec/preprocess.md, section 1). */
export interface PreprocessJson {
  resize: { kind: "shortest_edge"; size: number } | { kind: "exact"; width: number; height: number };
  crop: { width: number; height: number } | null;
  interpolation: Interpolation;
  mean: Three;
  std: Three;
}

/** What is done to a photo's pixels; the parts fit together. */
export class Preprocess {
  /** 256 float32 values for each channel: what each value of a pixel becomes. */
  readonly table: Float32Array;

  private constructor(readonly json: PreprocessJson) {
    this.table = normalisation(json.mean, json.std);
  }

  /** From JSON. Throws BundleInvalid where it says something that the specification does not allow. */
  static fromJson(value: unknown, where = "preprocess"): Preprocess {
    const fields = table(value, where, ["resize", "crop", "interpolation", "mean", "std"]);
    const json: PreprocessJson = {
      resize: readResize(fields["resize"], `${where}.resize`),
      crop: fields["crop"] === null ? null : readSize(fields["crop"], `${where}.crop`),
      interpolation: choice(fields["interpolation"], `${where}.interpolation`, INTERPOLATIONS),
      mean: three(fields["mean"], `${where}.mean`),
      std: three(fields["std"], `${where}.std`),
    };
    const { resize, crop } = json;
    const [width, height] = resize.kind === "exact" ? [resize.width, resize.height] : [resize.size, resize.size];
    if (crop === null && resize.kind !== "exact") {
      throw new BundleInvalid("a shortest edge alone gives photos of different sizes", { where });
    }
    if (crop !== null && (crop.width > width || crop.height > height)) {
      throw new BundleInvalid("the crop is larger than what it is cut from", { where });
    }
    if (json.std.some((one) => one <= 0)) throw new BundleInvalid("std must be above 0", { where: `${where}.std` });
    const spec = new Preprocess(json);
    if (!spec.table.every(Number.isFinite)) {
      throw new BundleInvalid("mean and std give numbers beyond float32", { where });
    }
    return spec;
  }

  get interpolation(): Interpolation {
    return this.json.interpolation;
  }

  /** Width and height of the tensor, in pixels. */
  get size(): readonly [number, number] {
    const { crop, resize } = this.json;
    if (crop !== null) return [crop.width, crop.height];
    if (resize.kind !== "exact") throw new Error("a shortest edge without a crop");
    return [resize.width, resize.height];
  }

  /** Width and height to which a photo of width × height is resized, before its crop. */
  resizedSize(width: number, height: number): readonly [number, number] {
    const { resize } = this.json;
    if (resize.kind === "exact") return [resize.width, resize.height];
    const edge = resize.size;
    if (width <= height) return [edge, Math.floor((edge * height) / width)];
    return [Math.floor((edge * width) / height), edge];
  }

  /** `pixels` as a tensor: float32, red then green then blue, each row by row. */
  normalise(pixels: Pixels): Float32Array {
    const plane = pixels.width * pixels.height;
    const tensor = new Float32Array(3 * plane);
    for (let channel = 0; channel < 3; channel += 1) {
      const values = this.table.subarray(256 * channel, 256 * (channel + 1));
      for (let at = 0, from = channel; at < plane; at += 1, from += 3) {
        tensor[channel * plane + at] = values[pixels.data[from]!]!;
      }
    }
    return tensor;
  }
}

/** ((v / 255) − mean) / std for each channel and value, each step rounded to float32 (section 7). */
export function normalisation(mean: Three, std: Three): Float32Array {
  const round = Math.fround;
  return Float32Array.from({ length: 768 }, (_, place) => {
    const channel = place >> 8;
    const value = round((place & 255) / 255);
    return round(round(value - round(mean[channel]!)) / round(std[channel]!));
  });
}

function readResize(value: unknown, where: string): PreprocessJson["resize"] {
  const kind = typeof value === "object" && value !== null && "kind" in value ? value.kind : undefined;
  if (choice(kind, `${where}.kind`, ["shortest_edge", "exact"] as const) === "shortest_edge") {
    const { size } = table(value, where, ["kind", "size"]);
    return { kind: "shortest_edge", size: whole(size, `${where}.size`, 1, MAX_SIZE) };
  }
  const { width, height } = table(value, where, ["kind", "width", "height"]);
  return {
    kind: "exact",
    width: whole(width, `${where}.width`, 1, MAX_SIZE),
    height: whole(height, `${where}.height`, 1, MAX_SIZE),
  };
}

function readSize(value: unknown, where: string): { width: number; height: number } {
  const { width, height } = table(value, where, ["width", "height"]);
  return {
    width: whole(width, `${where}.width`, 1, MAX_SIZE),
    height: whole(height, `${where}.height`, 1, MAX_SIZE),
  };
}

function three(value: unknown, where: string): Three {
  const found = each(value, where, (one, place) => number(one, place), { low: 3, high: 3 });
  return [found[0]!, found[1]!, found[2]!];
}
