/** The larger model that this page may be compared with, where the site names one, and the visitor's leave to ask it. */

import { type ReactElement, useRef, useState } from "react";

import type { LocalInferenceEngine, Recalibrated, RecalibrateOptions } from "../src/index.js";
import { Trouble } from "../src/react/index.js";

/** The site's server, and how the page stands with it. */
export interface Larger {
  host: string;
  everySeconds: number;
  options: RecalibrateOptions;
  isAllowed: boolean;
  allow: (is: boolean) => void;
  seen: Recalibrated | null;
}

/** What `samesight web --recalibrate` wrote into the page; null where it did not. */
function named(): { url: string; everySeconds: number } | null {
  const meta = document.querySelector<HTMLMetaElement>("meta[name=samesight-recalibrate]");
  return meta === null ? null : { url: meta.content, everySeconds: Number(meta.dataset["everySeconds"]) };
}

/** The larger model, at first not allowed to be asked: leave is given on each visit anew. */
export function useLarger(): Larger | null {
  const [site] = useState(named);
  const [isAllowed, setIsAllowed] = useState(false);
  const [seen, setSeen] = useState<Recalibrated | null>(null);
  const allowed = useRef(false);
  if (site === null) return null;
  const allow = (is: boolean): void => {
    allowed.current = is;
    setIsAllowed(is);
  };
  const options = { ...site, consent: () => allowed.current, onChange: setSeen };
  return { host: new URL(site.url).host, everySeconds: site.everySeconds, options, isAllowed, allow, seen };
}

export function Comparing({ engine, larger }: { engine: LocalInferenceEngine; larger: Larger }): ReactElement {
  const { host, everySeconds, isAllowed, allow } = larger;
  const seen = engine.recalibrated; // another copy's engine has seen nothing yet
  return (
    <div className="comparing" data-seen={seen?.seen ?? 0} data-temperature={seen?.temperature ?? 1}>
      <p>
        While the camera runs, a picture of it every {everySeconds} s can be shown to a larger model at <b>{host}</b>. How
        often both agree says how far this one can be trusted, and corrects how sure it says it is. Photos that you choose
        are never sent, and nothing is while this is off.
      </p>
      <label className="switch">
        <input type="checkbox" role="switch" checked={isAllowed} onChange={(event) => allow(event.target.checked)} />
        Send camera pictures to {host}
      </label>
      {seen !== null && seen.error !== null && <Trouble error={seen.error} />}
      {seen !== null && seen.seen > 0 && <Seen seen={seen} />}
    </div>
  );
}

function Seen({ seen }: { seen: Recalibrated }): ReactElement {
  const { last, temperature } = seen;
  const isFitted = seen.needed === 0;
  const way = temperature > 1 ? "less sure" : "surer";
  return (
    <dl className="tiles">
      <div className="tile">
        <dt>Agreement</dt>
        <dd>
          <span className="big words">{percent(seen.agreement ?? 0)}</span>
          <span className="small">
            the same label on {seen.same} of {seen.seen} pictures
          </span>
        </dd>
      </div>
      <div className="tile">
        <dt>Temperature</dt>
        <dd>
          <span className="big words">{isFitted ? temperature.toFixed(2) : "not yet"}</span>
          <span className="small">
            {isFitted ? `its percentages above are corrected: it is ${way} than it said` : `after ${seen.needed} more`}
          </span>
        </dd>
      </div>
      {last !== null && (
        <div className="tile">
          <dt>The last picture</dt>
          <dd>
            <span className={`big words ${last.local === last.remote ? "good" : "bad"}`}>
              {last.remote} {percent(last.remoteConfidence)}
            </span>
            <span className="small">
              here: {last.local} {percent(last.localConfidence)}
            </span>
          </dd>
        </div>
      )}
    </dl>
  );
}

function percent(share: number): string {
  return `${(100 * share).toFixed(0)} %`;
}
