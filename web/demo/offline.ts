/** Whether the page works without a network. */

import { useEffect, useState } from "react";

import type { LocalInferenceEngine } from "../src/index.js";

/** Registers the service worker once the bundle is there, and has the samples kept; the state in words. */
export function useOffline(engine: LocalInferenceEngine | null): string {
  const [state, setState] = useState("not yet");
  useEffect(() => {
    let isGone = false;
    if (engine === null) return;
    prepare(engine).then(
      (words) => !isGone && setState(words),
      (reason: unknown) => !isGone && setState(reason instanceof Error ? `no: ${reason.message}` : "no"),
    );
    return () => {
      isGone = true;
    };
  }, [engine]);
  return state;
}

async function prepare(engine: LocalInferenceEngine): Promise<string> {
  if (!("serviceWorker" in navigator)) return "no: this browser has no service workers";
  await navigator.serviceWorker.register("service-worker.js", { type: "module", updateViaCache: "none" });
  await navigator.serviceWorker.ready;
  await engine.keepSamples();
  return "ready";
}
