/**
 * JSON from a bundle, read strictly (spec/bundle.md): what the format does not allow is refused, with the place
 * named. Nothing is guessed and nothing is dropped: a key twice, a key too many, NaN, a number out of range.
 */

import { BundleInvalid } from "../errors.js";

export type Table = Record<string, unknown>;

const MAX_NUMBER = 1e308;
const MAX_DEPTH = 100;
const CONTROL = /[\u0000-\u001f\u007f-\u009f]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/;

/** The JSON value in `data`, which is UTF-8 without a byte order mark. Throws BundleInvalid. */
export function parse(data: Uint8Array, where: string): unknown {
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(data);
    return new Parser(text).document();
  } catch (error) {
    const found = error instanceof Error ? error.message : String(error);
    throw new BundleInvalid("a file of the bundle is not strict JSON", { where, found });
  }
}

/** `value` as an object that has every key of `keys`, and no other. */
export function table(value: unknown, where: string, keys: readonly string[]): Table {
  if (!isTable(value)) throw refused("an object is needed here", where, "an object", value);
  for (const key of keys) {
    if (!Object.hasOwn(value, key)) throw new BundleInvalid("a key is missing", { where, expected: `'${key}'` });
  }
  for (const key of Object.keys(value)) {
    if (!keys.includes(key)) {
      throw new BundleInvalid("an unknown key", { where, expected: `only ${keys.join(", ")}`, found: shown(key) });
    }
  }
  return value;
}

export function isTable(value: unknown): value is Table {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** `value` as a string of at most `limit` code points, none of them a control character. */
export function text(
  value: unknown,
  where: string,
  limit: number,
  { pattern, empty = false }: { pattern?: RegExp; empty?: boolean } = {},
): string {
  if (typeof value !== "string") throw refused("a string is needed here", where, "a string", value);
  const length = value.length > limit ? [...value].length : value.length;
  if (length > limit || (length === 0 && !empty)) {
    throw refused("a string is too long or empty", where, `1 to ${limit} characters`, value);
  }
  if (CONTROL.test(value)) throw refused("a string has a control character", where, "printable characters", value);
  if (pattern !== undefined && !pattern.test(value)) {
    throw refused("a string has the wrong form", where, pattern.source, value);
  }
  return value;
}

/** `value`, which is one of `allowed`; true is not 1. */
export function choice<const T>(value: unknown, where: string, allowed: readonly T[]): T {
  const found = allowed.find((one) => one === value);
  if (found === undefined) {
    const names = allowed.map((one) => JSON.stringify(one)).join(" or ");
    throw refused("not one of the values that the format knows", where, names, value);
  }
  return found;
}

/** `value` as an integer from `low` to `high`. */
export function whole(value: unknown, where: string, low: number, high = Number.MAX_SAFE_INTEGER): number {
  if (!Number.isSafeInteger(value) || (value as number) < low || (value as number) > high) {
    throw refused("a whole number is needed here", where, `a whole number from ${low} to ${high}`, value);
  }
  return value as number;
}

/** `value` as a finite number from `low` to `high`. */
export function number(value: unknown, where: string, low = -MAX_NUMBER, high = MAX_NUMBER): number {
  if (typeof value !== "number" || !(value >= low && value <= high)) {
    throw refused("a number is needed here", where, `a finite number from ${low} to ${high}`, value);
  }
  return value;
}

/** The items of the list `value`, each as `read(item, where)` gives it. */
export function each<T>(
  value: unknown,
  where: string,
  read: (item: unknown, where: string) => T,
  { low = 0, high }: { low?: number; high: number },
): T[] {
  if (!Array.isArray(value)) throw refused("a list is needed here", where, "a list", value);
  if (value.length < low || value.length > high) {
    throw new BundleInvalid("a list is too short or too long", {
      where,
      expected: `${low} to ${high} items`,
      found: value.length,
    });
  }
  return value.map((item, index) => read(item, `${where}[${index}]`));
}

/** `value` for a message: short. */
export function shown(value: unknown): string {
  const words = JSON.stringify(value) ?? String(value);
  return words.length <= 100 ? words : `${words.slice(0, 97)}...`;
}

function refused(what: string, where: string, expected: string, found: unknown): BundleInvalid {
  return new BundleInvalid(what, { where, expected, found: shown(found) });
}

/** RFC 8259 to the letter; JSON.parse would take the last of two equal keys. */
class Parser {
  private place = 0;

  constructor(private readonly text: string) {}

  document(): unknown {
    const value = this.value(0);
    this.blank();
    if (this.place < this.text.length) throw this.wrong("the end");
    return value;
  }

  private value(depth: number): unknown {
    if (depth > MAX_DEPTH) throw this.wrong("less nesting");
    this.blank();
    const character = this.text[this.place];
    if (character === "{") return this.table(depth);
    if (character === "[") return this.list(depth);
    if (character === '"') return this.string();
    for (const [word, value] of [["true", true], ["false", false], ["null", null]] as const) {
      if (this.text.startsWith(word, this.place)) {
        this.place += word.length;
        return value;
      }
    }
    return Number(this.match(/-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y, "a value"));
  }

  private table(depth: number): Table {
    const result: Table = {};
    this.place += 1;
    this.blank();
    if (this.text[this.place] === "}") return this.close(result);
    for (;;) {
      this.blank();
      const key = this.string();
      if (Object.hasOwn(result, key)) throw new Error(`the key ${shown(key)} stands twice in one object`);
      this.blank();
      this.take(":");
      const value = this.value(depth + 1);
      Object.defineProperty(result, key, { value, enumerable: true, configurable: true, writable: true });
      this.blank();
      if (this.text[this.place] === "}") return this.close(result);
      this.take(",");
    }
  }

  private list(depth: number): unknown[] {
    const result: unknown[] = [];
    this.place += 1;
    this.blank();
    if (this.text[this.place] === "]") return this.close(result);
    for (;;) {
      result.push(this.value(depth + 1));
      this.blank();
      if (this.text[this.place] === "]") return this.close(result);
      this.take(",");
    }
  }

  private string(): string {
    const string = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
    return JSON.parse(this.match(string, "a string")) as string;
  }

  private match(pattern: RegExp, expected: string): string {
    pattern.lastIndex = this.place;
    const found = pattern.exec(this.text)?.[0];
    if (found === undefined) throw this.wrong(expected);
    this.place += found.length;
    return found;
  }

  private close<T>(result: T): T {
    this.place += 1;
    return result;
  }

  private take(character: string): void {
    if (this.text[this.place] !== character) throw this.wrong(`'${character}'`);
    this.place += 1;
  }

  private blank(): void {
    while (" \t\n\r".includes(this.text[this.place] ?? "x")) this.place += 1;
  }

  private wrong(expected: string): Error {
    return new Error(`${expected} is missing at character ${this.place}`);
  }
}
