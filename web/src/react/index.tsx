export { Answer } from "./Answer.js";
export { Camera } from "./Camera.js";
export { Classifier, type ClassifierProps, Mismatch, Trouble } from "./Classifier.js";
export { type ClassifierState, type UseClassifier, useClassifier } from "./useClassifier.js";
