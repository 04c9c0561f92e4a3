/** What the page's address asks for, beside the defaults: ?copy=fp16&threads=1&bundle=bundle/ */

import type { LoadOptions } from "../src/index.js";

export interface Query {
  bundle: string;
  copy: string;
  options: LoadOptions;
}

export function readQuery(): Query {
  const words = new URLSearchParams(location.search);
  const threads = Number(words.get("threads"));
  const options: LoadOptions = { assets: new URL("runtime/", document.baseURI) };
  if (Number.isInteger(threads) && threads > 0) options.threads = threads;
  const bundle = new URL(words.get("bundle") ?? "bundle/", document.baseURI);
  // Only bundles beside the page: an address that somebody sends must not bring a network from elsewhere.
  const isOwn = bundle.href.startsWith(new URL("./", document.baseURI).href);
  return { bundle: isOwn ? bundle.href : "bundle/", copy: words.get("copy") ?? "fp32", options };
}
