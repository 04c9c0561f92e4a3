/**
 * A bundle below an address, opened after the checks of spec/bundle.md, in their order.
 *
 * A browser has no folder to list, so step 9's search for unlisted files is left out; and it fetches a file when it
 * is needed, so that steps 10 and 11 are taken for each file then, before the file is used.
 */

import { BundleChanged, BundleFiles, BundleInvalid, BundleMissing, InputError } from "../errors.js";
import { type BundleFile, type BundleInfo, type Copy, readBundleInfo } from "./format.js";
import { checkSignature } from "./signature.js";
import { checkSecureContext, sha256, Store } from "./store.js";
import { parse } from "./strictjson.js";

const MAX_JSON_BYTES = 16 * 2 ** 20;
const MAX_SIGNATURE_BYTES = 4096;

export interface OpenOptions {
  /** A line "samesight-ed25519-public BASE64": refuse a bundle that is not signed by this key. */
  trust?: string;
  /** Keep checked files in the browser's cache (default: true). */
  cache?: boolean;
}

/** A bundle whose bundle.json has passed every check, and whose files are checked as they are read. */
export class Bundle {
  private constructor(
    readonly id: string,
    readonly info: BundleInfo,
    private readonly store: Store,
  ) {}

  /** The bundle below `url`. Throws a BundleError for the first check that fails. */
  static async open(url: string | URL, { trust, cache = true }: OpenOptions = {}): Promise<Bundle> {
    checkSecureContext();
    const base = new URL(url, location.href);
    if (!base.pathname.endsWith("/")) base.pathname += "/";
    const store = new Store(base, cache);
    const where = new URL("bundle.json", base).href;
    const document = await store.fetchUnchecked("bundle.json", MAX_JSON_BYTES + 1);
    if (document === null) throw new BundleMissing("there is no bundle here", { where, expected: "bundle.json" });
    if (document.length > MAX_JSON_BYTES) {
      throw new BundleInvalid("a file is too large", { where, expected: `at most ${MAX_JSON_BYTES} bytes` });
    }
    const line = await store.fetchUnchecked("bundle.sha256", 200);
    if (line === null) throw new BundleFiles("the bundle lacks a file", { where: base.href, expected: "bundle.sha256" });
    const id = await sha256(document);
    const expected = `${id}  bundle.json\n`;
    if (String.fromCharCode(...line) !== expected) {
      throw new BundleChanged("bundle.json is not the file that bundle.sha256 names", {
        where,
        expected: new TextDecoder().decode(line).trim(),
        found: expected.trim(),
        fix: "fetch the bundle again from where it came",
      });
    }
    if (trust !== undefined) {
      const signature = await store.fetchUnchecked("bundle.sig", MAX_SIGNATURE_BYTES + 1);
      if (signature !== null && signature.length > MAX_SIGNATURE_BYTES) {
        throw new BundleInvalid("a file is too large", { where: "bundle.sig" });
      }
      await checkSignature(document, signature, trust);
    }
    const info = readBundleInfo(parse(document, "bundle.json"));
    await store.adopt(info.files);
    return new Bundle(id, info, store);
  }

  get files(): readonly BundleFile[] {
    return this.info.files;
  }

  /** The copy of that name. Throws InputError, which names those that there are. */
  copy(name: string): Copy {
    const found = this.info.copies.find((copy) => copy.name === name);
    if (found !== undefined) return found;
    const expected = this.info.copies.map((copy) => copy.name).join(", ");
    throw new InputError("the bundle has no such copy", { expected, found: name });
  }

  has(path: string): boolean {
    return this.files.some((file) => file.path === path);
  }

  /** The bytes of a listed file, whose size and SHA-256 have just been checked. Throws a BundleError. */
  async read(path: string): Promise<Uint8Array<ArrayBuffer>> {
    const file = this.files.find((one) => one.path === path);
    if (file === undefined) throw new InputError("the bundle lists no such file", { found: path });
    return (await this.store.read(file)).data;
  }
}
