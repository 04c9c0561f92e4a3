import {
  type ChangeEvent,
  type ClipboardEvent,
  type DragEvent,
  type ReactElement,
  useCallback,
  useEffect,
  useId,
  useRef,
  useState,
} from "react";

import { type LoadOptions, type LocalInferenceEngine, type Prediction, SamesightError } from "../index.js";
import { Answer } from "./Answer.js";
import { Camera } from "./Camera.js";
import { useClassifier } from "./useClassifier.js";

export interface ClassifierProps {
  /** Where the bundle lies. Left out where `engine` is given. */
  bundle?: string;
  /** How it is loaded. */
  options?: LoadOptions;
  /** An engine that the page has loaded itself, and disposes of itself. */
  engine?: LocalInferenceEngine;
  /** How many labels are shown (default: 5). */
  top?: number;
  /** How many answers stay on the page (default: 12); older ones go. */
  keep?: number;
  /** Whether the camera is offered (default: true). */
  camera?: boolean;
  /** Photos that are offered beside the visitor's own. */
  examples?: readonly { name: string; photo: Blob }[];
  onAnswer?: (prediction: Prediction, photo: Blob) => void;
}

interface Shown {
  id: number;
  name: string;
  address: string;
  prediction: Prediction | null;
  error: SamesightError | null;
}

/** Drop, choose or paste photos, or show them to the camera; the likeliest labels of each. */
export function Classifier({ bundle, options, engine, ...rest }: ClassifierProps): ReactElement {
  if (engine !== undefined) return <Ready engine={engine} {...rest} />;
  if (bundle === undefined) return <Trouble error={new SamesightError("<Classifier> needs a bundle or an engine")} />;
  return <Loading bundle={bundle} options={options ?? {}} {...rest} />;
}

function Loading({
  bundle,
  options,
  ...rest
}: Omit<ClassifierProps, "engine"> & { bundle: string; options: LoadOptions }): ReactElement {
  const { status, engine, error } = useClassifier(bundle, options);
  if (status === "failed") return <Trouble error={error} />;
  if (status === "loading") {
    return (
      <div className="samesight samesight-loading" role="status">
        <progress /> Loading and checking the network
      </div>
    );
  }
  return (
    <>
      {engine.canary?.ok === false && <Mismatch />}
      <Ready engine={engine} {...rest} />
    </>
  );
}

function Ready({
  engine,
  top = 5,
  keep = 12,
  camera = true,
  examples = [],
  onAnswer,
}: Omit<ClassifierProps, "bundle" | "options" | "engine"> & { engine: LocalInferenceEngine }): ReactElement {
  const { shown, show, clear } = useAnswers(engine, top, keep, onAnswer);
  const [isOver, setIsOver] = useState(false);
  const [isFilming, setIsFilming] = useState(false);
  const input = useId();
  const choose = (event: ChangeEvent<HTMLInputElement>): void => {
    show([...(event.target.files ?? [])]);
    event.target.value = "";
  };
  const drop = (event: DragEvent): void => {
    event.preventDefault();
    setIsOver(false);
    show([...event.dataTransfer.files]);
  };
  const paste = (event: ClipboardEvent): void => show([...event.clipboardData.files]);
  return (
    <div className="samesight" onPaste={paste}>
      <label
        className={`samesight-drop${isOver ? " is-over" : ""}`}
        htmlFor={input}
        onDragOver={(event) => {
          event.preventDefault();
          setIsOver(true);
        }}
        onDragLeave={() => setIsOver(false)}
        onDrop={drop}
      >
        <input id={input} type="file" accept="image/jpeg,image/png,image/webp" multiple onChange={choose} />
        <span className="samesight-drop-title">Drop photos here, or choose some</span>
        <span className="samesight-soft">JPEG, PNG or WebP. They stay on this device.</span>
      </label>
      <div className="samesight-row">
        {camera && navigator.mediaDevices !== undefined && (
          <button type="button" aria-pressed={isFilming} onClick={() => setIsFilming(!isFilming)}>
            {isFilming ? "Stop the camera" : "Use the camera"}
          </button>
        )}
        {examples.length > 0 && <span className="samesight-soft">or try</span>}
        {examples.map(({ name, photo }) => (
          <Example key={name} name={name} photo={photo} onChoose={() => show([new File([photo], name)])} />
        ))}
        {shown.length > 0 && (
          <button type="button" className="samesight-quiet" onClick={clear}>
            Clear
          </button>
        )}
      </div>
      {isFilming && <Camera engine={engine} top={top} onStop={() => setIsFilming(false)} />}
      <ol className="samesight-answers" aria-live="polite">
        {shown.map((one) => (
          <li key={one.id} className="samesight-card">
            <img src={one.address} alt="" />
            <div>
              <p className="samesight-name">{one.name}</p>
              {one.error !== null && <Trouble error={one.error} />}
              {one.prediction !== null && <Answer prediction={one.prediction} />}
              {one.prediction === null && one.error === null && <progress aria-label="being classified" />}
            </div>
          </li>
        ))}
      </ol>
    </div>
  );
}

/** The photos on the page with their answers, newest first. */
function useAnswers(
  engine: LocalInferenceEngine,
  top: number,
  keep: number,
  onAnswer: ClassifierProps["onAnswer"],
): { shown: Shown[]; show: (photos: File[]) => void; clear: () => void } {
  const [shown, setShown] = useState<Shown[]>([]);
  const nextId = useRef(0);
  const addresses = useRef(new Map<number, string>());
  const forget = useCallback((ids: Iterable<number>) => {
    for (const id of [...ids]) {
      URL.revokeObjectURL(addresses.current.get(id) ?? "");
      addresses.current.delete(id);
    }
  }, []);
  useEffect(() => () => forget(addresses.current.keys()), [forget]);
  useEffect(() => {
    const visible = new Set(shown.map(({ id }) => id));
    forget([...addresses.current.keys()].filter((id) => !visible.has(id)));
  }, [shown, forget]);

  const show = useCallback(
    (photos: File[]) => {
      const added = photos.slice(0, keep).map((photo) => {
        const id = nextId.current++;
        const address = URL.createObjectURL(photo);
        addresses.current.set(id, address);
        const set = (fields: Partial<Shown>): void =>
          setShown((before) => before.map((one) => (one.id === id ? { ...one, ...fields } : one)));
        engine.classify(photo, { top }).then(
          (prediction) => {
            set({ prediction });
            onAnswer?.(prediction, photo);
          },
          (reason: unknown) => set({ error: reason instanceof SamesightError ? reason : new SamesightError(String(reason)) }),
        );
        return { id, name: photo.name, address, prediction: null, error: null };
      });
      setShown((before) => [...added.reverse(), ...before].slice(0, keep));
    },
    [engine, top, keep, onAnswer],
  );
  return { shown, show, clear: useCallback(() => setShown([]), []) };
}

function Example({ name, photo, onChoose }: { name: string; photo: Blob; onChoose: () => void }): ReactElement {
  const [address, setAddress] = useState("");
  useEffect(() => {
    const made = URL.createObjectURL(photo);
    setAddress(made);
    return () => URL.revokeObjectURL(made);
  }, [photo]);
  return (
    <button type="button" className="samesight-example" onClick={onChoose} aria-label={`Try the photo ${name}`}>
      {address !== "" && <img src={address} alt="" />}
    </button>
  );
}

/** An error as a person reads it. */
export function Trouble({ error }: { error: SamesightError }): ReactElement {
  const details = [
    ["where", error.where],
    ["expected", error.expected],
    ["found", error.found],
    ["try", error.fix],
  ].filter(([, value]) => value !== undefined);
  return (
    <div className="samesight-trouble" role="alert">
      <p>{error.what}</p>
      <dl>
        {details.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </div>
  );
}

/** What is shown where the network does not answer here as it did when it was exported. */
export function Mismatch(): ReactElement {
  return (
    <p className="samesight-trouble" role="alert">
      This browser does not give the recorded answer on a sample that is known. Do not trust what it says below.
    </p>
  );
}
