/** What the page and its worker say to one another. */

import type { Copy, GoldenInfo } from "./bundle/format.js";
import type { ErrorMessage } from "./errors.js";
import type { PreprocessJson } from "./preprocess.js";
import type { SampleProof } from "./verify/judge.js";

/** A photo as it goes to the worker: bytes, or pixels that the page already has. */
export type WirePhoto = Blob | Uint8Array | ImageData | ImageBitmap;

/** A picture goes to a server with at most so many pixels: what is larger stays here. */
export const FRAME_PIXELS = 1920 * 1080;

export type Task =
  | {
      do: "open";
      url: string;
      copy: string;
      assets: string;
      threads: number;
      cache: boolean;
      trust: string | undefined;
      canary: boolean;
    }
  | { do: "classify"; photo: WirePhoto; top: number; temperature: number; frame: boolean }
  | { do: "prepare"; photo: WirePhoto; preprocess: PreprocessJson | undefined }
  | { do: "logits"; tensor: Float32Array }
  | { do: "verify" }
  | { do: "keep" }
  | { do: "read"; path: string }
  | { do: "close" };

export interface Request {
  id: number;
  task: Task;
}

export type Reply =
  | { id: number; value: unknown }
  | { id: number; progress: unknown }
  | { id: number; error: ErrorMessage };

/** How a bundle that has been opened describes itself. */
export interface Opened {
  bundle: BundleDescription;
  canary: Canary | null;
  photos: string[];
  onnxruntime: string;
  threads: number;
}

export interface BundleDescription {
  id: string;
  name: string;
  version: string;
  created: string;
  labels: string[];
  preprocess: PreprocessJson;
  copies: Copy[];
  golden: GoldenInfo;
  license: Record<string, unknown>;
  made: Record<string, unknown>;
  size_bytes: number;
  files: number;
}

/** A sample that was run when the bundle was opened. */
export interface Canary extends SampleProof {
  kind: "golden" | "synthetic";
  reference: string;
}

/** One of the likeliest labels. */
export interface Top {
  label: string;
  index: number;
  probability: number;
}

/** Milliseconds that the parts of one answer took in the worker. */
export interface Timing {
  decode_ms: number;
  resize_ms: number;
  network_ms: number;
}

/** What a photo shows, likeliest first; fields are named as in Python. */
export interface Prediction {
  label: string;
  index: number;
  confidence: number;
  top: Top[];
  logits: Float32Array;
  /** What the logits were divided by for `confidence` and `top`: 1, unless recalibrated. */
  temperature: number;
  bundle: string;
  copy: string;
  timing: Timing;
}

/** An answer, and where it was asked for the picture as a PNG file; null where that is too large to be sent. */
export interface Classified {
  prediction: Prediction;
  frame: Uint8Array<ArrayBuffer> | null;
}

/** What the network is given of a photo, and the SHA-256 of what each stage made. */
export interface Prepared {
  width: number;
  height: number;
  decoded_sha256: string;
  resized_sha256: string;
  tensor_sha256: string;
  tensor: Float32Array;
}

/** All samples of a bundle, run here. */
export interface Proof {
  ok: boolean;
  runner: "web";
  bundle: string;
  name: string;
  version: string;
  copy: string;
  kind: "golden" | "synthetic";
  reference: string;
  samples: SampleProof[];
  /** How far the logits are from PyTorch's at most, whatever they are held to; null where none was judged. */
  pytorch_max_abs_difference: number | null;
  /** The share of the samples, of those that were judged, that have PyTorch's label. */
  label_agreement: number | null;
  labels_without_sample: string[];
  seconds: number;
  versions: { onnxruntime_web: string; browser: string };
  threads: number;
}
