/**
 * Compression (mirrors `p2p/compression.py`): a range's bytes as one zstd frame (RFC 8878), 16-bit samples
 * filtered first.
 */
import * as zstd from "@bokuweb/zstd-wasm";
import code from "virtual:zstd";

import type { Bytes } from "./protocol/codec";
import { PeerError } from "./protocol/errors";
import { FILTER, FLAGS, HOLE, MAX_RANGE, PHASE, ZSTD } from "./protocol/seal";
import { MAX_MESSAGE_SIZE } from "./protocol/signal";

export const SAMPLE = 64 * 1024; // looked at by `choose`; more of it changes no decision
const LEVEL = 1; // higher ones gain little on pixels and are slower than a fast line
const FILE_SHARE = 20; // a file is compressed if that saves a twentieth of it,
const RANGE_SHARE = 33; // and one of its ranges if that saves about 3 %
const MAGIC = 0xfd2fb528;
const MIN_WINDOW = 1024;

/** How a file is compressed. `parity` is that of the offsets at which its samples begin. */
export interface Compression {
  readonly method: "stored" | "compressed" | "filtered"; // filtered: differences of 16-bit samples first
  readonly parity: 0 | 1;
}
export const STORED: Compression = { method: "stored", parity: 0 };
export const COMPRESSED: Compression = { method: "compressed", parity: 0 };
const FILTERED: readonly Compression[] = [
  { method: "filtered", parity: 0 },
  { method: "filtered", parity: 1 },
];

/** 1 if the file's byte at `offset` is the second one of a sample, else 0. */
export const phaseOf = ({ parity }: Compression, offset: number): 0 | 1 =>
  ((offset % 2) ^ parity) as 0 | 1;

/** The zstd encoder. It is loaded by whoever sends to somebody that can read what it makes. */
export class Compressor {
  private static loading: Promise<Compressor> | null = null;

  private constructor() {}

  static load(): Promise<Compressor> {
    return (this.loading ??= zstd.init().then(() => new Compressor()));
  }

  /**
   * How to compress a file, from a few stretches of it: (offset in the file, bytes). The same samples always
   * give the same answer.
   */
  choose(samples: readonly (readonly [offset: number, data: Bytes])[]): Compression {
    const tried = samples.map(([offset, data]) => [offset, data.subarray(0, SAMPLE)] as const);
    const sizeOf = (compression: Compression) =>
      sum(tried.map(([at, data]) => pack(data, compression, phaseOf(compression, at)).length));
    const total = sum(tried.map(([, data]) => data.length));
    const plain = sizeOf(COMPRESSED);
    const [even, odd] = FILTERED.map(sizeOf) as [number, number];
    let [size, best] = even <= odd ? [even, FILTERED[0]!] : [odd, FILTERED[1]!];
    // Not worth undoing.
    if (plain - size < atLeast(plain, RANGE_SHARE)) [size, best] = [plain, COMPRESSED];
    return total - size >= atLeast(total, FILE_SHARE) ? best : STORED;
  }

  /**
   * A range's flags and payload; null when it is better sent as it is. `phase` is `phaseOf` the offset in
   * the file at which the range begins.
   */
  compress(
    data: Bytes,
    compression: Compression,
    phase: 0 | 1,
  ): [flags: number, payload: Bytes] | null {
    if (compression.method === "stored") return null;
    const payload = pack(data, compression, phase);
    if (data.length - payload.length < atLeast(data.length, RANGE_SHARE)) return null;
    if (compression.method === "compressed") return [ZSTD, payload];
    return [ZSTD | FILTER | (phase ? PHASE : 0), payload];
  }
}

const sum = (numbers: readonly number[]): number => numbers.reduce((all, one) => all + one, 0);

const atLeast = (whole: number, share: number): number => Math.max(Math.floor(whole / share), 1);

function pack(data: Bytes, { method }: Compression, phase: 0 | 1): Bytes {
  return zstd.compress(method === "filtered" ? filter(data, phase) : data, LEVEL);
}

/** Differences of samples, small ones of either sign as small numbers, low and high bytes apart. */
function filter(data: Bytes, phase: 0 | 1): Bytes {
  const { length } = data;
  const count = (length - phase) >> 1;
  // Placed so that the samples are aligned; every machine that runs WebAssembly has the low byte first.
  const buffer = new ArrayBuffer(length + phase);
  new Uint8Array(buffer, phase).set(data);
  const samples = new Uint16Array(buffer, 2 * phase, count);
  const filtered = new Uint8Array(length);
  const high = phase + count;
  if (phase) filtered[0] = data[0]!;
  for (let i = 0, before = 0; i < count; i++) {
    const sample = samples[i]!;
    const delta = ((sample - before) << 16) >> 16;
    const folded = (delta << 1) ^ (delta >> 15);
    filtered[phase + i] = folded;
    filtered[high + i] = folded >> 8;
    before = sample;
  }
  const rest = phase + 2 * count;
  if (rest < length) filtered[rest] = data[rest]!;
  return filtered;
}

let decompressor: Decompressor | null = null; // one for all sessions

/** The `length` bytes of a range; none for a hole. Throws `PeerError`, and nothing else. */
export function decompress(flags: number, length: number, payload: Bytes): Bytes {
  if (!FLAGS.includes(flags)) throw new PeerError("range_flags_malformed");
  if (flags === HOLE) {
    if (payload.length || length < 1) throw new PeerError("hole_length");
    return payload;
  }
  if (length < 1 || length > MAX_RANGE || !(flags || payload.length === length)) {
    throw new PeerError("range_length");
  }
  if (!flags) return payload;
  checkFrame(payload, length);
  const data = contentOf(payload, length);
  return flags & FILTER ? unfilter(data, flags & PHASE ? 1 : 0) : data.slice();
}

/** What a frame holds, good until the next call. */
function contentOf(frame: Bytes, length: number): Bytes {
  decompressor ??= new Decompressor(MAX_MESSAGE_SIZE, MAX_RANGE);
  try {
    return decompressor.decompress(frame, length);
  } catch (error) {
    if (error instanceof PeerError) throw error; // it refused, and is as good as before
    decompressor = null; // whatever stopped it half way, its memory is not to be relied on
    if (!(error instanceof WebAssembly.RuntimeError)) throw error;
    throw new PeerError("range_decompression_failed");
  }
}

/** Refuse what is not one frame, all that a range of `length` bytes needs (RFC 8878, 3.1.1). */
function checkFrame(payload: Bytes, length: number): void {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  const end = payload.length;
  // Skippable frames begin otherwise.
  if (end < 6 || view.getUint32(0, true) !== MAGIC) throw new PeerError("range_not_zstd");
  const descriptor = payload[4]!;
  // One reserved bit, two for the size of a dictionary's id.
  if (descriptor & 0b1011) throw new PeerError("zstd_frame_header");
  const single = descriptor & 0b100000; // the window is then the content
  const width = [single ? 1 : 0, 2, 4, 8][descriptor >> 6]!;
  let at = single ? 5 : 6;
  let declared = width === 2 ? 256 : 0;
  for (let i = 0; i < width; i++) declared += (payload[at + i] ?? 0) * 2 ** (8 * i);
  if (width === 0 || declared !== length) {
    throw new PeerError("zstd_content_size");
  }
  if (!single) {
    const window = ((MIN_WINDOW * 2 ** (payload[5]! >> 3)) / 8) * (8 + (payload[5]! & 0b111));
    if (window > length) throw new PeerError("zstd_window_too_large");
  }
  // The library would go on with what follows the frame, so find its end.
  at += width;
  for (let last = false; !last;) {
    if (at + 3 > end) throw new PeerError("zstd_frame_truncated");
    const head = payload[at]! | (payload[at + 1]! << 8) | (payload[at + 2]! << 16);
    last = (head & 1) === 1;
    at += 3 + ((head & 0b110) === 0b010 ? 1 : head >> 3); // one byte, repeated; or that many
  }
  at += descriptor & 0b100 ? 4 : 0; // a checksum, which the library holds against the content
  if (at !== end) throw new PeerError("zstd_frame_end");
}

/** 16-bit samples from their folded differences, of which the low bytes and the high bytes lie apart. */
function unfilter(data: Bytes, phase: number): Bytes {
  const { length } = data;
  const count = (length - phase) >> 1;
  // Placed so that the samples are aligned; every machine that runs WebAssembly has the low byte first.
  const buffer = new ArrayBuffer(length + phase);
  const found = new Uint8Array(buffer, phase, length);
  const samples = new Uint16Array(buffer, 2 * phase, count);
  const high = phase + count;
  if (phase) found[0] = data[0]!;
  for (let i = 0, sample = 0; i < count; i++) {
    const folded = data[phase + i]! | (data[high + i]! << 8);
    sample += (folded >> 1) ^ -(folded & 1);
    samples[i] = sample;
    sample &= 0xffff;
  }
  const rest = phase + 2 * count;
  if (rest < length) found[rest] = data[rest]!;
  return found;
}

/** The part of the C functions that we call. */
interface Functions {
  readonly memory: WebAssembly.Memory;
  malloc(size: number): number;
  ZSTD_decompress(output: number, space: number, input: number, size: number): number;
}

/**
 * The zstd decoder, compiled to WebAssembly, for frames of at most `maxInput` bytes that give at most
 * `maxOutput`. It has space for one of each, asks for no new pages, and lives as long as the worker.
 */
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

  /** The `length` bytes that a frame gives, good until the next call. Throws `PeerError`. */
  decompress(frame: Bytes, length: number): Bytes {
    const { input, output, functions } = this;
    let size = -1;
    if (frame.length <= this.maxInput && length <= this.maxOutput) {
      this.heap().set(frame, input);
      size = functions.ZSTD_decompress(output, length, input, frame.length);
    }
    if (size !== length) throw new PeerError("range_decompression_failed");
    return this.heap().subarray(output, output + length);
  }

  private heap(): Bytes {
    const { buffer } = this.functions.memory;
    if (this.octets.buffer !== buffer) this.octets = new Uint8Array(buffer);
    return this.octets;
  }
}
