import type { ReactElement } from "react";

import type { Prediction } from "../index.js";

/** The likeliest labels of one photo, each with its probability as a bar. */
export function Answer({ prediction }: { prediction: Prediction }): ReactElement {
  return (
    <ol className="samesight-bars">
      {prediction.top.map(({ label, index, probability }, place) => (
        <li key={index} className={place === 0 ? "is-first" : ""}>
          <span className="samesight-label">{label}</span>
          <span className="samesight-bar" aria-hidden="true">
            <span style={{ inlineSize: `${100 * probability}%` }} />
          </span>
          <span className="samesight-percent">{(100 * probability).toFixed(1)} %</span>
        </li>
      ))}
    </ol>
  );
}
