import { useCallback, useEffect, useMemo, useRef, useState } from "react";

import {
  type ClassifyOptions,
  LocalInferenceEngine,
  type LoadOptions,
  type Photo,
  type Prediction,
  SamesightError,
} from "../index.js";

/** The state of an engine that a component loads. */
export type ClassifierState =
  | { status: "loading"; engine: null; error: null }
  | { status: "ready"; engine: LocalInferenceEngine; error: null }
  | { status: "failed"; engine: null; error: SamesightError };

export type UseClassifier = ClassifierState & {
  /** What a photo shows; rejects while the engine is not ready. */
  classify: (photo: Photo, options?: ClassifyOptions) => Promise<Prediction>;
};

const LOADING: ClassifierState = { status: "loading", engine: null, error: null };

/**
 * The engine of the bundle below `bundle`: loaded when the component appears, disposed of when it goes.
 *
 * Another `bundle` or other `options` (by value) load another engine; functions among them are taken as they are now.
 */
export function useClassifier(bundle: string, options: LoadOptions = {}): UseClassifier {
  const [state, setState] = useState<ClassifierState>(LOADING);
  const key = JSON.stringify({ ...options, assets: options.assets?.toString() });
  const now = useRef(options);
  now.current = options;
  useEffect(() => {
    let isGone = false;
    let engine: LocalInferenceEngine | null = null;
    setState(LOADING);
    LocalInferenceEngine.load(bundle, withFunctions(JSON.parse(key) as LoadOptions, now)).then(
      (loaded) => {
        engine = loaded;
        if (isGone) void loaded.dispose();
        else setState({ status: "ready", engine: loaded, error: null });
      },
      (reason: unknown) => {
        const error = reason instanceof SamesightError ? reason : new SamesightError(String(reason));
        if (!isGone) setState({ status: "failed", engine: null, error });
      },
    );
    return () => {
      isGone = true;
      void engine?.dispose();
    };
  }, [bundle, key]);
  const { engine } = state;
  const classify = useCallback(
    async (photo: Photo, asked?: ClassifyOptions) => {
      if (engine === null) throw new SamesightError("the bundle is not loaded yet");
      return engine.classify(photo, asked);
    },
    [engine],
  );
  return useMemo(() => ({ ...state, classify }), [state, classify]);
}

/** The options that JSON has kept, with the functions that the component has at any time. */
function withFunctions(options: LoadOptions, now: { current: LoadOptions }): LoadOptions {
  if (options.recalibrate === undefined) return options;
  const consent = (): boolean => {
    const asked = now.current.recalibrate?.consent;
    return typeof asked === "function" ? asked() : asked === true;
  };
  const onChange: NonNullable<LoadOptions["recalibrate"]>["onChange"] = (state) => now.current.recalibrate?.onChange?.(state);
  return { ...options, recalibrate: { ...options.recalibrate, consent, onChange } };
}
