/** Photos that the bundle carries, for visitors who have none at hand. */

import { useEffect, useState } from "react";

import type { LocalInferenceEngine } from "../src/index.js";

export interface Example {
  name: string;
  photo: Blob;
}

const MOST = 6;

/** A few of the bundle's sample photos, once they have been fetched and checked. */
export function useExamples(engine: LocalInferenceEngine | null): readonly Example[] {
  const [examples, setExamples] = useState<readonly Example[]>([]);
  useEffect(() => {
    let isGone = false;
    setExamples([]);
    if (engine === null) return;
    readSome(engine).then(
      (found) => !isGone && setExamples(found),
      () => undefined, // the engine went away; its errors are told where it is used
    );
    return () => {
      isGone = true;
    };
  }, [engine]);
  return examples;
}

async function readSome(engine: LocalInferenceEngine): Promise<Example[]> {
  const { photos } = engine;
  const chosen = Array.from({ length: Math.min(MOST, photos.length) }, (_, place) =>
    photos[Math.floor((place * photos.length) / Math.min(MOST, photos.length))]!,
  );
  return Promise.all(
    chosen.map(async (path) => ({ name: path.split("/").slice(-2).join(" "), photo: new Blob([await engine.read(path)]) })),
  );
}
