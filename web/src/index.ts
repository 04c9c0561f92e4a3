export { LocalInferenceEngine } from "./engine.js";
export type { ClassifyOptions, LoadOptions, Photo, VerifyProgress } from "./engine.js";
export {
  BrowserError,
  BundleChanged,
  BundleError,
  BundleFiles,
  BundleInvalid,
  BundleLabels,
  BundleMissing,
  BundleNewer,
  BundlePath,
  DisposedError,
  InputError,
  PhotoError,
  SamesightError,
  ServerError,
  SignatureError,
  StaleError,
} from "./errors.js";
export type { Refusal } from "./errors.js";
export type { BundleDescription, Canary, Prediction, Prepared, Proof, Timing, Top } from "./protocol.js";
export type { PreprocessJson } from "./preprocess.js";
export type { Recalibrated, RecalibrateOptions } from "./recalibrate/recalibration.js";
export { fitTemperature } from "./recalibrate/temperature.js";
export type { Pair } from "./recalibrate/temperature.js";
export type { SampleProof, Stage, StageProof } from "./verify/judge.js";
export { STAGES } from "./verify/judge.js";
