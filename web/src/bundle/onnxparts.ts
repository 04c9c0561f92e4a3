/**
 * Whether an ONNX model is whole: a tensor of it may name another file, which no bundle vouches for.
 *
 * Reads protobuf's wire format (protobuf.dev/programming-guides/encoding) and of onnx.proto only the way to the
 * tensors; what they hold is skipped.
 */

type Message = "model" | "training" | "function" | "graph" | "node" | "attribute" | "sparse" | "tensor";

/** message → field number → message, as in onnx.proto */
const WAYS: Record<Message, Record<number, Message>> = {
  model: { 7: "graph", 20: "training", 25: "function" },
  training: { 1: "graph", 2: "graph" },
  function: { 7: "node", 11: "attribute" },
  graph: { 1: "node", 5: "tensor", 15: "sparse" },
  node: { 5: "attribute" },
  attribute: { 5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse" },
  sparse: { 1: "tensor", 2: "tensor" },
  tensor: {},
};
const EXTERNAL_DATA = 13;
const DATA_LOCATION = 14;

/** Whether any tensor of the model lies in another file. Throws RangeError where it is not protobuf. */
export function namesOtherFiles(model: Uint8Array): boolean {
  const waiting: [Message, number, number][] = [["model", 0, model.length]];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const [message, start, end] = next;
    for (const { field, value, begin } of fields(model, start, end)) {
      const way = WAYS[message][field];
      if (way !== undefined && begin !== null) waiting.push([way, begin, begin + value]);
      else if (message === "tensor" && field === EXTERNAL_DATA) return true;
      else if (message === "tensor" && field === DATA_LOCATION && (begin !== null || value !== 0)) return true;
    }
  }
  return false;
}

/** Each field's number, its value or length, and where its bytes begin (null for a number). */
function* fields(
  data: Uint8Array,
  place: number,
  end: number,
): Generator<{ field: number; value: number; begin: number | null }> {
  while (place < end) {
    let tag: number;
    [tag, place] = varint(data, place, end);
    let value = 0;
    let begin: number | null = null;
    const kind = tag % 8;
    if (kind === 0) {
      [value, place] = varint(data, place, end);
    } else if (kind === 2) {
      [value, begin] = varint(data, place, end);
      place = begin + value;
    } else if (kind === 1 || kind === 5) {
      place += kind === 1 ? 8 : 4;
    } else {
      throw new RangeError(`wire type ${kind}`);
    }
    if (place > end) throw new RangeError("a field is longer than its message");
    yield { field: Math.floor(tag / 8), value, begin };
  }
}

/** A number and the place behind it; beyond 2⁵³ only its size matters, and that is kept. */
function varint(data: Uint8Array, place: number, end: number): [number, number] {
  let value = 0;
  for (let shift = 0; place < end && shift < 70; shift += 7) {
    const byte = data[place++]!;
    value += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) return [value, place];
  }
  throw new RangeError("a number is too long");
}
