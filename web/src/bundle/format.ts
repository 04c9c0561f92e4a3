/** What bundle.json holds in format version 1 (spec/bundle.md), and its strict reader. Fetches nothing. */

import { BundleInvalid, BundleLabels, BundleNewer, BundlePath } from "../errors.js";
import { Preprocess } from "../preprocess.js";
import { choice, each, isTable, number, shown, table, type Table, text, whole } from "./strictjson.js";

export const PRECISIONS = ["fp32", "fp16", "int8"] as const;
export type Precision = (typeof PRECISIONS)[number];
export type Dtype = "float32" | "float16";
export type Role = "model" | "golden" | "labels" | "info" | "checksums" | "document";
type Dimension = number | "batch";

/** One ONNX file of the network. */
export interface Copy {
  name: string;
  file: string;
  precision: Precision;
  opset: number;
  input_dtype: Dtype;
  output_dtype: Dtype;
  recorded: Record<string, number | null>;
}

/** One file of the bundle beside bundle.json. */
export interface BundleFile {
  path: string;
  role: Role;
  size_bytes: number;
  sha256: string;
}

export interface GoldenInfo {
  publishable: boolean;
  samples: number;
  origin: string;
  labels_without_sample: string[];
}

/** What bundle.json says; fields are named as there. */
export interface BundleInfo {
  name: string;
  version: string;
  created: string;
  labels: string[];
  preprocess: Preprocess;
  input_shape: Dimension[];
  output_shape: Dimension[];
  copies: Copy[];
  golden: GoldenInfo;
  made: Table;
  license: Table;
  files: BundleFile[];
}

const FORMAT = "samesight-bundle";
const FORMAT_VERSION = 1;
const ROLES = ["model", "golden", "labels", "info", "checksums", "document"] as const;
const DTYPES = ["float32", "float16"] as const;
const MAX_FILES = 20_000;
const MAX_FILE_BYTES = 2 ** 31 - 1;
const MAX_LABELS = 100_000;
const MAX_COPIES = 16;
const KEYS = "format format_version name version created labels preprocess input output copies reference golden made license files";
const COPY_KEYS = ["name", "file", "precision", "opset", "input_dtype", "output_dtype", "recorded"];
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;
const KEY = /^[a-z][a-z0-9_]*$/;
const CREATED = /^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$/;
const VERSION = // semver.org, the suggested regular expression
  /^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)(\.(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$/;
const PART = /^[A-Za-z0-9_][A-Za-z0-9._-]*$/;
const DEVICE = /^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?$/i;
const FRACTIONS = ["test_accuracy", "train_accuracy", "label_agreement"];
const COUNTS = ["test_photos", "train_photos"];
const DIFFERENCES = ["max_abs_difference", "mean_abs_difference"];

/** bundle.json as it was parsed, after every check. Throws BundleNewer, -Invalid, -Path or -Labels. */
export function readBundleInfo(value: unknown): BundleInfo {
  checkFormat(value);
  const top = table(value, "bundle.json", KEYS.split(" "));
  const info: BundleInfo = {
    name: text(top["name"], "name", 100, { pattern: NAME }),
    version: text(top["version"], "version", 100, { pattern: VERSION }),
    created: text(top["created"], "created", 20, { pattern: CREATED }),
    labels: each(top["labels"], "labels", (one, where) => text(one, where, 512), { low: 1, high: MAX_LABELS }),
    preprocess: Preprocess.fromJson(top["preprocess"]),
    input_shape: readSide(top["input"], "input", ["name", "dtype", "layout", "shape"], 4),
    output_shape: readSide(top["output"], "output", ["name", "dtype", "shape"], 2),
    copies: each(top["copies"], "copies", readCopy, { low: 1, high: MAX_COPIES }),
    golden: readGoldenInfo(top["golden"]),
    made: readMade(top["made"]),
    license: readLicense(top["license"]),
    files: each(top["files"], "files", readFile, { low: 1, high: MAX_FILES }),
  };
  const reference = table(top["reference"], "reference", ["framework", "recorded"]);
  text(reference["framework"], "reference.framework", 100);
  readRecorded(reference["recorded"], "reference.recorded");
  checkTogether(info);
  return info;
}

/** What a file is for, told by its path alone. */
export function roleOf(path: string): Role {
  if (path.startsWith("golden/")) return "golden";
  if (path === "labels_mapping.json") return "labels";
  if (path === "model_info.json") return "info";
  if (path === "model_checksums.json") return "checksums";
  return path.endsWith(".onnx") ? "model" : "document";
}

function checkFormat(value: unknown): void {
  if (!isTable(value) || value["format"] !== FORMAT) {
    throw new BundleInvalid("bundle.json is not of this format", { where: "format", expected: `"${FORMAT}"` });
  }
  const version = whole(value["format_version"], "format_version", 1);
  if (version > FORMAT_VERSION) {
    throw new BundleNewer("the bundle was written by a newer Samesight", {
      where: "format_version",
      expected: `at most ${FORMAT_VERSION}`,
      found: version,
      fix: "npm install @samesight/runtime@latest",
    });
  }
}

/** The shape of the network's input or output. */
function readSide(value: unknown, where: string, keys: string[], rank: number): Dimension[] {
  const side = table(value, where, keys);
  choice(side["name"], `${where}.name`, [where]);
  choice(side["dtype"], `${where}.dtype`, ["float32"]);
  if (keys.includes("layout")) choice(side["layout"], `${where}.layout`, ["NCHW"]);
  const shape = each(side["shape"], `${where}.shape`, (one, place) => dimension(one, place), { low: rank, high: rank });
  if (rank === 4) choice(shape[1], `${where}.shape[1]`, [3]);
  return shape;
}

function dimension(value: unknown, where: string): Dimension {
  return where.endsWith("[0]") && value === "batch" ? value : whole(value, where, 1, MAX_LABELS);
}

function readCopy(value: unknown, where: string): Copy {
  const copy = table(value, where, COPY_KEYS);
  const name = text(copy["name"], `${where}.name`, 32, { pattern: /^[a-z0-9][a-z0-9_-]*$/ });
  if (name === "pytorch") throw new BundleInvalid("a copy has the name of the reference", { where, found: name });
  return {
    name,
    file: text(copy["file"], `${where}.file`, 200),
    precision: choice(copy["precision"], `${where}.precision`, PRECISIONS),
    opset: whole(copy["opset"], `${where}.opset`, 1, 1000),
    input_dtype: choice(copy["input_dtype"], `${where}.input_dtype`, DTYPES),
    output_dtype: choice(copy["output_dtype"], `${where}.output_dtype`, DTYPES),
    recorded: readRecorded(copy["recorded"], `${where}.recorded`),
  };
}

/** Figures by name. Those that the format knows are held to their range; others are finite, or null. */
function readRecorded(value: unknown, where: string): Record<string, number | null> {
  const found: Record<string, number | null> = {};
  for (const [key, figure] of Object.entries(openTable(value, where))) {
    const place = `${where}.${key}`;
    if (figure === null) found[key] = null;
    else if (COUNTS.includes(key)) found[key] = whole(figure, place, 0);
    else if (FRACTIONS.includes(key)) found[key] = number(figure, place, 0, 1);
    else found[key] = number(figure, place, ...(DIFFERENCES.includes(key) ? [0] : []));
  }
  return found;
}

function readGoldenInfo(value: unknown): GoldenInfo {
  const golden = table(value, "golden", ["publishable", "samples", "origin", "labels_without_sample"]);
  const without = "golden.labels_without_sample";
  return {
    publishable: choice(golden["publishable"], "golden.publishable", [true, false]),
    samples: whole(golden["samples"], "golden.samples", 0, MAX_FILES),
    origin: text(golden["origin"], "golden.origin", 4096, { empty: true }),
    labels_without_sample: each(golden["labels_without_sample"], without, (one, where) => text(one, where, 512), {
      high: MAX_LABELS,
    }),
  };
}

function readMade(value: unknown): Table {
  const made = openTable(value, "made");
  for (const key of ["by", "model", "how"]) text(made[key], `made.${key}`, 4096);
  for (const [key, one] of Object.entries(made)) {
    const where = `made.${key}`;
    if (Array.isArray(one)) each(one, where, free, { high: MAX_LABELS });
    else if (isTable(one)) Object.entries(openTable(one, where)).forEach(([name, leaf]) => free(leaf, `${where}.${name}`));
    else free(one, where);
  }
  return made;
}

function readLicense(value: unknown): Table {
  const terms = openTable(value, "license");
  text(terms["weights"], "license.weights", 4096);
  for (const [key, one] of Object.entries(terms)) text(one, `license.${key}`, 4096);
  return terms;
}

/** `value` as an object of at most 200 keys, each a plain lower-case name. */
function openTable(value: unknown, where: string): Table {
  if (!isTable(value) || Object.keys(value).length > 200) {
    throw new BundleInvalid("an object of at most 200 keys is needed", { where, found: shown(value) });
  }
  for (const key of Object.keys(value)) text(key, `a key of ${where}`, 100, { pattern: KEY });
  return value;
}

function free(value: unknown, where: string): void {
  if (typeof value === "string") text(value, where, 4096, { empty: true });
  else if (value !== null && typeof value !== "boolean") number(value, where);
}

function readFile(value: unknown, where: string): BundleFile {
  const file = table(value, where, ["path", "role", "size_bytes", "sha256"]);
  if (typeof file["path"] !== "string") throw new BundleInvalid("a string is needed here", { where: `${where}.path` });
  return {
    path: checkPath(file["path"], `${where}.path`),
    role: choice(file["role"], `${where}.role`, ROLES),
    size_bytes: whole(file["size_bytes"], `${where}.size_bytes`, 0, MAX_FILE_BYTES),
    sha256: text(file["sha256"], `${where}.sha256`, 64, { pattern: /^[0-9a-f]{64}$/ }),
  };
}

/** `path`, which is relative, normalised, and an ordinary file name on every system. Throws BundlePath. */
function checkPath(path: string, where: string): string {
  const parts = path.split("/");
  const ordinary = parts.every((part) => PART.test(part) && !part.endsWith(".") && !DEVICE.test(part));
  if (path.length > 200 || parts.length > 8 || !ordinary) {
    throw new BundlePath("a listed path is not an ordinary one inside the bundle", { where, found: shown(path) });
  }
  if (["bundle.json", "bundle.sha256", "bundle.sig"].includes(path.toLowerCase())) {
    throw new BundlePath("bundle.json, its hash and its signature are never listed", { where, found: path });
  }
  return path;
}

/** The rules that bind several fields. */
function checkTogether(info: BundleInfo): void {
  const { labels, input_shape: input, output_shape: output, files } = info;
  distinct("label", "labels", labels);
  if (output[1] !== labels.length) {
    throw new BundleLabels("the number of labels is not the number of outputs", {
      where: "labels",
      expected: `${output[1]} (output.shape[1])`,
      found: labels.length,
    });
  }
  const [width, height] = info.preprocess.size;
  same("input.shape", [3, height, width], input.slice(1));
  same("output.shape[0]", input[0], output[0]);
  checkFiles(files);
  const models = files.filter(({ role }) => role === "model").map(({ path }) => path);
  distinct("copy", "copies", info.copies.map(({ name }) => name));
  same("the models in files", info.copies.map(({ file }) => file).sort(), models.sort());
  const known = new Set(labels);
  for (const label of info.golden.labels_without_sample) {
    if (!known.has(label)) throw new BundleInvalid("not a label", { where: "golden.labels_without_sample", found: shown(label) });
  }
}

/** Every role is that of its path, and no two paths are one where letters have no case. */
function checkFiles(files: BundleFile[]): void {
  const folders = new Map<string, string>();
  const clash = (before: string, path: string): BundlePath =>
    new BundlePath("two listed paths are one on some systems", { where: "files", found: `${before}, ${path}` });
  for (const { path, role } of files) {
    same(`the role of ${path}`, roleOf(path), role);
    const parts = path.split("/");
    for (let count = 1; count < parts.length; count += 1) {
      const folder = parts.slice(0, count).join("/");
      const before = folders.get(folder.toLowerCase()) ?? folder;
      if (before !== folder) throw clash(before, folder);
      folders.set(folder.toLowerCase(), folder);
    }
  }
  const paths = new Map<string, string>();
  for (const { path } of files) {
    const before = paths.get(path.toLowerCase()) ?? folders.get(path.toLowerCase());
    if (before !== undefined) throw clash(before, path);
    paths.set(path.toLowerCase(), path);
  }
}

function distinct(what: string, where: string, names: readonly string[]): void {
  const seen = new Set<string>();
  for (const name of names) {
    if (seen.has(name)) throw new BundleInvalid(`a ${what} stands twice`, { where, found: shown(name) });
    seen.add(name);
  }
}

function same(where: string, expected: unknown, found: unknown): void {
  if (JSON.stringify(expected) !== JSON.stringify(found)) {
    throw new BundleInvalid("two parts of bundle.json disagree", { where, expected: shown(expected), found: shown(found) });
  }
}
