/** The worker of LocalInferenceEngine: opens a bundle, and does one task after another with it. */

import jpegFactory from "@jsquash/jpeg/codec/dec/mozjpeg_dec.js";
import webpFactory from "@jsquash/webp/codec/dec/webp_dec.js";

import { Bundle } from "./bundle/open.js";
import { sha256 } from "./bundle/store.js";
import { BundleInvalid, InputError, SamesightError, toMessage } from "./errors.js";
import { decode, type Decoders } from "./images/decode.js";
import { type Pixels, withoutAlpha } from "./images/pixels.js";
import { encodePng } from "./images/pngfile.js";
import { type Factory, WasmDecoder } from "./images/wasm.js";
import { checkFinite, Network, ONNXRUNTIME_VERSION, setUp } from "./network.js";
import { Preprocess, type PreprocessJson } from "./preprocess.js";
import {
  type BundleDescription,
  type Canary,
  type Classified,
  FRAME_PIXELS,
  type Opened,
  type Prediction,
  type Prepared,
  type Proof,
  type Reply,
  type Request,
  type Task,
  type WirePhoto,
} from "./protocol.js";
import { softmax } from "./recalibrate/temperature.js";
import { resize } from "./resample.js";
import { type Golden, readGolden } from "./verify/golden.js";
import { judgeSample, type SampleProof } from "./verify/judge.js";

type Progress = (value: unknown) => void;

/** What a worker holds between an "open" and its end. */
class Holder {
  private constructor(
    readonly bundle: Bundle,
    readonly network: Network,
    readonly decoders: Decoders,
    private readonly threads: number,
  ) {}

  static async open(task: Extract<Task, { do: "open" }>): Promise<[Holder, Opened]> {
    const assets = new URL(task.assets);
    setUp(assets, task.threads);
    const bundle = await Bundle.open(task.url, {
      cache: task.cache,
      ...(task.trust !== undefined && { trust: task.trust }),
    });
    const decoders = {
      jpeg: new WasmDecoder(jpegFactory as unknown as Factory, () => compile(assets, "jpeg.wasm")),
      webp: new WasmDecoder(webpFactory as unknown as Factory, () => compile(assets, "webp.wasm")),
    };
    // What the canary needs comes while the network is being read and compiled.
    const golden = task.canary ? readGolden(bundle, bundle.copy(task.copy)) : null;
    golden?.catch(() => undefined); // told below, after what is wrong with the network itself
    decoders.jpeg.prepare();
    const network = await Network.load(bundle, task.copy);
    const holder = new Holder(bundle, network, decoders, task.threads);
    const canary = await holder.canary(await golden);
    const photos = bundle.files.map(({ path }) => path).filter((path) => /^(golden|synthetic)\/.*\/photo\./.test(path));
    const opened = { bundle: describe(bundle), canary, photos, onnxruntime: ONNXRUNTIME_VERSION, threads: task.threads };
    return [holder, opened];
  }

  async classify({ photo, top, temperature, frame }: Extract<Task, { do: "classify" }>): Promise<Classified> {
    const start = performance.now();
    const pixels = await this.pixels(photo);
    const decoded = performance.now();
    const spec = this.bundle.info.preprocess;
    const tensor = spec.normalise(resize(pixels, spec));
    const prepared = performance.now();
    const logits = await this.network.logits(tensor);
    checkFinite(logits, this.network.copy);
    const timing = {
      decode_ms: decoded - start,
      resize_ms: prepared - decoded,
      network_ms: performance.now() - prepared,
    };
    const best = likeliest(logits, this.bundle.info.labels, top, temperature);
    const prediction = { ...best, logits, temperature, bundle: this.bundle.id, copy: this.network.copy.name, timing };
    const isWanted = frame && pixels.width * pixels.height <= FRAME_PIXELS;
    return { prediction, frame: isWanted ? await encodePng(pixels) : null };
  }

  async prepare(photo: WirePhoto, preprocess: PreprocessJson | undefined): Promise<Prepared> {
    const pixels = await this.pixels(photo);
    const spec = preprocess === undefined ? this.bundle.info.preprocess : Preprocess.fromJson(preprocess);
    const resized = resize(pixels, spec);
    const tensor = spec.normalise(resized);
    return {
      width: pixels.width,
      height: pixels.height,
      decoded_sha256: await sha256(pixels.data),
      resized_sha256: await sha256(resized.data),
      tensor_sha256: await sha256(tensor),
      tensor,
    };
  }

  logits(tensor: Float32Array): Promise<Float32Array> {
    return this.network.logits(tensor);
  }

  async verify(progress: Progress): Promise<Proof> {
    const start = performance.now();
    const golden = await readGolden(this.bundle, this.network.copy);
    if (golden === null) throw new InputError("the bundle has no samples, so there is nothing to prove it by");
    const samples: SampleProof[] = [];
    for (let index = 0; index < golden.samples.length; index += 1) {
      samples.push(await judgeSample(this, golden, index));
      progress({ sample: samples.at(-1), done: samples.length, total: golden.samples.length });
    }
    const { name, version, golden: info } = this.bundle.info;
    const judged = samples.filter(({ found }) => found !== null);
    const most = Math.max(...judged.map(({ pytorch_max_abs_difference: far }) => far!));
    return {
      ok: samples.every(({ ok }) => ok),
      runner: "web",
      bundle: this.bundle.id,
      name,
      version,
      copy: this.network.copy.name,
      kind: golden.kind,
      reference: golden.reference,
      samples,
      pytorch_max_abs_difference: judged.length > 0 ? most : null,
      label_agreement: judged.length > 0 ? judged.filter(({ found, predicted }) => found === predicted).length / judged.length : null,
      labels_without_sample: info.labels_without_sample,
      seconds: (performance.now() - start) / 1000,
      versions: { onnxruntime_web: ONNXRUNTIME_VERSION, browser: navigator.userAgent },
      threads: this.threads,
    };
  }

  /** Fetch, check and keep all that the proof needs, so that it works offline. */
  async keep(): Promise<number> {
    const wanted = this.bundle.files.filter(({ path }) => /^(golden|synthetic)\//.test(path));
    for (const { path } of wanted) await this.bundle.read(path);
    return wanted.length;
  }

  read(path: string): Promise<Uint8Array> {
    return this.bundle.read(path);
  }

  async close(): Promise<void> {
    await this.network.release();
  }

  private async canary(golden: Golden | null): Promise<Canary | null> {
    if (golden === null) return null;
    const sample = await judgeSample(this, golden, 0);
    return { ...sample, kind: golden.kind, reference: golden.reference };
  }

  private async pixels(photo: WirePhoto): Promise<Pixels> {
    if (photo instanceof Uint8Array) return decode(photo, this.decoders);
    if (photo instanceof Blob) return decode(new Uint8Array(await photo.arrayBuffer()), this.decoders);
    const image = photo instanceof ImageBitmap ? drawn(photo) : photo;
    if (!(image.data instanceof Uint8ClampedArray)) throw new InputError("an ImageData of 8 bits is needed");
    return withoutAlpha(image.data, image.width, image.height);
  }
}

function drawn(bitmap: ImageBitmap): ImageData {
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (context === null) throw new InputError("this browser cannot read a picture's pixels in a worker");
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, width, height);
}

async function compile(assets: URL, name: string): Promise<WebAssembly.Module> {
  const response = await fetch(new URL(name, assets));
  if (!response.ok) throw new SamesightError("a part of the runtime cannot be fetched", { where: response.url, found: `HTTP ${response.status}` });
  return WebAssembly.compile(await response.arrayBuffer());
}

function describe({ id, info }: Bundle): BundleDescription {
  const { name, version, created, labels, preprocess, copies, golden, license, made, files } = info;
  const size_bytes = files.reduce((sum, file) => sum + file.size_bytes, 0);
  return { id, name, version, created, labels, preprocess: preprocess.json, copies, golden, license, made, size_bytes, files: files.length };
}

/** The `top` likeliest labels, equal ones in the order of the labels. */
function likeliest(
  logits: Float32Array,
  labels: string[],
  top: number,
  temperature: number,
): Pick<Prediction, "label" | "index" | "confidence" | "top"> {
  const probabilities = softmax(logits, temperature);
  const order = Array.from(logits.keys()).sort((a, b) => logits[b]! - logits[a]! || a - b);
  const best = order.slice(0, Math.max(top, 1)).map((index) => ({ label: labels[index]!, index, probability: probabilities[index]! }));
  const first = best[0];
  if (first === undefined) throw new BundleInvalid("a network without labels");
  return { label: first.label, index: first.index, confidence: first.probability, top: best };
}

let holder: Holder | null = null;

async function perform(task: Task, progress: Progress): Promise<unknown> {
  if (task.do === "open") {
    const [opened, description] = await Holder.open(task);
    holder = opened;
    return description;
  }
  if (holder === null) throw new InputError("no bundle is open");
  if (task.do === "classify") return holder.classify(task);
  if (task.do === "prepare") return holder.prepare(task.photo, task.preprocess);
  if (task.do === "logits") return holder.logits(task.tensor);
  if (task.do === "verify") return holder.verify(progress);
  if (task.do === "keep") return holder.keep();
  if (task.do === "read") return holder.read(task.path);
  return holder.close();
}

// ONNX Runtime's session takes one input at a time, so tasks follow one another.
let last: Promise<void> = Promise.resolve();

self.addEventListener("message", ({ data }: MessageEvent<Request>) => {
  const { id, task } = data;
  const send = (reply: Reply): void => self.postMessage(reply);
  last = last.then(async () => {
    try {
      send({ id, value: await perform(task, (progress) => send({ id, progress })) });
    } catch (error) {
      if (!(error instanceof SamesightError)) console.error(error);
      send({ id, error: toMessage(error) });
    }
  });
});
