/** Golden samples: photos with what every stage must make of them, as the bundle carries them. */

import type { Copy } from "../bundle/format.js";
import type { Bundle } from "../bundle/open.js";
import { choice, each, number, parse, table, type Table, text, whole } from "../bundle/strictjson.js";
import { BundleInvalid } from "../errors.js";
import { MAX_PIXELS } from "../images/decode.js";
import { Preprocess } from "../preprocess.js";
import { isByOwnRecord, judgeRecord } from "./record.js";

/** One photo and what each stage must make of it; fields are named as in golden.json (spec/bundle.md). */
export interface Sample {
  id: string;
  label: string | null;
  predicted: string;
  photo: string;
  lossless: string | null;
  resized: string;
  width: number;
  height: number;
  decoded_sha256: string;
  resized_sha256: string;
  tensor_sha256: string;
  margin: number;
}

/**
 * The samples of a bundle, for one copy. "golden" ones are real photos with PyTorch's logits; where those may not be
 * published, "synthetic" ones are pictures that were drawn, with the logits that ONNX Runtime gave when the site was
 * written.
 */
export interface Golden {
  kind: "golden" | "synthetic";
  /** Whose answer the copy must give, in words. */
  reference: string;
  preprocess: Preprocess;
  samples: readonly Sample[];
  /** PyTorch's logits, or what stands for them; one Float32Array a sample. */
  logits: readonly Float32Array[];
  /** What the copy must give: the same, or of an int8 copy its own logits as they were recorded. */
  expected: readonly Float32Array[];
  /** What is wrong with the record itself, a sample a place. */
  faults: readonly (string | null)[];
}

const KINDS = {
  golden: { path: "golden/golden.json", format: "samesight-golden", row: "pytorch" },
  synthetic: { path: "synthetic/synthetic.json", format: "samesight-synthetic", row: "reference" },
} as const;
const KEYS = ["format", "format_version", "classes", "preprocess", "chosen", "samples", "logits"];
const SAMPLE_KEYS = [
  ...["id", "label", "predicted", "photo", "original", "lossless", "resized", "width", "height"],
  ...["decoded_sha256", "resized_sha256", "tensor_sha256", "margin", "source_sha256"],
];

/** The samples that `bundle` carries for `copy`, golden ones before synthetic ones; null where it carries none. */
export async function readGolden(bundle: Bundle, copy: Copy): Promise<Golden | null> {
  for (const kind of ["golden", "synthetic"] as const) {
    if (!bundle.has(KINDS[kind].path)) continue;
    const found = await read(bundle, copy, kind);
    if (found.samples.length > 0) return found;
  }
  return null;
}

async function read(bundle: Bundle, copy: Copy, kind: Golden["kind"]): Promise<Golden> {
  const { path, format, row } = KINDS[kind];
  const record = table(parse(await bundle.read(path), path), path, kind === "golden" ? KEYS : [...KEYS, "reference"]);
  choice(record["format"], `${path} format`, [format]);
  choice(record["format_version"], `${path} format_version`, [1]);
  const classes = choice(record["classes"], `${path} classes`, [bundle.info.labels.length]);
  const samples = each(record["samples"], `${path} samples`, (one, where) => readSample(bundle, one, where), { high: 9999 });
  if (new Set(samples.map(({ id }) => id)).size !== samples.length) {
    throw new BundleInvalid("two golden samples have one id", { where: path });
  }
  if (kind === "golden") choice(samples.length, `${path} number of samples`, [bundle.info.golden.samples]);
  const rows = each(record["logits"], `${path} logits`, (one, where) => table(one, where, ["copy", "file"]), { high: 100 });
  const recorded = async (name: string): Promise<Float32Array[]> => {
    const found = rows.find((one) => one["copy"] === name);
    if (found === undefined) throw new BundleInvalid("the recorded logits are not complete", { where: path, expected: name });
    return readLogits(bundle, listed(bundle, found["file"], `${path} logits`), samples.length, classes);
  };
  const reference = kind === "golden" ? "PyTorch" : text(record["reference"], `${path} reference`, 200);
  const isOwn = isByOwnRecord(copy);
  const [logits, own] = await Promise.all([recorded(row), isOwn ? recorded(copy.name) : null]);
  const golden: Golden = {
    kind,
    reference: isOwn ? `the ${copy.name} copy in ONNX Runtime` : reference,
    preprocess: Preprocess.fromJson(record["preprocess"], `${path} preprocess`),
    samples,
    logits,
    expected: own ?? logits,
    faults: [],
  };
  return { ...golden, faults: judgeRecord(golden, copy) };
}

function readSample(bundle: Bundle, value: unknown, where: string): Sample {
  const sample: Table = table(value, where, SAMPLE_KEYS);
  const word = (key: string): string => text(sample[key], `${where} ${key}`, 1000);
  const hash = (key: string): string => text(sample[key], `${where} ${key}`, 64, { pattern: /^[0-9a-f]{64}$/ });
  const path = (key: string): string => listed(bundle, sample[key], `${where} ${key}`);
  hash("source_sha256");
  choice(sample["original"], `${where} original`, [true, false]);
  return {
    id: word("id"),
    label: sample["label"] === null ? null : word("label"),
    predicted: word("predicted"),
    photo: path("photo"),
    lossless: sample["lossless"] === null ? null : path("lossless"),
    resized: path("resized"),
    width: whole(sample["width"], `${where} width`, 1, MAX_PIXELS),
    height: whole(sample["height"], `${where} height`, 1, MAX_PIXELS),
    decoded_sha256: hash("decoded_sha256"),
    resized_sha256: hash("resized_sha256"),
    tensor_sha256: hash("tensor_sha256"),
    margin: number(sample["margin"], `${where} margin`),
  };
}

async function readLogits(bundle: Bundle, path: string, samples: number, classes: number): Promise<Float32Array[]> {
  const data = await bundle.read(path);
  const size = samples * classes * 4;
  if (data.length !== size) {
    throw new BundleInvalid("a file of logits has the wrong size", { where: path, expected: size, found: data.length });
  }
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  const rows = Array.from({ length: samples }, (_, row) =>
    Float32Array.from({ length: classes }, (__, place) => view.getFloat32(4 * (row * classes + place), true)),
  );
  if (!rows.every((row) => row.every(Number.isFinite))) {
    throw new BundleInvalid("recorded logits are not finite", { where: path });
  }
  return rows;
}

/** `value`, which is the path of a file that bundle.json lists, and no model. */
function listed(bundle: Bundle, value: unknown, where: string): string {
  const path = text(value, where, 200);
  if (!bundle.has(path) || bundle.info.copies.some(({ file }) => file === path)) {
    throw new BundleInvalid("a path is not one that bundle.json lists for samples", { where, found: path });
  }
  return path;
}

