/**
 * Every error that the runtime raises on purpose; the names are those of the Python package.
 *
 * SamesightError                what a user can mend
 * ├── InputError                an option or a photo that does not fit
 * │   └── PhotoError            one photo that cannot be read; `kind` is the refusal of spec/preprocess.md
 * ├── BundleError               a bundle that must not be used
 * │   ├── BundleMissing         no bundle there
 * │   ├── BundleNewer           written in a later format than this version reads
 * │   ├── BundleInvalid         bundle.json says something that the format does not allow
 * │   ├── BundlePath            a listed path leaves the bundle's folder
 * │   ├── BundleFiles           a listed file cannot be fetched
 * │   ├── BundleChanged         a file's size or SHA-256 is not the recorded one
 * │   ├── BundleLabels          the number of labels is not the number of outputs
 * │   └── SignatureError        not signed, or not signed by the trusted key
 * ├── BrowserError              the browser lacks something, or the page was not served as it must be
 * ├── ServerError               a larger model's server did not answer as it must
 * ├── StaleError                a photo was dropped before its turn: aborted, or a newer frame took its place
 * └── DisposedError             the engine has been disposed of
 */

export interface Details {
  where?: unknown;
  expected?: unknown;
  found?: unknown;
  fix?: string;
}

/** An error as it crosses from the worker to the page. */
export interface ErrorMessage extends Details {
  name: string;
  what: string;
  kind?: string;
}

export class SamesightError extends Error {
  readonly where: string | undefined;
  readonly expected: string | undefined;
  readonly found: string | undefined;
  readonly fix: string | undefined;

  constructor(
    readonly what: string,
    details: Details = {},
  ) {
    super(lines(what, details));
    this.name = new.target.name;
    this.where = text(details.where);
    this.expected = text(details.expected);
    this.found = text(details.found);
    this.fix = details.fix;
  }
}

export class InputError extends SamesightError {
  static override readonly name: string = "InputError";
}

export type Refusal =
  | "empty"
  | "unreadable"
  | "unknown"
  | "unsupported"
  | "too-large"
  | "truncated"
  | "damaged";

/** The kinds of refusal, by the names that spec/vectors and every runtime use. */
export const PROBLEMS: Record<Refusal, string> = {
  empty: "a photo's file is empty",
  unreadable: "a photo cannot be read",
  unknown: "a file is not a photo of a kind that Samesight reads",
  unsupported: "a photo is of a kind that has no rule",
  "too-large": "a photo is too large",
  truncated: "a photo is cut short",
  damaged: "a photo is damaged",
};

export class PhotoError extends InputError {
  static override readonly name: string = "PhotoError";

  constructor(
    readonly kind: Refusal,
    details: Details = {},
    what: string = PROBLEMS[kind],
  ) {
    super(what, details);
  }
}

export class BundleError extends SamesightError {
  static override readonly name: string = "BundleError";
}
export class BundleMissing extends BundleError {
  static override readonly name = "BundleMissing";
}
export class BundleNewer extends BundleError {
  static override readonly name = "BundleNewer";
}
export class BundleInvalid extends BundleError {
  static override readonly name = "BundleInvalid";
}
export class BundlePath extends BundleError {
  static override readonly name = "BundlePath";
}
export class BundleFiles extends BundleError {
  static override readonly name = "BundleFiles";
}
export class BundleChanged extends BundleError {
  static override readonly name = "BundleChanged";
}
export class BundleLabels extends BundleError {
  static override readonly name = "BundleLabels";
}
export class SignatureError extends BundleError {
  static override readonly name = "SignatureError";
}
export class BrowserError extends SamesightError {
  static override readonly name = "BrowserError";
}
export class ServerError extends SamesightError {
  static override readonly name = "ServerError";
  /** How long the server asks to be left alone. */
  retryMs = 0;
}
export class StaleError extends SamesightError {
  static override readonly name = "StaleError";
}
export class DisposedError extends SamesightError {
  static override readonly name = "DisposedError";
}

const CLASSES = [
  InputError,
  BundleError,
  BundleMissing,
  BundleNewer,
  BundleInvalid,
  BundlePath,
  BundleFiles,
  BundleChanged,
  BundleLabels,
  SignatureError,
  BrowserError,
  StaleError,
  DisposedError,
];

/** `error` for a message between worker and page. */
export function toMessage(error: unknown): ErrorMessage {
  if (!(error instanceof SamesightError)) {
    const found = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    return { name: "SamesightError", what: "the runtime failed", found };
  }
  const { name, what, where, expected, found, fix } = error;
  const kind = error instanceof PhotoError ? error.kind : undefined;
  return { name, what, where, expected, found, ...(fix && { fix }), ...(kind && { kind }) };
}

/** The error that a message tells of. */
export function fromMessage(message: ErrorMessage): SamesightError {
  if (message.kind !== undefined) return new PhotoError(message.kind as Refusal, message, message.what);
  const kind = CLASSES.find((one) => one.name === message.name) ?? SamesightError;
  return new kind(message.what, message);
}

function text(value: unknown): string | undefined {
  return value === undefined || value === null ? undefined : String(value);
}

function lines(what: string, details: Details): string {
  const parts = [
    ["where", details.where],
    ["expected", details.expected],
    ["found", details.found],
    ["try", details.fix],
  ].filter(([, value]) => value !== undefined && value !== null);
  return [what, ...parts.map(([name, value]) => `  ${`${name}:`.padEnd(9)} ${value}`)].join("\n");
}
