/** The tables and scans of a JPEG, and its entropy-coded data as coefficients (ITU-T T.81, annexes B to G). */

import { PhotoError } from "../errors.js";
import { APP0, APP14, ascii, EOI, isLonely, type JpegFrame, SOI, SOS } from "./parts.js";

/** One component: its sampling, its size in whole blocks, and its coefficients, 64 a block, in natural order. */
export interface Component {
  id: number;
  across: number;
  down: number;
  table: number;
  /** Blocks a row and rows of blocks that hold the picture; memory has whole MCUs of them. */
  columns: number;
  rows: number;
  stride: number;
  coefficients: Int16Array;
}

export interface Coefficients {
  components: Component[];
  quantisation: Uint16Array[];
  mostAcross: number;
  mostDown: number;
  jfif: boolean;
  /** Adobe's colour transform; null where there is no Adobe segment. */
  adobe: number | null;
}

export const ZIGZAG = Uint8Array.of(
  0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7,
  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39,
  46, 53, 60, 61, 54, 47, 55, 62, 63,
);
const PROGRESSIVE = 0xc2;

interface Scan {
  components: { component: Component; dc: number; ac: number }[];
  first: number;
  last: number;
  high: number;
  low: number;
}

/** A Huffman code: for each length the first code, how many, and where their symbols begin. */
interface Huffman {
  counts: Uint8Array;
  symbols: Uint8Array;
}

export function spoilt(found: string): PhotoError {
  return new PhotoError("damaged", { found });
}

/** The coefficients of a JPEG without metadata (`plainJpeg`). Throws PhotoError where its data is spoilt. */
export function readCoefficients(data: Uint8Array, frame: JpegFrame): Coefficients {
  return new Reader(data, frame).read();
}

class Reader {
  private place = 2;
  private readonly quantisation: Uint16Array[] = [];
  private readonly dc: Huffman[] = [];
  private readonly ac: Huffman[] = [];
  private readonly components: Component[];
  private readonly mostAcross: number;
  private readonly mostDown: number;
  private interval = 0;
  private jfif = false;
  private adobe: number | null = null;
  private bits = 0;
  private bitCount = 0;
  private blocksToSkip = 0;

  constructor(
    private readonly data: Uint8Array,
    private readonly frame: JpegFrame,
  ) {
    const factors = frame.components.flatMap(({ across, down }) => [across, down]);
    if (factors.some((factor) => factor < 1 || factor > 4)) throw spoilt("an impossible sampling");
    this.mostAcross = Math.max(...frame.components.map((one) => one.across));
    this.mostDown = Math.max(...frame.components.map((one) => one.down));
    const [mcusAcross, mcusDown] = this.mcus();
    this.components = frame.components.map(({ id, across, down }) => {
      const columns = Math.ceil(Math.ceil((frame.width * across) / this.mostAcross) / 8);
      const rows = Math.ceil(Math.ceil((frame.height * down) / this.mostDown) / 8);
      const stride = mcusAcross * across;
      const coefficients = new Int16Array(64 * stride * mcusDown * down);
      return { id, across, down, table: 0, columns, rows, stride, coefficients };
    });
  }

  read(): Coefficients {
    for (;;) {
      const marker = this.marker();
      if (marker === EOI) break;
      if (marker === SOI || isLonely(marker)) continue;
      const end = this.place + this.word(this.place);
      const start = this.place + 2;
      if (end > this.data.length) throw spoilt("a segment that is too long");
      this.place = end;
      if (marker === 0xdb) this.readQuantisation(start, end);
      else if (marker === 0xc4) this.readHuffman(start, end);
      else if (marker === 0xdd) this.interval = this.word(start);
      else if (marker === APP0) this.jfif = true;
      else if (marker === APP14) this.adobe = ascii(this.data, start, 5) === "Adobe" ? this.data[start + 11]! : null;
      else if (marker >= 0xc0 && marker <= 0xc2) this.readTables(start);
      else if (marker === SOS) this.readScan(this.scanHeader(start, end));
    }
    const { components, quantisation, mostAcross, mostDown, jfif, adobe } = this;
    return { components, quantisation, mostAcross, mostDown, jfif, adobe };
  }

  private mcus(): [number, number] {
    const { width, height } = this.frame;
    return [Math.ceil(width / (8 * this.mostAcross)), Math.ceil(height / (8 * this.mostDown))];
  }

  private marker(): number {
    while (this.place < this.data.length && this.data[this.place] !== 0xff) this.place += 1;
    while (this.data[this.place] === 0xff) this.place += 1;
    const marker = this.data[this.place++];
    if (marker === undefined) throw spoilt("a JPEG that ends within its picture");
    return marker;
  }

  private word(place: number): number {
    return ((this.data[place] ?? 0) << 8) | (this.data[place + 1] ?? 0);
  }

  private readQuantisation(place: number, end: number): void {
    while (place < end) {
      const about = this.data[place++]!;
      const wide = about >> 4 !== 0;
      const table = new Uint16Array(64);
      for (const natural of ZIGZAG) {
        table[natural] = wide ? this.word(place) : this.data[place]!;
        place += wide ? 2 : 1;
      }
      this.quantisation[about & 15] = table;
    }
  }

  private readHuffman(place: number, end: number): void {
    while (place < end) {
      const about = this.data[place]!;
      const counts = this.data.slice(place + 1, place + 17);
      const total = counts.reduce((sum, count) => sum + count, 0);
      if (place + 17 + total > end) throw spoilt("a Huffman table that is too short");
      const table = { counts, symbols: this.data.slice(place + 17, place + 17 + total) };
      (about >> 4 ? this.ac : this.dc)[about & 15] = table;
      place += 17 + total;
    }
  }

  private readTables(place: number): void {
    this.components.forEach((component, index) => {
      component.table = this.data[place + 6 + 3 * index + 2]!;
    });
  }

  private scanHeader(place: number, end: number): Scan {
    const count = this.data[place]!;
    if (count < 1 || count > 4 || place + 4 + 2 * count > end) throw spoilt("a scan header of the wrong length");
    const components = [];
    for (let index = 0; index < count; index += 1) {
      const component = this.components.find(({ id }) => id === this.data[place + 1 + 2 * index]);
      const tables = this.data[place + 2 + 2 * index]!;
      if (component === undefined) throw spoilt("a scan of an unknown component");
      components.push({ component, dc: tables >> 4, ac: tables & 15 });
    }
    const [first, last, approximation] = this.data.subarray(place + 1 + 2 * count, place + 4 + 2 * count);
    if (this.frame.marker !== PROGRESSIVE) return { components, first: 0, last: 63, high: 0, low: 0 };
    if (last! > 63 || first! > last! || (first === 0 && last !== 0) || (first !== 0 && count !== 1)) {
      throw spoilt("an impossible progressive scan");
    }
    return { components, first: first!, last: last!, high: approximation! >> 4, low: approximation! & 15 };
  }

  private readScan(scan: Scan): void {
    const predictions = new Int32Array(scan.components.length);
    const alone = scan.components.length === 1 ? scan.components[0]!.component : null;
    const [mcusAcross, mcusDown] = alone ? [alone.columns, alone.rows] : this.mcus();
    this.bitCount = this.blocksToSkip = 0;
    for (let mcu = 0; mcu < mcusAcross * mcusDown; mcu += 1) {
      if (this.interval > 0 && mcu > 0 && mcu % this.interval === 0) {
        this.restart();
        predictions.fill(0);
      }
      const row = Math.floor(mcu / mcusAcross);
      const column = mcu % mcusAcross;
      scan.components.forEach((part, index) => {
        const { component } = part;
        const across = alone ? 1 : component.across;
        const down = alone ? 1 : component.down;
        for (let block = 0; block < across * down; block += 1) {
          const y = row * down + Math.floor(block / across);
          const x = column * across + (block % across);
          const at = 64 * (y * component.stride + x);
          this.readBlock(scan, part, predictions, index, component.coefficients.subarray(at, at + 64));
        }
      });
    }
    this.bitCount = 0;
  }

  private restart(): void {
    this.bitCount = this.blocksToSkip = 0;
    const marker = this.marker();
    if (marker < 0xd0 || marker > 0xd7) throw spoilt("a restart marker that is missing");
  }

  private readBlock(
    scan: Scan,
    { dc, ac }: { dc: number; ac: number },
    predictions: Int32Array,
    index: number,
    block: Int16Array,
  ): void {
    if (this.frame.marker !== PROGRESSIVE) {
      predictions[index]! += this.signed(this.symbol(this.dc[dc]));
      block[0] = predictions[index]!;
      this.readBaseline(block, this.ac[ac]);
    } else if (scan.first === 0) {
      if (scan.high !== 0) {
        block[0]! |= this.bit() << scan.low;
        return;
      }
      predictions[index]! += this.signed(this.symbol(this.dc[dc]));
      block[0] = predictions[index]! << scan.low;
    } else if (scan.high === 0) {
      this.readFirst(block, scan, this.ac[ac]);
    } else {
      this.refine(block, scan, this.ac[ac]);
    }
  }

  private readBaseline(block: Int16Array, table: Huffman | undefined): void {
    for (let k = 1; k < 64; k += 1) {
      const symbol = this.symbol(table);
      const size = symbol & 15;
      if (size === 0) {
        if (symbol !== 0xf0) return;
        k += 15;
        continue;
      }
      k += symbol >> 4;
      if (k > 63) throw spoilt("a run beyond its block");
      block[ZIGZAG[k]!] = this.signed(size);
    }
  }

  /** The first scan of a band of AC coefficients. */
  private readFirst(block: Int16Array, { first, last, low }: Scan, table: Huffman | undefined): void {
    if (this.blocksToSkip > 0) {
      this.blocksToSkip -= 1;
      return;
    }
    for (let k = first; k <= last; k += 1) {
      const symbol = this.symbol(table);
      const run = symbol >> 4;
      if ((symbol & 15) === 0) {
        if (run < 15) {
          this.blocksToSkip = (1 << run) + this.number(run) - 1;
          return;
        }
        k += 15;
        continue;
      }
      k += run;
      if (k > 63) throw spoilt("a run beyond its block");
      block[ZIGZAG[k]!] = this.signed(symbol & 15) << low;
    }
  }

  /** A scan that adds one bit to a band of AC coefficients. */
  private refine(block: Int16Array, { first, last, low }: Scan, table: Huffman | undefined): void {
    const bit = 1 << low;
    let k = first;
    while (this.blocksToSkip === 0 && k <= last) {
      const symbol = this.symbol(table);
      let run = symbol >> 4;
      let value = 0;
      if ((symbol & 15) === 0) {
        if (run < 15) {
          this.blocksToSkip = (1 << run) + this.number(run);
          break;
        }
      } else {
        value = this.bit() ? bit : -bit;
      }
      for (; k <= last; k += 1) {
        const place = ZIGZAG[k]!;
        if (block[place] !== 0) this.correct(block, place, bit);
        else if (run-- === 0) break;
      }
      if (value !== 0) {
        if (k > last) throw spoilt("a run beyond its band");
        block[ZIGZAG[k]!] = value;
      }
      k += 1;
    }
    if (this.blocksToSkip > 0) {
      for (; k <= last; k += 1) {
        const place = ZIGZAG[k]!;
        if (block[place] !== 0) this.correct(block, place, bit);
      }
      this.blocksToSkip -= 1;
    }
  }

  private correct(block: Int16Array, place: number, bit: number): void {
    if (this.bit() && (block[place]! & bit) === 0) block[place]! += block[place]! > 0 ? bit : -bit;
  }

  private bit(): number {
    if (this.bitCount === 0) {
      const byte = this.data[this.place];
      if (byte === undefined) throw spoilt("a JPEG that ends within its picture");
      if (byte === 0xff) {
        if (this.data[this.place + 1] !== 0) throw spoilt("a marker within compressed data");
        this.place += 1;
      }
      this.place += 1;
      this.bits = byte;
      this.bitCount = 8;
    }
    this.bitCount -= 1;
    return (this.bits >> this.bitCount) & 1;
  }

  private number(size: number): number {
    let value = 0;
    for (let index = 0; index < size; index += 1) value = (value << 1) | this.bit();
    return value;
  }

  /** A number of `size` bits, of which those that begin with 0 are negative. */
  private signed(size: number): number {
    if (size === 0) return 0;
    if (size > 15) throw spoilt("a number of too many bits");
    const value = this.number(size);
    return value < 1 << (size - 1) ? value - (1 << size) + 1 : value;
  }

  private symbol(table: Huffman | undefined): number {
    if (table === undefined) throw spoilt("a Huffman table that is missing");
    let code = 0;
    let first = 0;
    let index = 0;
    for (let length = 0; length < 16; length += 1) {
      code |= this.bit();
      const count = table.counts[length]!;
      if (code - first < count) return table.symbols[index + code - first]!;
      index += count;
      first = (first + count) << 1;
      code <<= 1;
    }
    throw spoilt("bits that are no Huffman code");
  }
}
