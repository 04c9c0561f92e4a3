/** What runs on this page: the bundle, its copies, the runtime, and what has been checked. */

import type { ReactElement } from "react";

import type { LocalInferenceEngine } from "../src/index.js";
import type { Larger } from "./larger.js";

interface Props {
  engine: LocalInferenceEngine;
  copy: string;
  onCopy: (name: string) => void;
  offline: string;
  larger: Larger | null;
}

export function Facts({ engine, copy, onCopy, offline, larger }: Props): ReactElement {
  const { bundle } = engine;
  const recorded = bundle.copies.find(({ name }) => name === copy)?.recorded;
  const accuracy = recorded?.["test_accuracy"];
  const photos = recorded?.["test_photos"];
  return (
    <>
      <dl className="tiles">
        <div className="tile">
          <dt>Copy</dt>
          <dd>
            <Copies engine={engine} copy={copy} onCopy={onCopy} />
            <span className="small">
              {accuracy == null
                ? "accuracy not measured"
                : `right on ${(100 * accuracy).toFixed(1)} % of ${photos ?? "its"} photos, at export`}
            </span>
          </dd>
        </div>
        <div className="tile">
          <dt>Runtime</dt>
          <dd>
            <span className="big words">ONNX Runtime {engine.onnxruntime}</span>
            <span className="small">
              WebAssembly, {engine.threads} {engine.threads === 1 ? "thread" : "threads"}
              {!crossOriginIsolated && " (this page is not isolated, so no more)"}
            </span>
          </dd>
        </div>
        <div className="tile">
          <dt>Without a network</dt>
          <dd>
            <span className={`big words ${offline === "ready" ? "good" : ""}`} data-offline={offline}>
              {offline === "ready" ? "✓ ready" : offline}
            </span>
            <span className="small">
              {larger === null
                ? "Nothing is sent: the page's policy forbids it"
                : `Nothing is sent elsewhere than to ${larger.host}: the page's policy forbids it`}
            </span>
          </dd>
        </div>
        <div className="tile">
          <dt>Bundle id</dt>
          <dd>
            <code className="big words">{bundle.id.slice(0, 12)}</code>
            <span className="small">SHA-256 of bundle.json; every file is checked against it before use</span>
          </dd>
        </div>
      </dl>
      <p className="note">
        Weights: {String(bundle.license["weights"])}. Made {bundle.created.slice(0, 10)} by {String(bundle.made["by"])}.
        Whole id: <code>{bundle.id}</code>
      </p>
    </>
  );
}

function Copies({ engine, copy, onCopy }: Omit<Props, "offline" | "larger">): ReactElement {
  return (
    <select value={copy} onChange={(event) => onCopy(event.target.value)} aria-label="copy of the network">
      {engine.bundle.copies.map(({ name, precision }) => (
        <option key={name} value={name}>
          {name === precision ? name : `${name} (${precision})`}
        </option>
      ))}
    </select>
  );
}
