/** Whether the page works without a network. */

import { useEffect, useState } from "react";

import type { LocalInferenceEngine } from "../src/index.js";

export interface Offline {
  /** "ready", or in words why not. */
  state: string;
  /** Loads a newer version of the site; null where there is none. */
  update: (() => void) | null;
}

/** Registers the service worker once the bundle is there, and has the samples kept. */
export function useOffline(engine: LocalInferenceEngine | null): Offline {
  const [offline, setOffline] = useState<Offline>({ state: "not yet", update: null });
  useEffect(() => {
    let isGone = false;
    if (engine === null) return;
    const set = (fields: Partial<Offline>): void => {
      if (!isGone) setOffline((before) => ({ ...before, ...fields }));
    };
    prepare(engine, (update) => set({ update })).then(
      (state) => set({ state }),
      (reason: unknown) => set({ state: reason instanceof Error ? `no: ${reason.message}` : "no" }),
    );
    return () => {
      isGone = true;
    };
  }, [engine]);
  return offline;
}

async function prepare(engine: LocalInferenceEngine, onUpdate: (update: () => void) => void): Promise<string> {
  if (!("serviceWorker" in navigator)) return "no: this browser has no service workers";
  const options = { type: "module", updateViaCache: "none" } as const;
  const registration = await navigator.serviceWorker.register("service-worker.js", options);
  const tell = (): void => {
    const { waiting, active } = registration;
    if (waiting !== null && active !== null) onUpdate(() => takeOver(waiting));
  };
  registration.addEventListener("updatefound", () => registration.installing?.addEventListener("statechange", tell));
  tell();
  await navigator.serviceWorker.ready;
  await engine.keepSamples();
  return "ready";
}

/** Let the newer service worker answer, and load the page anew from it. */
function takeOver(waiting: ServiceWorker): void {
  navigator.serviceWorker.addEventListener("controllerchange", () => location.reload(), { once: true });
  waiting.postMessage("take over");
}
