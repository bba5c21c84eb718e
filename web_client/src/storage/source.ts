/**
 * The tape as it is read from files: in order, hashed on the way, changes noticed (mirrors
 * `p2p/storage/source.py`). A page is told of no holes.
 */
import sodium, { type StateAddress } from "libsodium-wrappers-sumo";

import {
  COMPRESSED,
  SAMPLE,
  STORED,
  phaseOf,
  type Compression,
  type Compressor,
} from "../compression";
import { HeapBuffer } from "../protocol/heap";
import type { Bytes } from "../protocol/codec";
import { Failure } from "../protocol/errors";
import { CHANGED, UNREADABLE } from "../protocol/manifest";
import type { Tape } from "../protocol/tape";
import { UNREAD, isAlike, type EntrySource, type Listing, type SourceFile } from "./listing";
import type { Block, Source, Stopped } from "./ports";

const PIECE = 256 * 1024; // read at once
const [AHEAD_BYTES, AHEAD_FILES] = [4 * 1024 * 1024, 16]; // that are read before they are asked for
const [SAMPLES, MIN_SAMPLED] = [4, 256 * 1024]; // of a file that may be compressed; smaller ones are tried
const MAX_WITHDRAWN = 256; // in one block: what one message says
const LOOKED_AT = 32; // files at once, at the end

const NOTHING: Bytes = new Uint8Array(0);

/** Why an entry is given up. */
class GivenUp extends Error {
  constructor(readonly status: number) {
    super();
  }
}

/** `Source` over the files of a listing. */
export class FileSource implements Source {
  private readonly sources: readonly EntrySource[];
  private entry = 0;
  private at = 0; // in that entry's file
  private compression: Compression | null = null; // of that file, once it was asked for
  private space: Bytes = new Uint8Array(0); // where a block lies
  private piece: Bytes = new Uint8Array(0); // what was read of it and not given yet
  private readonly ahead: Reading[] = []; // of this file, and of those that come next
  private nextAhead = 0; // entry
  private readonly buffers: ArrayBuffer[] = []; // that nobody uses
  private readonly digest = new Digest();

  constructor(
    listing: Listing,
    private readonly tape: Tape,
  ) {
    this.sources = listing.sources;
  }

  async read(offset: number, length: number, compressor: Compressor | null = null): Promise<Block> {
    if (this.space.length < length) this.space = new Uint8Array(length);
    let payload: Bytes = this.space;
    let got = 0;
    const finished: [number, Bytes][] = [];
    const withdrawn: [number, number][] = [];
    const found: [Compression, 0 | 1][] = [];
    // Once one is withdrawn, others that cannot be read either, but nothing that lies behind it.
    while (this.entry < this.sources.length && withdrawn.length < MAX_WITHDRAWN) {
      const source = this.sources[this.entry]!;
      if (source === null) {
        this.leave();
        continue;
      }
      if (source === UNREAD) {
        withdrawn.push([this.entry, UNREADABLE]);
        this.leave();
        continue;
      }
      try {
        if (this.at < source.file.size) {
          if (got === length || withdrawn.length) break;
          if (compressor) {
            this.compression ??= await choose(compressor, source);
            found.push([this.compression, phaseOf(this.compression, this.at)]);
          }
          const data = await this.some(length - got);
          payload.set(data, got);
          got += data.length;
          this.at += data.length;
          this.digest.update(data);
        }
        if (this.at === source.file.size) {
          await this.check(source);
          finished.push([this.entry, this.digest.final()]);
          this.leave();
        }
      } catch (error) {
        if (!(error instanceof GivenUp)) throw error;
        withdrawn.push([this.entry, error.status]);
        this.leave();
      }
    }
    payload = payload.subarray(0, got);
    const [compression, phase] = together(found);
    return { offset, length: got, payload, compression, phase, finished, withdrawn };
  }

  async skip(
    offset: number,
    known: (entry: number) => Bytes | null,
    stopped: Stopped,
  ): Promise<Block> {
    const finished: [number, Bytes][] = [];
    const withdrawn: [number, number][] = [];
    const { tape, sources } = this;
    while (this.entry < sources.length && tape.start(this.entry) < offset) {
      const [source, end] = [sources[this.entry]!, tape.end(this.entry)];
      if (source === null || (end <= offset && known(this.entry))) {
        this.leave();
        continue;
      }
      try {
        if (source === UNREAD) throw new GivenUp(UNREADABLE);
        const stop = Math.min(end, offset) - tape.start(this.entry);
        while (this.at < stop) {
          if (stopped()) throw new Failure("cancelled");
          const data = await this.some(stop - this.at);
          this.at += data.length;
          this.digest.update(data);
        }
        if (end > offset) break;
        await this.check(source);
        finished.push([this.entry, this.digest.final()]);
      } catch (error) {
        if (!(error instanceof GivenUp)) throw error;
        withdrawn.push([this.entry, error.status]);
      }
      this.leave();
    }
    const payload = new Uint8Array(0);
    return { offset, length: 0, payload, compression: STORED, phase: 0, finished, withdrawn };
  }

  async changed(delivered: (entry: number) => boolean, stopped: Stopped): Promise<number[]> {
    const found: number[] = [];
    for (let at = 0; at < this.sources.length; at += LOOKED_AT) {
      if (stopped()) throw new Failure("cancelled");
      const some = this.sources.slice(at, at + LOOKED_AT).map(async (source, i) => {
        if (!source || source === UNREAD || !source.handle || !delivered(at + i)) return;
        // It is gone, or away: what was read is what was listed.
        const now = await source.handle.getFile().catch(() => null);
        if (now && !isAlike(now, source.file)) found.push(at + i);
      });
      await Promise.all(some);
    }
    return found;
  }

  close(): void {
    this.ahead.splice(0).forEach((reading) => reading.close());
    this.entry = this.nextAhead = this.sources.length;
    this.digest.reset();
  }

  /** On to the next entry. */
  private leave(): void {
    this.entry++;
    this.at = 0;
    this.compression = null;
    this.piece = NOTHING;
    this.digest.reset();
    while (this.ahead[0] && this.ahead[0].entry < this.entry) this.ahead.shift()!.close();
    this.nextAhead = Math.max(this.nextAhead, this.entry);
  }

  /** At most so many bytes of this entry's file, from where it stands. Throws `GivenUp`. */
  private async some(length: number): Promise<Bytes> {
    if (!this.piece.length) {
      this.readAhead();
      this.piece = await this.ahead[0]!.next();
    }
    const data = this.piece.subarray(0, Math.min(length, PIECE));
    this.piece = this.piece.subarray(data.length);
    return data;
  }

  /** Small files take their time each: several are read at once. */
  private readAhead(): void {
    let bytes = this.ahead.reduce((sum, { held }) => sum + held, 0);
    while (this.nextAhead < this.sources.length) {
      const full = bytes >= AHEAD_BYTES || this.ahead.length >= AHEAD_FILES;
      if (this.ahead.length && full) return;
      const source = this.sources[this.nextAhead]!;
      if (source && source !== UNREAD && source.file.size) {
        const reading = new Reading(this.nextAhead, source.file, this.buffers);
        this.ahead.push(reading);
        bytes += reading.held;
      }
      this.nextAhead++;
    }
  }

  /** At its end: whether it is what was listed. */
  private async check({ file, handle }: SourceFile): Promise<void> {
    if (!handle) return; // the browser itself refuses to read what has changed, as far as it knows
    const now = await handle.getFile().catch(() => null);
    if (now && !isAlike(now, file)) throw new GivenUp(CHANGED);
  }
}

/** How to compress a file, from a few samples of it; small ones are just tried. */
async function choose(compressor: Compressor, { file }: SourceFile): Promise<Compression> {
  if (file.size < MIN_SAMPLED) return COMPRESSED;
  const count = Math.min(SAMPLES, Math.floor(file.size / MIN_SAMPLED));
  const step = 2 * Math.floor(file.size / (count + 1) / 2);
  const samples = Array.from({ length: count }, async (_, index) => {
    const at = step * (index + 1);
    const length = Math.min(SAMPLE, file.size - at);
    return [at, await readPiece(file, at, length)] as const;
  });
  return compressor.choose(await Promise.all(samples));
}

/** How to compress a range of several files: filtered only if all of them would be. */
function together(
  found: readonly (readonly [Compression, 0 | 1])[],
): readonly [Compression, 0 | 1] {
  const methods = new Set(found.map(([{ method }]) => method));
  if (!methods.size || (methods.size === 1 && methods.has("stored"))) return [STORED, 0];
  return methods.size === 1 && methods.has("filtered") ? found[0]! : [COMPRESSED, 0];
}

/** `length` bytes of a file. Throws `GivenUp`. */
async function readPiece(file: File, at: number, length: number): Promise<Bytes> {
  const data = await file
    .slice(at, at + length)
    .arrayBuffer()
    .catch(refused);
  if (data.byteLength < length) refused(); // it has become shorter, and the browser keeps quiet
  return new Uint8Array(data);
}

/**
 * One error for a file that has changed and for one that cannot be read any more: which of them it is, a page
 * is not told.
 */
function refused(): never {
  throw new GivenUp(UNREADABLE);
}

/**
 * A file as it is read from its beginning: the next piece while the last one is used. By a reader that is
 * given its memory (`mode: "byob"`), where the platform has it: browsers are slow to free what others return,
 * and held half a gigabyte for a file of that size.
 */
class Reading {
  private readonly reader: ReadableStreamBYOBReader | ReadableStreamDefaultReader<Uint8Array>;
  private readonly byob: boolean;
  private pending: Promise<Bytes>;
  private used: ArrayBuffer | null = null; // by the piece that was given last
  private got = 0;

  constructor(
    readonly entry: number,
    private readonly file: File,
    private readonly buffers: ArrayBuffer[], // to take from, and to give back
  ) {
    const stream = file.stream();
    let reader: ReadableStreamBYOBReader | null = null;
    try {
      reader = stream.getReader({ mode: "byob" });
    } catch {
      // a platform without
    }
    this.byob = reader !== null;
    this.reader = reader ?? stream.getReader();
    this.pending = this.request();
  }

  /** Bytes that wait here. */
  get held(): number {
    return Math.min(this.file.size, PIECE);
  }

  /** The next piece, good until the next call. Throws `GivenUp`. */
  async next(): Promise<Bytes> {
    const piece = await this.pending;
    this.giveBack();
    if (this.byob) this.used = piece.buffer as ArrayBuffer;
    this.got += piece.length;
    if (this.got < this.file.size) this.pending = this.request();
    return piece;
  }

  close(): void {
    this.giveBack();
    this.reader.cancel().catch(() => {});
  }

  private giveBack(): void {
    if (this.used) this.buffers.push(this.used);
    this.used = null;
  }

  private request(): Promise<Bytes> {
    const read = this.read();
    read.catch(() => {}); // until it is asked for
    return read;
  }

  private async read(): Promise<Bytes> {
    const left = this.file.size - this.got;
    let found: { readonly value?: Uint8Array | undefined };
    try {
      if (this.byob) {
        const buffer = this.buffers.pop() ?? new ArrayBuffer(PIECE);
        const view = new Uint8Array(buffer, 0, Math.min(left, PIECE));
        found = await (this.reader as ReadableStreamBYOBReader).read(view);
      } else found = await (this.reader as ReadableStreamDefaultReader<Uint8Array>).read();
    } catch {
      return refused();
    }
    const { value } = found;
    if (!value?.length || value.length > left) throw new GivenUp(CHANGED); // it shrank, or grew
    return value;
  }
}

let buffer: HeapBuffer | null = null; // one for all

/** A running SHA-256. */
class Digest {
  private state: StateAddress | null = null;

  update(data: Bytes): void {
    this.state ??= sodium.crypto_hash_sha256_init();
    buffer ??= new HeapBuffer(PIECE);
    buffer.view(data.length).set(data);
    buffer.hashInto(this.state, 0, data.length);
  }

  /** The digest; then it begins anew. */
  final(): Bytes {
    const digest = sodium.crypto_hash_sha256_final(this.state ?? sodium.crypto_hash_sha256_init());
    this.state = null;
    return digest;
  }

  reset(): void {
    if (this.state !== null) this.final(); // lets go of its memory
  }
}
