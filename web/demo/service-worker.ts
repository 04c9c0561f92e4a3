/**
 * Keeps the page and the runtime for use without a network. The bundle's own files are kept by the engine, by hash.
 *
 * `samesight web` puts the site's id into this script's first line, so that a changed site brings a changed script.
 * Each script answers from the files of its own site only; the next takes over when the visitor says so, or when no
 * page of the old one is open.
 */

const worker = self as unknown as ServiceWorkerGlobalScope;

interface Site {
  policy: string;
  files: { path: string; sha256: string }[];
}

const PREFIX = "samesight-page-";
const ISOLATION = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};

const own = PREFIX + (globalThis as unknown as { samesightSite: string }).samesightSite;

async function install(): Promise<void> {
  const response = await fetch("site.json", { cache: "no-store" });
  const site = (await response.json()) as Site;
  const cache = await caches.open(own);
  await Promise.all(
    site.files.map(async ({ path, sha256 }) => {
      const fetched = await fetch(path, { cache: "no-cache" });
      const body = await fetched.arrayBuffer();
      if (!fetched.ok || (await digest(body)) !== sha256) throw new Error(`${path} is not what site.json says`);
      // Pages kept so are cross-origin isolated also where the host sends no such headers: threads need that. And
      // the policy holds for workers, which take it from their own headers alone.
      const headers = { ...ISOLATION, "Content-Security-Policy": site.policy, "Content-Type": contentType(fetched) };
      await cache.put(path, new Response(body, { headers }));
    }),
  );
}

async function activate(): Promise<void> {
  for (const name of await caches.keys()) {
    if (name.startsWith(PREFIX) && name !== own) await caches.delete(name);
  }
  await worker.clients.claim();
}

function contentType(response: Response): string {
  return response.headers.get("Content-Type") ?? "application/octet-stream";
}

async function digest(data: ArrayBuffer): Promise<string> {
  const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function answer(request: Request): Promise<Response> {
  const url = new URL(request.url);
  url.search = "";
  if (url.href === worker.registration.scope) url.pathname += "index.html";
  return (await (await caches.open(own)).match(url.href)) ?? fetch(request);
}

worker.addEventListener("install", (event) => event.waitUntil(install()));
worker.addEventListener("activate", (event) => event.waitUntil(activate()));
worker.addEventListener("message", ({ data }) => {
  if (data === "take over") void worker.skipWaiting();
});
worker.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method === "GET" && request.url.startsWith(worker.registration.scope)) {
    event.respondWith(answer(request));
  }
});

export {};
