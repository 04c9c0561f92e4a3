/** Bytes by their SHA-256: fetched once, kept in the browser's cache, checked every time they are used. */

import { BrowserError, BundleChanged, BundleFiles } from "../errors.js";
import type { BundleFile } from "./format.js";

export const CACHE = "samesight-files-1";

/** Where the bytes of one file came from. */
export type Source = "cache" | "network";

/** The SHA-256 of `data`, 64 hexadecimal digits. */
export async function sha256(data: Uint8Array | Float32Array): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", data as BufferSource);
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Throw BrowserError where the page lacks what checking needs. */
export function checkSecureContext(): void {
  if (globalThis.crypto?.subtle === undefined) {
    throw new BrowserError("this page cannot check files: it is not a secure context", {
      expected: "https, or http on localhost",
      found: globalThis.location?.origin,
    });
  }
}

/** The files of one bundle, below its address. */
export class Store {
  constructor(
    readonly base: URL,
    private readonly useCache: boolean,
  ) {}

  /** The bytes at `path`, unchecked, at most `limit` of them; null where there is no such file. */
  async fetchUnchecked(path: string, limit: number): Promise<Uint8Array<ArrayBuffer> | null> {
    const where = new URL(path, this.base).href;
    let response: Response;
    try {
      response = await fetch(where, { cache: "no-cache" });
    } catch (error) {
      const found = error instanceof Error ? error.message : String(error);
      throw new BundleFiles("a file of the bundle cannot be fetched", { where, found });
    }
    if (response.status === 404 || response.status === 410) return null;
    if (!response.ok || response.body === null) {
      throw new BundleFiles("a file of the bundle cannot be fetched", { where, found: `HTTP ${response.status}` });
    }
    return readAtMost(response.body, limit);
  }

  /**
   * The bytes of a listed file, checked as they are: these very bytes are used.
   *
   * Throws BundleFiles where it cannot be fetched, BundleChanged where it is not as listed.
   */
  async read(file: BundleFile): Promise<{ data: Uint8Array<ArrayBuffer>; source: Source }> {
    const kept = await this.kept(file);
    if (kept !== null) return { data: kept, source: "cache" };
    const where = new URL(file.path, this.base).href;
    const data = await this.fetchUnchecked(file.path, file.size_bytes + 1);
    if (data === null) throw new BundleFiles("a listed file is missing", { where });
    const fix = "fetch the bundle again from where it came";
    if (data.length !== file.size_bytes) {
      throw new BundleChanged("a file of the bundle has changed: its size is not the recorded one", {
        where,
        expected: `${file.size_bytes} bytes`,
        found: `${data.length} bytes${data.length > file.size_bytes ? " or more" : ""}`,
        fix,
      });
    }
    const found = await sha256(data);
    if (found !== file.sha256) {
      throw new BundleChanged("a file of the bundle has changed: its SHA-256 is not the recorded one", {
        where,
        expected: file.sha256,
        found,
        fix,
      });
    }
    await this.keep(file, data);
    return { data, source: "network" };
  }

  /** Let the browser's cache go of what an earlier bundle at this address listed and no bundle lists now. */
  async adopt(files: readonly BundleFile[]): Promise<void> {
    const cache = await this.cache();
    if (cache === null) return;
    const own = address("bundle", encodeURIComponent(this.base.href));
    const listed = files.map((file) => file.sha256);
    const before = ((await (await cache.match(own))?.json()) ?? []) as string[];
    if (JSON.stringify(before) === JSON.stringify(listed)) return;
    const wanted = new Set(listed);
    for (const request of await cache.keys()) {
      if (!request.url.startsWith(address("bundle", "")) || request.url === own) continue;
      for (const hash of (await (await cache.match(request))?.json()) as string[]) wanted.add(hash);
    }
    for (const hash of before) if (!wanted.has(hash)) await cache.delete(address("sha256", hash));
    await cache.put(own, Response.json(listed));
  }

  private async kept(file: BundleFile): Promise<Uint8Array<ArrayBuffer> | null> {
    const response = await (await this.cache())?.match(address("sha256", file.sha256));
    if (response === undefined) return null;
    const data = new Uint8Array(await response.arrayBuffer());
    return data.length === file.size_bytes && (await sha256(data)) === file.sha256 ? data : null;
  }

  private async keep(file: BundleFile, data: Uint8Array<ArrayBuffer>): Promise<void> {
    try {
      await (await this.cache())?.put(address("sha256", file.sha256), new Response(data));
    } catch (error) {
      if (!(error instanceof DOMException)) throw error; // no room: the file is fetched again next time
    }
  }

  private async cache(): Promise<Cache | null> {
    if (!this.useCache || globalThis.caches === undefined) return null;
    try {
      return await caches.open(CACHE);
    } catch {
      return null; // private windows of some browsers forbid it
    }
  }
}

/** A key of the cache, which takes addresses only; nothing is ever fetched from there. */
function address(kind: "sha256" | "bundle", name: string): string {
  return new URL(`/.samesight/${kind}/${name}`, location.origin).href;
}

/** The first `limit` bytes of a stream, or all of it. */
export async function readAtMost(stream: ReadableStream<Uint8Array>, limit: number): Promise<Uint8Array<ArrayBuffer>> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  const reader = stream.getReader();
  while (length < limit) {
    const { done, value } = await reader.read();
    if (done) break;
    pieces.push(value);
    length += value.length;
  }
  await reader.cancel();
  const whole = new Uint8Array(Math.min(length, limit));
  let place = 0;
  for (const piece of pieces) {
    whole.set(piece.subarray(0, whole.length - place), place);
    place += piece.length;
  }
  return whole;
}
