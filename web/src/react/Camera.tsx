import { type ReactElement, useEffect, useRef, useState } from "react";

import { type LocalInferenceEngine, type Prediction, StaleError } from "../index.js";
import { Answer } from "./Answer.js";

interface CameraProps {
  engine: LocalInferenceEngine;
  top: number;
  onStop: () => void;
}

/** Frames over which the rate is averaged. */
const WINDOW = 20;

/** The camera's picture with live labels, and how many frames a second are answered. */
export function Camera({ engine, top, onStop }: CameraProps): ReactElement {
  const video = useRef<HTMLVideoElement>(null);
  const [prediction, setPrediction] = useState<Prediction | null>(null);
  const [rate, setRate] = useState<number | null>(null);
  const [trouble, setTrouble] = useState<string | null>(null);
  useEffect(() => {
    const stop = new AbortController();
    const element = video.current;
    if (element === null) return;
    film(element, engine, top, stop.signal, (found, frames) => {
      setPrediction(found);
      setRate(frames);
    }).catch((reason: unknown) => {
      if (!stop.signal.aborted) setTrouble(words(reason));
    });
    return () => stop.abort();
  }, [engine, top]);
  if (trouble !== null) {
    return (
      <div className="samesight-trouble" role="alert">
        <p>The camera cannot be used</p>
        <p>{trouble}</p>
        <button type="button" onClick={onStop}>
          Close
        </button>
      </div>
    );
  }
  return (
    <figure className="samesight-camera">
      <video ref={video} autoPlay muted playsInline />
      <figcaption>
        {prediction === null ? <progress aria-label="waiting for the camera" /> : <Answer prediction={prediction} />}
        <p className="samesight-rate" data-rate={rate ?? ""}>
          {rate === null ? "" : `${rate.toFixed(1)} frames a second`}
        </p>
      </figcaption>
    </figure>
  );
}

/**
 * Classify frame after frame until `signal`, each as soon as the one before the last is answered: while one is in the
 * network, the next one's pixels are on their way.
 */
async function film(
  video: HTMLVideoElement,
  engine: LocalInferenceEngine,
  top: number,
  signal: AbortSignal,
  onAnswer: (prediction: Prediction, rate: number | null) => void,
): Promise<void> {
  const stream = await navigator.mediaDevices.getUserMedia({
    video: { width: { ideal: 640 }, height: { ideal: 480 }, facingMode: "environment" },
  });
  const end = (): void => stream.getTracks().forEach((track) => track.stop());
  if (signal.aborted) return end();
  signal.addEventListener("abort", end, { once: true });
  video.srcObject = stream;
  await video.play();
  const times: number[] = [];
  const answer = async (): Promise<void> => {
    try {
      const prediction = await engine.classify(video, { top, live: true, signal });
      if (signal.aborted) return;
      times.push(performance.now());
      if (times.length > WINDOW) times.shift();
      const elapsed = times.at(-1)! - times[0]!;
      onAnswer(prediction, times.length > 1 ? (1000 * (times.length - 1)) / elapsed : null);
    } catch (reason) {
      if (!(reason instanceof StaleError)) throw reason;
    }
  };
  let last: Promise<void> | null = null;
  while (!signal.aborted) {
    await nextFrame(video);
    const next = answer();
    next.catch(() => undefined); // told when it is waited for
    await last;
    last = next;
  }
  await last;
}

/** Resolves when the video has a new picture, or at the next repaint where the browser cannot say. */
function nextFrame(video: HTMLVideoElement): Promise<unknown> {
  return new Promise((resolve) => {
    if ("requestVideoFrameCallback" in video) video.requestVideoFrameCallback(resolve);
    else requestAnimationFrame(resolve);
  });
}

function words(reason: unknown): string {
  if (reason instanceof DOMException && reason.name === "NotAllowedError") {
    return "The browser was not allowed to use it. Allow it in the address bar, and try again.";
  }
  if (reason instanceof DOMException && reason.name === "NotFoundError") return "There is no camera.";
  return reason instanceof Error ? reason.message : String(reason);
}
