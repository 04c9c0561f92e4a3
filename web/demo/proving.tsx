/** All samples of the bundle, run in this browser, stage by stage. */

import { type ReactElement, useEffect, useState } from "react";

import type { LocalInferenceEngine, Proof, SampleProof, StageProof } from "../src/index.js";
import { SamesightError, STAGES } from "../src/index.js";
import { Trouble } from "../src/react/index.js";

const SUPERSCRIPTS: Record<string, string> = Object.fromEntries([..."-0123456789"].map((one, at) => [one, "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"[at]!]));

interface Props {
  engine: LocalInferenceEngine;
}

/** A button that runs the samples, and a table that fills as they agree, or do not. */
export function Proving({ engine }: Props): ReactElement {
  const [samples, setSamples] = useState<SampleProof[]>([]);
  const [total, setTotal] = useState(0);
  const [proof, setProof] = useState<Proof | null>(null);
  const [error, setError] = useState<SamesightError | null>(null);
  const [isRunning, setIsRunning] = useState(false);
  const run = async (): Promise<void> => {
    setSamples([]);
    setProof(null);
    setError(null);
    setIsRunning(true);
    try {
      const found = await engine.verify({
        onSample: ({ sample, total: all }) => {
          setTotal(all);
          setSamples((before) => [...before, sample]);
        },
      });
      setProof(found);
    } catch (reason) {
      setError(reason instanceof SamesightError ? reason : new SamesightError(String(reason)));
    } finally {
      setIsRunning(false);
    }
  };
  if (engine.canary === null) {
    return <p className="note">This bundle carries no samples, so there is nothing to prove it by.</p>;
  }
  return (
    <div className="proving" data-ok={proof?.ok ?? ""}>
      <p>{about(engine)}</p>
      <div className="samesight-row">
        <button type="button" className="primary" onClick={() => void run()} disabled={isRunning}>
          {isRunning ? `Sample ${samples.length} of ${total || "…"}` : samples.length > 0 ? "Prove it again" : "Prove it"}
        </button>
        {isRunning && <progress value={samples.length} max={total || 1} aria-label="samples that have been run" />}
      </div>
      {error !== null && <Trouble error={error} />}
      {proof !== null && <Outcome proof={proof} isOwn={isByOwnRecord(engine, proof)} />}
      {samples.length > 0 && <Table engine={engine} samples={samples} />}
    </div>
  );
}

function about(engine: LocalInferenceEngine): string {
  const { kind, reference } = engine.canary!;
  const what =
    kind === "golden"
      ? "The bundle carries real photos, and what every stage made of them when it was exported"
      : "The photos that this network was proved on may not be published, so the page carries drawn pictures, and what every stage made of them when the page was written";
  return `${what}: the decoded pixels, the resized pixels, the tensor, and the numbers that ${reference} gave. Here they are all computed again by this browser, and compared: pixels and tensor bit for bit.`;
}

/** Whether the copy was held to its own record, as int8 copies are. */
function isByOwnRecord({ bundle }: LocalInferenceEngine, { copy }: Proof): boolean {
  return bundle.copies.some(({ name, precision }) => name === copy && precision === "int8");
}

function Outcome({ proof, isOwn }: { proof: Proof; isOwn: boolean }): ReactElement {
  const agreeing = proof.samples.filter(({ ok }) => ok).length;
  const network = proof.samples.flatMap(({ stages }) => stages.filter(({ stage }) => stage === "network"));
  const widest = network.reduce<StageProof | null>(
    (most, one) => ((one.max_abs_difference ?? 0) >= (most?.max_abs_difference ?? 0) ? one : most),
    null,
  );
  const seconds = proof.seconds.toFixed(1);
  return (
    <p className={`notice ${proof.ok ? "good" : "bad"}`} role="status">
      <strong>
        {proof.ok
          ? `The same answer as ${proof.reference}: ${agreeing} of ${proof.samples.length} samples, every stage.`
          : `Not the same: ${proof.samples.length - agreeing} of ${proof.samples.length} samples differ.`}
      </strong>{" "}
      {widest?.max_abs_difference != null &&
        `Logits differ by ${small(widest.max_abs_difference)} at most${widest.allowed === null ? "" : ` (${small(widest.allowed)} is allowed)`}; ${seconds} s.`}{" "}
      {isOwn && proof.pytorch_max_abs_difference !== null &&
        `Beside ${proof.kind === "golden" ? "PyTorch" : "the fp32 copy"} they differ by ${small(proof.pytorch_max_abs_difference)} at most, with the same label on ${percent(proof.label_agreement ?? 0)} of the samples.`}
    </p>
  );
}

function Table({ engine, samples }: { engine: LocalInferenceEngine; samples: SampleProof[] }): ReactElement {
  return (
    <div className="wide" tabIndex={0} role="region" aria-label="the samples, stage by stage">
      <table>
        <thead>
          <tr>
            <th scope="col">Sample</th>
            {STAGES.map((stage) => (
              <th scope="col" key={stage}>
                {stage === "labels" ? "label" : stage}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {samples.map((sample) => (
            <tr key={sample.id} className={sample.ok ? "" : "is-bad"}>
              <th scope="row">
                <Thumbnail engine={engine} path={sample.photo} />
                <span>
                  {sample.predicted}
                  <span className="under">{sample.photo.replace(/^(golden|synthetic)\//, "")}</span>
                </span>
              </th>
              {sample.stages.map((stage) => (
                <td key={stage.stage}>
                  <Mark stage={stage} />
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** What one stage of one sample came to. */
function Mark({ stage }: { stage: StageProof }): ReactElement {
  const { ok, what, max_abs_difference: difference } = stage;
  if (ok === null) return <span className="open">not judged{what && <span className="under">{what}</span>}</span>;
  if (!ok) {
    return (
      <span className="bad">
        ✗ differs{difference !== null && ` by ${small(difference)}`}
        <span className="under">{what}</span>
      </span>
    );
  }
  const words =
    stage.stage === "record"
      ? "sound"
      : stage.stage === "labels"
        ? "same"
        : difference === 0
          ? "same bits"
          : `± ${small(difference ?? 0)}`;
  return (
    <span className="good">
      ✓ <span className={words.startsWith("±") ? "" : "where-wide"}>{words}</span>
      {what && <span className="under">{what}</span>}
    </span>
  );
}

function Thumbnail({ engine, path }: { engine: LocalInferenceEngine; path: string }): ReactElement {
  const [address, setAddress] = useState("");
  useEffect(() => {
    let made = "";
    let isGone = false;
    engine.read(path).then(
      (data) => {
        if (isGone) return;
        made = URL.createObjectURL(new Blob([data]));
        setAddress(made);
      },
      () => undefined,
    );
    return () => {
      isGone = true;
      URL.revokeObjectURL(made);
    };
  }, [engine, path]);
  return address === "" ? <span className="thumbnail" /> : <img className="thumbnail" src={address} alt="" />;
}

function percent(share: number): string {
  return `${Number((100 * share).toFixed(1))} %`;
}

function small(value: number): string {
  if (value === 0 || (value >= 0.01 && value < 1000)) return String(Number(value.toPrecision(2)));
  const [digits, power] = value.toExponential(1).split("e");
  return `${digits} × 10${[...power!.replace("+", "")].map((one) => SUPERSCRIPTS[one]).join("")}`;
}
