/**
 * The zstd decoder, compiled to WebAssembly: one instance, made when it is first needed, with room for
 * one frame in and one range out, so that what is decompressed asks for no new pages.
 */
import code from "virtual:zstd";

import type { Bytes } from "./codec";

/** The part of the C functions that we call. */
interface Functions {
  readonly memory: WebAssembly.Memory;
  malloc(size: number): number;
  ZSTD_decompress(output: number, room: number, input: number, size: number): number;
}

/** Decompresses frames of at most `maxInput` bytes to at most `maxOutput`. Lives as long as the worker. */
export class Decompressor {
  private readonly functions: Functions;
  private readonly input: number;
  private readonly output: number;
  private octets = new Uint8Array(0); // another one after the memory has grown

  constructor(
    private readonly maxInput: number,
    private readonly maxOutput: number,
  ) {
    // At once and not by promise: it is small, and whoever decompresses is a worker.
    const module = new WebAssembly.Module(Uint8Array.from(atob(code), (c) => c.charCodeAt(0)));
    const env = { emscripten_notify_memory_growth: () => {} };
    this.functions = new WebAssembly.Instance(module, { env }).exports as unknown as Functions;
    this.input = this.functions.malloc(maxInput);
    this.output = this.functions.malloc(maxOutput);
    if (!this.input || !this.output) throw new RangeError("no memory");
  }

  /** What the frames of `data` give if it is exactly `length` bytes, good until the next call; or null. */
  decompress(data: Bytes, length: number): Bytes | null {
    if (data.length > this.maxInput || length > this.maxOutput) return null;
    const { input, output, functions } = this;
    this.heap().set(data, input);
    const size = functions.ZSTD_decompress(output, length, input, data.length);
    return size === length ? this.heap().subarray(output, output + length) : null;
  }

  private heap(): Bytes {
    const { buffer } = this.functions.memory;
    if (this.octets.buffer !== buffer) this.octets = new Uint8Array(buffer);
    return this.octets;
  }
}
