/** One copy of a network in ONNX Runtime's WebAssembly build: tensors to logits. */

import * as ort from "onnxruntime-web/wasm";

import type { Bundle } from "./bundle/open.js";
import type { Copy } from "./bundle/format.js";
import { namesOtherFiles } from "./bundle/onnxparts.js";
import { BundleInvalid, InputError } from "./errors.js";
import { fromHalves, toHalves } from "./halves.js";

export const ONNXRUNTIME_VERSION = ort.env.versions.web ?? ort.env.versions.common;

/** An ONNX file that gives its one number back. */
const SMALLEST = Uint8Array.from(
  atob("CAcSADo3CgoKAWESAWIiCElkZW50aXR5EgFnWg8KAWESCgoICAESBAoCCAFiDwoBYhIKCggIARIECgIIAUIECgAQDA=="),
  (character) => character.charCodeAt(0),
);

/**
 * Say where ONNX Runtime's own files lie, and how many threads it may use; and have it fetched and compiled, which it
 * does for its first network, while the bundle is still being read.
 */
export function setUp(assets: URL, threads: number): void {
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = {
    mjs: new URL("ort-wasm-simd-threaded.mjs", assets).href,
    wasm: new URL("ort-wasm-simd-threaded.wasm", assets).href,
  };
  const started = ort.InferenceSession.create(SMALLEST, { executionProviders: ["wasm"] });
  started.then((session) => session.release()).catch(() => undefined); // a real network tells what is wrong
}

export class Network {
  private constructor(
    readonly copy: Copy,
    private readonly session: ort.InferenceSession,
    private readonly inputShape: readonly (number | "batch")[],
    private readonly classes: number,
  ) {}

  /** The copy of that name. Throws BundleInvalid where its model is not what bundle.json says. */
  static async load(bundle: Bundle, name: string): Promise<Network> {
    const copy = bundle.copy(name);
    const model = await bundle.read(copy.file);
    checkWhole(model, copy);
    let session: ort.InferenceSession;
    try {
      session = await ort.InferenceSession.create(model, {
        executionProviders: ["wasm"],
        graphOptimizationLevel: "all",
      });
    } catch (error) {
      const found = error instanceof Error ? error.message : String(error);
      throw new BundleInvalid("ONNX Runtime cannot load a model", { where: copy.file, found });
    }
    const { input_shape: input, output_shape: output, labels } = bundle.info;
    checkSide("input", copy, session.inputMetadata, copy.input_dtype, input);
    checkSide("output", copy, session.outputMetadata, copy.output_dtype, output);
    return new Network(copy, session, input, labels.length);
  }

  /** The logits of one photo's tensor (3 × height × width), float32, one a label. */
  async logits(tensor: Float32Array): Promise<Float32Array> {
    const [batch, ...sides] = this.inputShape as [number | "batch", ...number[]];
    const length = sides.reduce((product, side) => product * side, 1);
    if (tensor.length !== length) {
      throw new InputError("a tensor of the wrong size", { expected: sides.join(" × "), found: `${tensor.length} values` });
    }
    const count = batch === "batch" ? 1 : batch;
    const values = count === 1 ? tensor : new Float32Array(count * length);
    if (count > 1) values.set(tensor); // the rest stays zero, and its answers are dropped
    const shape = [count, ...sides];
    const input =
      this.copy.input_dtype === "float16"
        ? new ort.Tensor("float16", toHalves(values), shape)
        : new ort.Tensor("float32", values, shape);
    const results = await this.session.run({ input });
    const output = results["output"];
    if (output === undefined) throw new BundleInvalid("a model gives no output", { where: this.copy.file });
    const found = floats(output.data).slice(0, this.classes);
    output.dispose();
    return found;
  }

  async release(): Promise<void> {
    await this.session.release();
  }
}

/** Throw BundleInvalid where logits are not finite: they are never a label. */
export function checkFinite(logits: Float32Array, copy: Copy): void {
  const wrong = logits.reduce((count, value) => count + (Number.isFinite(value) ? 0 : 1), 0);
  if (wrong > 0) {
    throw new BundleInvalid("the network's answer is not a number", {
      where: `the ${copy.name} copy`,
      expected: `${logits.length} finite logits`,
      found: `${wrong} that are not`,
    });
  }
}

function floats(data: ort.Tensor.DataType): Float32Array {
  if (data instanceof Float32Array) return data;
  if (data instanceof Uint16Array) return fromHalves(data);
  return Float32Array.from(data as unknown as ArrayLike<number>); // Float16Array, where the browser has it
}

function checkWhole(model: Uint8Array, copy: Copy): void {
  let others: boolean;
  try {
    others = namesOtherFiles(model);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new BundleInvalid("a model is not an ONNX file", { where: copy.file, found: error.message });
  }
  if (others) {
    throw new BundleInvalid("a model keeps tensors in another file, which no bundle vouches for", { where: copy.file });
  }
}

function checkSide(
  name: "input" | "output",
  copy: Copy,
  sides: readonly ort.InferenceSession.ValueMetadata[],
  dtype: string,
  shape: readonly (number | "batch")[],
): void {
  const [side] = sides;
  const real = side?.isTensor === true ? side.shape : [];
  // Any name will do for "batch", but it must be a name.
  const fits = shape.every((one, place) => (one === "batch" ? typeof real[place] !== "number" : one === real[place]));
  if (sides.length !== 1 || side?.isTensor !== true || side.name !== name || side.type !== dtype || !fits || real.length !== shape.length) {
    throw new BundleInvalid(`the ${name} of a model is not what bundle.json says`, {
      where: copy.file,
      expected: `'${name}', ${dtype}, ${shape.join(" × ")}`,
      found: sides.map((one) => `'${one.name}', ${one.isTensor ? `${one.type}, ${one.shape.join(" × ")}` : "no tensor"}`).join("; "),
    });
  }
}
