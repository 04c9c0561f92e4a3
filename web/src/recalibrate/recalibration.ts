/**
 * The small network of this page beside a larger one on a server: how often both say the same, and one number that
 * corrects how sure the small one is. Off unless asked for, and never without consent; nothing is stored.
 */

import { InputError, type SamesightError, ServerError } from "../errors.js";
import { FRAME_PIXELS, type Prediction } from "../protocol.js";
import { askServer } from "./answer.js";
import { fitTemperature, type Pair } from "./temperature.js";

/** Fewer frames say too little for a temperature. */
const LEAST = 5;
/** Older frames are forgotten. */
const MOST = 64;

export interface RecalibrateOptions {
  /** `POST /classify` of a `samesight serve` that allows this page's origin; its query may name a model. */
  url: string | URL;
  /** At most one live frame in so many seconds (default: 30). */
  everySeconds?: number;
  /** Whether the visitor agrees. A function is asked before each frame; nothing is sent while it does not say true. */
  consent: boolean | (() => boolean);
  /** Told of every comparison, and of every one that failed. */
  onChange?: (state: Recalibrated) => void;
}

/** What has been seen so far. */
export interface Recalibrated {
  /** Frames that both models have answered. */
  seen: number;
  /** Those on which both say the same label. */
  same: number;
  /** `same` as a share of `seen`; null before the first. */
  agreement: number | null;
  /** What the logits are divided by from now on; 1 until enough frames have been seen. */
  temperature: number;
  /** How many frames it takes until `temperature` is fitted. */
  needed: number;
  /** The last frame: the two labels, and how sure each model was, from 0 to 1. */
  last: { local: string; localConfidence: number; remote: string; remoteConfidence: number; remoteBundle: string } | null;
  /** Why the last comparison failed; null where it did not. */
  error: SamesightError | null;
}

const NOTHING_SEEN: Recalibrated = {
  seen: 0,
  same: 0,
  agreement: null,
  temperature: 1,
  needed: LEAST,
  last: null,
  error: null,
};

export class Recalibration {
  private readonly url: URL;
  private readonly everyMs: number;
  private readonly pairs: Pair[] = [];
  private readonly stop = new AbortController();
  private nextTime = 0;
  private isAsking = false;
  private current: Recalibrated = NOTHING_SEEN;

  /** Throws InputError where an option will not do. */
  constructor(private readonly options: RecalibrateOptions) {
    const { url, everySeconds = 30, consent } = options;
    try {
      this.url = new URL(url, location.href);
    } catch {
      throw new InputError("recalibrate.url is not an address", { found: url });
    }
    if (!["http:", "https:"].includes(this.url.protocol) || this.url.username !== "" || this.url.password !== "") {
      throw new InputError("recalibrate.url is not an address of a server", { expected: "https://…/classify", found: this.url.protocol });
    }
    if (!(everySeconds > 0) || !Number.isFinite(everySeconds)) {
      throw new InputError("recalibrate.everySeconds is no time", { expected: "seconds, above 0", found: everySeconds });
    }
    if (typeof consent !== "boolean" && typeof consent !== "function") {
      throw new InputError("recalibrate needs the visitor's consent", { expected: "consent: () => boolean", found: consent });
    }
    this.everyMs = 1000 * everySeconds;
  }

  get state(): Recalibrated {
    return this.current;
  }

  /** Whether the next live frame is wanted: it is time, and the visitor agrees. */
  get isDue(): boolean {
    return !this.isAsking && performance.now() >= this.nextTime && this.isAllowed;
  }

  /** Show `frame`, a PNG file, to the larger model, and learn from its answer; null is a frame that is too large. */
  async compare(frame: Uint8Array<ArrayBuffer> | null, local: Prediction, labels: readonly string[]): Promise<void> {
    if (!this.isDue) return; // consent may have been withdrawn, or another frame may be on its way
    this.isAsking = true;
    this.nextTime = performance.now() + this.everyMs;
    try {
      if (frame === null) {
        throw new ServerError("a frame is too large to be sent", { expected: `at most ${FRAME_PIXELS} pixels`, fix: "a smaller picture of the camera" });
      }
      const remote = await askServer(this.url, frame, labels, this.stop.signal);
      this.pairs.push({ logits: local.logits, probabilities: remote.probabilities });
      if (this.pairs.length > MOST) this.pairs.shift();
      const seen = this.current.seen + 1;
      const same = this.current.same + (remote.label === local.label ? 1 : 0);
      this.tell({
        seen,
        same,
        agreement: same / seen,
        temperature: this.pairs.length < LEAST ? 1 : fitTemperature(this.pairs),
        needed: Math.max(0, LEAST - this.pairs.length),
        last: {
          local: local.label,
          localConfidence: local.confidence,
          remote: remote.label,
          remoteConfidence: Math.max(...remote.probabilities),
          remoteBundle: remote.bundle,
        },
        error: null,
      });
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      if (this.stop.signal.aborted) return;
      this.nextTime = Math.max(this.nextTime, performance.now() + error.retryMs);
      this.tell({ error });
    } finally {
      this.isAsking = false;
    }
  }

  /** Ask no more, and forget what was seen. */
  end(): void {
    this.stop.abort();
    this.nextTime = Infinity;
    this.pairs.length = 0;
  }

  private get isAllowed(): boolean {
    const { consent } = this.options;
    return (typeof consent === "function" ? consent() : consent) === true;
  }

  private tell(fields: Partial<Recalibrated>): void {
    this.current = { ...this.current, ...fields };
    this.options.onChange?.(this.current);
  }
}
