/**
 * Everything in one store, as the file that is saved in the end (`Layout`): on the browser's disk, or
 * in memory.
 */
import CRC32 from "crc-32";
import sodium, { type StateAddress } from "libsodium-wrappers-sumo";

import type { Bytes } from "../protocol/codec";
import { HeapBuffer } from "../protocol/heap";
import { tapeOf, type Manifest, type Results } from "../protocol/manifest";
import type { Tape } from "../protocol/tape";
import { erase, takesData } from "./opfs";
import type { Destination, Settled, Store } from "./ports";
import { diskFailure, settleEntries } from "./settling";
import { Layout, type Extents } from "./zip";

const READ_BACK = 1024 * 1024; // read and hashed at once
const READ_BACK_STEP = 2 * 1024 * 1024; // some ten milliseconds

export class Container implements Destination {
  readonly stored = "browser";
  readonly crowded = false;
  readonly readBackStep = READ_BACK_STEP;
  readonly layout: Layout;
  private readonly tape: Tape;
  private readonly gone = new Set<number>();
  private readonly digests = new Map<number, Bytes>();
  private readonly crcs = new Map<number, number>();
  private readonly buffer = new HeapBuffer(READ_BACK);
  private hashing: { entry: number; sha: StateAddress; crc: number } | null = null;
  hashed = 0;
  extents: Extents = [];

  constructor(
    private readonly manifest: Manifest,
    private readonly file: string, // of the browser's disk, where it is one
    private readonly store: Store,
  ) {
    this.layout = new Layout(manifest);
    this.tape = tapeOf(manifest);
  }

  get name(): string {
    return this.layout.name;
  }

  get size(): number {
    return this.extents.reduce((sum, [, length]) => sum + length, 0);
  }

  takesData(): Promise<boolean> {
    return takesData(this.file);
  }

  begin(offset: number): void {
    for (const entry of this.gone) if (this.tape.end(entry) > offset) this.gone.delete(entry);
  }

  write(offset: number, payload: Bytes): void {
    let done = 0;
    for (const piece of this.tape.pieces(offset, payload.length)) {
      const part = payload.subarray(done, done + piece.length);
      this.put(part, this.layout.start(piece.entry) + piece.offset);
      done += piece.length;
    }
  }

  private put(data: Bytes, at: number): void {
    try {
      while (data.length) {
        const done = this.store.write(data, { at });
        if (done <= 0) throw new Error("nothing was written");
        [data, at] = [data.subarray(done), at + done];
      }
    } catch (error) {
      throw diskFailure(error);
    }
  }

  withdraw(entry: number): void {
    this.gone.add(entry);
  }

  sync(): void {
    try {
      this.store.flush();
    } catch (error) {
      throw diskFailure(error);
    }
  }

  readBack(upto: number): void {
    for (const { entry, offset, length } of this.tape.pieces(this.hashed, upto - this.hashed)) {
      if (!this.gone.has(entry)) this.hash(entry, offset, length);
      this.hashed = this.tape.start(entry) + offset + length;
    }
  }

  private hash(entry: number, offset: number, length: number): void {
    if (this.hashing?.entry !== entry) {
      this.forget();
      if (offset) return; // it failed before; half a digest is none
      this.hashing = { entry, sha: sodium.crypto_hash_sha256_init(), crc: 0 };
    }
    const { sha } = this.hashing;
    for (let at = offset; at < offset + length;) {
      const wanted = this.buffer.view(offset + length - at);
      let got = 0;
      try {
        got = this.store.read(wanted, { at: this.layout.start(entry) + at });
      } catch {
        // as if nothing were there
      }
      if (got <= 0) return this.forget(); // no digest: the entry fails
      this.buffer.hashInto(sha, got);
      if (!this.layout.single) {
        this.hashing.crc = CRC32.buf(this.buffer.view(got), this.hashing.crc);
      }
      at += got;
    }
    if (offset + length === this.manifest.entries[entry]!.size) {
      this.digests.set(entry, sodium.crypto_hash_sha256_final(sha));
      this.crcs.set(entry, this.hashing.crc >>> 0);
      this.hashing = null;
    }
  }

  private forget(): void {
    if (this.hashing) sodium.crypto_hash_sha256_final(this.hashing.sha); // frees its memory
    this.hashing = null;
  }

  settle(claimed: Results): Settled {
    const [results, refused] = settleEntries(this.manifest, claimed, (index) =>
      this.digests.get(index),
    );
    const arrived = new Map<number, number>();
    this.manifest.entries.forEach((_, index) => {
      if (results.at(index)[0]) this.wipe(index);
      else arrived.set(index, this.crcs.get(index) ?? 0);
    });
    let end = this.layout.single && arrived.size ? this.layout.size : 0;
    for (const [at, data] of this.layout.frame(arrived)) {
      this.put(data, at);
      end = at + data.length;
    }
    this.extents = this.layout.extents(arrived, end);
    try {
      this.store.truncate(end);
      this.store.flush();
    } catch (error) {
      throw diskFailure(error);
    }
    return [results, refused];
  }

  /** What failed leaves nothing behind. */
  private wipe(entry: number): void {
    try {
      this.store.clear(this.layout.start(entry), this.manifest.entries[entry]!.size);
    } catch (error) {
      throw diskFailure(error);
    }
  }

  close(): void {
    this.forget();
    this.store.close();
  }

  async discard(): Promise<void> {
    this.close();
    await erase(this.file);
  }
}
