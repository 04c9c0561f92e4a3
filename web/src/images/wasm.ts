/** libjpeg-turbo and libwebp as WebAssembly, from the packages @jsquash/jpeg and @jsquash/webp. */

import { PhotoError } from "../errors.js";

export interface EmscriptenModule {
  decode(data: Uint8Array, preserveOrientation?: boolean): ImageData | null;
}

export type Factory = (options: {
  instantiateWasm: (
    imports: WebAssembly.Imports,
    done: (instance: WebAssembly.Instance) => void,
  ) => WebAssembly.Exports;
  noInitialRun: boolean;
  print: (words: string) => void;
  printErr: (words: string) => void;
}) => Promise<EmscriptenModule>;

/** A decoder that is compiled when it is first needed, and made anew after it has failed. */
export class WasmDecoder {
  private compiled: Promise<WebAssembly.Module> | null = null;
  private instance: Promise<EmscriptenModule> | null = null;
  private words: string[] = [];

  constructor(
    private readonly factory: Factory,
    private readonly compile: () => Promise<WebAssembly.Module>,
  ) {}

  /**
   * What `run` makes of `data`. Throws PhotoError of kind "damaged" where the decoder fails or warns: of a
   * spoilt picture it would fill in the rest.
   */
  async decode(
    data: Uint8Array,
    run: (module: EmscriptenModule, data: Uint8Array) => ImageData | null,
  ): Promise<ImageData> {
    const module = await (this.instance ??= this.make());
    this.words = [];
    let image: ImageData | null = null;
    try {
      image = run(module, data);
    } catch (error) {
      this.words.push(error instanceof Error ? error.message : String(error));
    }
    if (image === null || this.words.length > 0) {
      this.instance = null;
      throw new PhotoError("damaged", { found: this.words[0] ?? "a picture that cannot be decoded" });
    }
    return image;
  }

  /** Begin to compile: it will be needed. */
  prepare(): void {
    this.compiled ??= this.compile();
    this.compiled.catch(() => (this.compiled = null)); // it is tried again, and told, where it is needed
  }

  private async make(): Promise<EmscriptenModule> {
    this.prepare();
    const module = await this.compiled!;
    const keep = (words: string): void => void this.words.push(words);
    return this.factory({
      noInitialRun: true,
      print: keep,
      printErr: keep,
      instantiateWasm: (imports, done) => {
        const instance = new WebAssembly.Instance(module, imports);
        done(instance);
        return instance.exports;
      },
    });
  }
}
