/**
 * LocalInferenceEngine: a bundle that answers in this browser, off the page's own thread.
 *
 * The network, the decoders and all checks run in a worker. What is asked waits its turn: a few photos are in the
 * worker at a time, the rest in a queue that is bounded too.
 */

import { CACHE } from "./bundle/store.js";
import { BrowserError, DisposedError, fromMessage, InputError, type SamesightError, StaleError } from "./errors.js";
import type { PreprocessJson } from "./preprocess.js";
import type {
  BundleDescription,
  Canary,
  Classified,
  Opened,
  Prediction,
  Prepared,
  Proof,
  Reply,
  Task,
  WirePhoto,
} from "./protocol.js";
import { type Recalibrated, type RecalibrateOptions, Recalibration } from "./recalibrate/recalibration.js";
import type { SampleProof } from "./verify/judge.js";

/** Photos in the worker: one that is answered, and one that has arrived already. */
const IN_WORKER = 2;
const MAX_THREADS = 4;
const CLOSE_MS = 2000;

/**
 * A photo: its file's bytes, or an address to fetch them from (exact in every browser); or pixels that the browser
 * has decoded already. An `<img>` is fetched again, for its bytes.
 */
export type Photo =
  | Blob
  | ArrayBuffer
  | Uint8Array
  | URL
  | ImageData
  | ImageBitmap
  | HTMLImageElement
  | HTMLVideoElement
  | HTMLCanvasElement
  | OffscreenCanvas
  | VideoFrame;

export interface LoadOptions {
  /** The copy of the network (default: "fp32"). */
  copy?: string;
  /** Threads for each answer (default: one a core, at most 4; one where the page is not cross-origin isolated). */
  threads?: number;
  /** A line "samesight-ed25519-public BASE64": refuse a bundle that is not signed by this key. */
  trust?: string;
  /** Keep checked files in the browser's cache (default: true). */
  cache?: boolean;
  /** Run one sample at the start, as a canary (default: true). */
  canary?: boolean;
  /** How many photos may wait; further ones are refused with StaleError (default: 256). */
  maxWaiting?: number;
  /** Where worker.js and the .wasm files lie (default: beside this module). */
  assets?: string | URL;
  /** Show a live frame now and then, with consent, to a larger model on a server (default: never). */
  recalibrate?: RecalibrateOptions;
}

export interface ClassifyOptions {
  /** How many of the likeliest labels (default: 5). */
  top?: number;
  /** Drops the photo while it waits. */
  signal?: AbortSignal;
  /** A frame of live video: it takes the place of an earlier live frame that still waits (StaleError there). */
  live?: boolean;
}

/** What `verify` tells on its way. */
export interface VerifyProgress {
  sample: SampleProof;
  done: number;
  total: number;
}

interface Job {
  task: () => Promise<Task> | Task;
  live: boolean;
  resolve: (value: unknown) => void;
  reject: (error: SamesightError) => void;
  progress: ((value: unknown) => void) | undefined;
}

export class LocalInferenceEngine {
  private readonly waiting: Job[] = [];
  private readonly running = new Map<number, Job>();
  private nextId = 0;
  private ended: SamesightError | null = null;
  private opened: Opened | null = null;

  private constructor(
    private readonly worker: Worker,
    private readonly maxWaiting: number,
    private readonly larger: Recalibration | null,
  ) {
    worker.addEventListener("message", ({ data }: MessageEvent<Reply>) => this.receive(data));
    worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.end(
        new BrowserError("the runtime's worker cannot run", {
          found: event.message || "the script was not loaded",
          fix: "serve worker.js from the page's origin; its content-security-policy needs 'wasm-unsafe-eval'",
        }),
      );
    });
  }

  /**
   * The engine of the bundle below `url`, after every check of spec/bundle.md.
   *
   * Rejects with a BundleError for the first check that fails, with a BrowserError where the page cannot run it.
   * A canary that does not agree does not reject: see `canary`, and show it.
   */
  static async load(url: string | URL, options: LoadOptions = {}): Promise<LocalInferenceEngine> {
    const { copy = "fp32", cache = true, canary = true, maxWaiting = 256, trust } = options;
    const assets = new URL(options.assets ?? "./", options.assets === undefined ? import.meta.url : location.href);
    const threads = threadsFor(options.threads);
    const larger = options.recalibrate === undefined ? null : new Recalibration(options.recalibrate);
    let worker: Worker;
    try {
      worker = new Worker(new URL("worker.js", assets), { type: "module", name: "samesight" });
    } catch (error) {
      const found = error instanceof Error ? error.message : String(error);
      throw new BrowserError("the runtime's worker cannot be started", { where: assets.href, found });
    }
    const engine = new LocalInferenceEngine(worker, maxWaiting, larger);
    const address = new URL(url, location.href).href;
    try {
      engine.opened = (await engine.ask({
        do: "open",
        url: address,
        copy,
        assets: assets.href,
        threads,
        cache,
        trust,
        canary,
      })) as Opened;
    } catch (error) {
      worker.terminate();
      throw error;
    }
    return engine;
  }

  /** Forget every file that engines on this origin have kept. */
  static async clearCache(): Promise<void> {
    await caches.delete(CACHE);
  }

  get bundle(): BundleDescription {
    return this.description.bundle;
  }

  get labels(): readonly string[] {
    return this.bundle.labels;
  }

  /** The sample that was run at the start; null where the bundle carries none, or none was asked for. */
  get canary(): Canary | null {
    return this.description.canary;
  }

  /** The paths of the pictures that the bundle carries as samples. */
  get photos(): readonly string[] {
    return this.description.photos;
  }

  /** How this network compares with the larger one; null where none was named. */
  get recalibrated(): Recalibrated | null {
    return this.larger?.state ?? null;
  }

  get threads(): number {
    return this.description.threads;
  }

  get onnxruntime(): string {
    return this.description.onnxruntime;
  }

  /** How many photos are being answered or wait. */
  get pending(): number {
    return this.running.size + this.waiting.length;
  }

  /** What `photo` shows. Rejects with PhotoError, StaleError, DisposedError, BundleInvalid or InputError. */
  async classify(photo: Photo, { top = 5, signal, live = false }: ClassifyOptions = {}): Promise<Prediction> {
    const frame = live && this.larger?.isDue === true;
    const task = async (): Promise<Task> => {
      return { do: "classify", photo: await toWire(photo), top, temperature: this.larger?.state.temperature ?? 1, frame };
    };
    const found = (await this.ask(task, { live, signal })) as Classified;
    if (frame) void this.larger?.compare(found.frame, found.prediction, this.labels);
    return found.prediction;
  }

  /**
   * What the network is given of `photo`, with the SHA-256 of what each stage made of it; by another `preprocess`
   * than the bundle's where one is given.
   */
  async prepare(photo: Photo, preprocess?: PreprocessJson): Promise<Prepared> {
    return (await this.ask(async () => ({ do: "prepare", photo: await toWire(photo), preprocess }))) as Prepared;
  }

  /** The logits of a tensor: float32, red then green then blue, each row by row. */
  async logits(tensor: Float32Array): Promise<Float32Array> {
    return (await this.ask({ do: "logits", tensor })) as Float32Array;
  }

  /** Run all samples of the bundle, and tell stage by stage whether they give what was recorded. */
  async verify({ onSample }: { onSample?: (progress: VerifyProgress) => void } = {}): Promise<Proof> {
    return (await this.ask({ do: "verify" }, { progress: onSample as (value: unknown) => void })) as Proof;
  }

  /** Fetch, check and keep what `verify` needs, so that it works offline; how many files. */
  async keepSamples(): Promise<number> {
    return (await this.ask({ do: "keep" })) as number;
  }

  /** The bytes of a file of the bundle, checked. */
  async read(path: string): Promise<Uint8Array<ArrayBuffer>> {
    return (await this.ask({ do: "read", path })) as Uint8Array<ArrayBuffer>;
  }

  /** Release the network and end the worker, whose memory returns only so. What waits is rejected. */
  async dispose(): Promise<void> {
    if (this.ended !== null) return;
    this.larger?.end();
    const disposed = new DisposedError("the engine has been disposed of");
    for (const job of this.waiting.splice(0)) job.reject(disposed);
    const closed = this.ask({ do: "close" }).catch(() => undefined);
    await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, CLOSE_MS))]);
    this.end(disposed);
  }

  private get description(): Opened {
    if (this.opened === null) throw this.ended ?? new InputError("the engine has not been loaded");
    return this.opened;
  }

  private ask(
    task: Task | (() => Promise<Task>),
    { live = false, signal, progress }: { live?: boolean; signal?: AbortSignal | undefined; progress?: (value: unknown) => void } = {},
  ): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.ended !== null) return reject(this.ended);
      const job: Job = { task: typeof task === "function" ? task : () => task, live, resolve, reject, progress };
      if (live) this.drop((other) => other.live, "a newer frame took its place");
      if (this.waiting.length >= this.maxWaiting) {
        return reject(new StaleError("too many photos are waiting", { expected: `at most ${this.maxWaiting}` }));
      }
      if (signal?.aborted) return reject(new StaleError("the photo was dropped: it was aborted"));
      signal?.addEventListener("abort", () => this.drop((other) => other === job, "it was aborted"), { once: true });
      this.waiting.push(job);
      this.start();
    });
  }

  private drop(which: (job: Job) => boolean, why: string): void {
    for (const job of this.waiting.filter(which)) {
      this.waiting.splice(this.waiting.indexOf(job), 1);
      job.reject(new StaleError(`the photo was dropped: ${why}`));
    }
  }

  private start(): void {
    while (this.running.size < IN_WORKER && this.waiting.length > 0 && this.ended === null) {
      const job = this.waiting.shift()!;
      const id = this.nextId++;
      this.running.set(id, job);
      void this.send(id, job);
    }
  }

  private async send(id: number, job: Job): Promise<void> {
    try {
      const task = await job.task();
      if (this.ended !== null) return;
      const transfer = "photo" in task && task.photo instanceof ImageBitmap ? [task.photo] : [];
      this.worker.postMessage({ id, task }, transfer);
    } catch (error) {
      this.running.delete(id);
      const found = error instanceof Error ? error.message : String(error);
      job.reject(error instanceof InputError ? error : new InputError("a photo cannot be read", { found }));
      this.start();
    }
  }

  private receive(reply: Reply): void {
    const job = this.running.get(reply.id);
    if (job === undefined) return;
    if ("progress" in reply) {
      job.progress?.(reply.progress);
      return;
    }
    this.running.delete(reply.id);
    if ("error" in reply) job.reject(fromMessage(reply.error));
    else job.resolve(reply.value);
    this.start();
  }

  private end(why: SamesightError): void {
    this.ended ??= why;
    this.worker.terminate();
    for (const job of [...this.running.values(), ...this.waiting.splice(0)]) job.reject(why);
    this.running.clear();
  }
}

/** How many threads to use; more than one only where the page is cross-origin isolated. */
function threadsFor(asked: number | undefined): number {
  if (asked !== undefined && (!Number.isInteger(asked) || asked < 1)) {
    throw new InputError("threads is not a number of threads", { expected: "1 or more", found: asked });
  }
  if (!globalThis.crossOriginIsolated) {
    if (asked !== undefined && asked > 1) {
      throw new BrowserError("threads need a cross-origin isolated page", {
        expected: "Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp",
        found: "neither, or one",
        fix: "docs/browser.md",
      });
    }
    return 1;
  }
  return asked ?? Math.min(navigator.hardwareConcurrency || 1, MAX_THREADS);
}

/** A photo in a form that can go to the worker. */
async function toWire(photo: Photo): Promise<WirePhoto> {
  if (photo instanceof Blob || photo instanceof Uint8Array || photo instanceof ImageData) return photo;
  if (photo instanceof ImageBitmap) return createImageBitmap(photo); // the page keeps its own
  if (photo instanceof ArrayBuffer) return new Uint8Array(photo);
  if (photo instanceof URL) return fetched(photo.href);
  if (photo instanceof HTMLImageElement) return fetched(photo.currentSrc || photo.src);
  if (photo instanceof HTMLVideoElement && photo.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) {
    throw new InputError("a video shows no picture yet");
  }
  if (photo instanceof HTMLVideoElement || photo instanceof HTMLCanvasElement) return createImageBitmap(photo);
  if (photo instanceof OffscreenCanvas) return createImageBitmap(photo);
  if (typeof VideoFrame !== "undefined" && photo instanceof VideoFrame) return createImageBitmap(photo);
  throw new InputError("this is not a photo", {
    expected: "a Blob, bytes, an address, ImageData, or an element that shows a picture",
    found: Object.prototype.toString.call(photo),
  });
}

async function fetched(address: string): Promise<Blob> {
  const response = await fetch(address);
  if (!response.ok) throw new InputError("a photo cannot be fetched", { where: address, found: `HTTP ${response.status}` });
  return response.blob();
}
