/** float32 to float16 and back, rounded to nearest, ties to even, as IEEE 754 and numpy do. */

const scratch = new DataView(new ArrayBuffer(4));

/** The bits of `values` as float16. */
export function toHalves(values: Float32Array): Uint16Array {
  return Uint16Array.from(values, toHalf);
}

/** The float32 values of float16 `bits`; every float16 is one exactly. */
export function fromHalves(bits: Uint16Array): Float32Array {
  return Float32Array.from(bits, fromHalf);
}

function toHalf(value: number): number {
  scratch.setFloat32(0, value);
  const bits = scratch.getUint32(0);
  const sign = (bits >>> 16) & 0x8000;
  const size = Math.abs(value);
  if (Number.isNaN(value)) return sign | 0x7e00;
  if (size >= 65520) return sign | 0x7c00;
  // Below 2⁻¹⁴ halves are 2⁻²⁴ apart; above, ten bits of the exponent's step.
  const step = size < 2 ** -14 ? 2 ** -24 : 2 ** (((bits >>> 23) & 0xff) - 127 - 10);
  const steps = roundToEven(size / step);
  if (size < 2 ** -14) return sign | steps;
  const exponent = ((bits >>> 23) & 0xff) - 127 + 15;
  return sign | ((exponent << 10) + steps - 1024);
}

function fromHalf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}

function roundToEven(value: number): number {
  const down = Math.floor(value);
  const rest = value - down;
  return rest > 0.5 || (rest === 0.5 && down % 2 === 1) ? down + 1 : down;
}
