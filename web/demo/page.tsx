/** The page that `samesight web` writes: a bundle to try, and its proof. */

import { type ReactElement, StrictMode, useEffect, useState } from "react";
import { createRoot } from "react-dom/client";

import type { LocalInferenceEngine } from "../src/index.js";
import { Classifier, Mismatch, Trouble, useClassifier } from "../src/react/index.js";
import { Facts } from "./facts.js";
import { Comparing, type Larger, useLarger } from "./larger.js";
import { type Offline, useOffline } from "./offline.js";
import { Proving } from "./proving.js";
import { type Example, useExamples } from "./examples.js";
import { readQuery } from "./query.js";
import "./page.css";

const { bundle, options, copy: asked } = readQuery();

function Page(): ReactElement {
  const [copy, setCopy] = useState(asked);
  const larger = useLarger();
  const wanted = { ...options, copy, ...(larger && { recalibrate: larger.options }) };
  const { engine, status, error } = useClassifier(bundle, wanted);
  const examples = useExamples(engine);
  const offline = useOffline(engine);
  useEffect(() => {
    if (engine !== null) document.title = `${engine.bundle.name} · Samesight`;
  }, [engine]);
  return (
    <main className="page" data-status={status}>
      <header>
        <p className="kicker">Samesight{engine && ` · version ${engine.bundle.version}`}</p>
        <h1>{engine?.bundle.name ?? "One moment"}</h1>
        <Verdict engine={engine} larger={larger} />
      </header>
      {status === "failed" && <Trouble error={error} />}
      {status === "loading" && <Waiting />}
      {engine !== null && <Loaded {...{ engine, copy, examples, offline, larger }} onCopy={setCopy} />}
    </main>
  );
}

function Waiting(): ReactElement {
  return (
    <p className="waiting" role="status">
      <progress /> Fetching the network, and checking every byte of it before it is used
    </p>
  );
}

interface LoadedProps {
  engine: LocalInferenceEngine;
  copy: string;
  onCopy: (name: string) => void;
  examples: readonly Example[];
  offline: Offline;
  larger: Larger | null;
}

function Loaded({ engine, copy, onCopy, examples, offline, larger }: LoadedProps): ReactElement {
  return (
    <>
      {offline.update !== null && (
        <p className="notice good" role="status">
          There is a newer version of this page.{" "}
          <button type="button" onClick={offline.update}>
            Load it
          </button>
        </p>
      )}
      {engine.canary?.ok === false && <Mismatch />}
      <section aria-labelledby="try">
        <h2 id="try">Try it</h2>
        <Classifier key={engine.bundle.id + copy} engine={engine} examples={examples} />
      </section>
      {larger !== null && (
        <section aria-labelledby="compare">
          <h2 id="compare">Compare it</h2>
          <Comparing engine={engine} larger={larger} />
        </section>
      )}
      <section aria-labelledby="prove">
        <h2 id="prove">Prove it</h2>
        <Proving key={engine.bundle.id + copy} engine={engine} />
      </section>
      <section aria-labelledby="facts">
        <h2 id="facts">What runs here</h2>
        <Facts engine={engine} copy={copy} onCopy={onCopy} offline={offline.state} larger={larger} />
      </section>
    </>
  );
}

/** The sentence under the title: what this is, and whether it agrees with its record. */
function Verdict({ engine, larger }: { engine: LocalInferenceEngine | null; larger: Larger | null }): ReactElement {
  const unless = larger === null ? "" : " unless you allow it";
  if (engine === null) {
    return <p className="verdict">A network that classifies photos on your own device. No photo leaves it{unless}.</p>;
  }
  const { canary, labels } = engine;
  const count = labels.length.toLocaleString("en");
  return (
    <p className="verdict">
      This network tells {count} kinds of photos apart, on your own device; no photo leaves it{unless}.{" "}
      {canary === null && "It carries no sample to check this browser by."}
      {canary?.ok === true && (
        <>
          On a known {canary.kind === "golden" ? "photo" : "picture"} this browser just gave{" "}
          <strong className="good">the same answer as {canary.reference}</strong>, at every stage.
        </>
      )}
      {canary?.ok === false && (
        <strong className="bad">On a known photo this browser does not give the recorded answer.</strong>
      )}
    </p>
  );
}

createRoot(document.getElementById("page")!).render(
  <StrictMode>
    <Page />
  </StrictMode>,
);
