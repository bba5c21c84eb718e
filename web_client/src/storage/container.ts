/**
 * Everything in one store, as the file that is saved in the end (`Layout`): on the browser's disk, or
 * in memory.
 */
import { breathe } from "../clock";
import type { Bytes } from "../protocol/codec";
import { tapeOf, type Manifest, type Results } from "../protocol/manifest";
import type { Piece, Tape } from "../protocol/tape";
import { HasherLost, InlineHasher, MAX_WHOLE, hashWhole, openHasher } from "./hashing";
import type { Hashed, Hasher } from "./hashing";
import { erase, takesData } from "./opfs";
import type { Destination, Settled, Store, Stored } from "./ports";
import { diskFailure, settleEntries } from "./settling";
import { Layout, type Extents } from "./zip";

const MOST_AT_ONCE = 64; // files that are hashed at once, before messages are let in

export class Container implements Destination {
  readonly stored = "browser";
  readonly crowded = false;
  readonly readBackStep = MAX_WHOLE;
  readonly layout: Layout;
  private readonly tape: Tape;
  private readonly gone = new Set<number>();
  private readonly digests = new Map<number, Bytes>();
  private readonly crcs = new Map<number, number>();
  private hasher: Promise<Hasher> | null = null; // of large files, once there is one
  private hashing = -1; // the entry that it is at, ...
  private unreadable = -1; // ... and one that could not be read: it is hashed no further
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

  async readBack(upto: number): Promise<void> {
    try {
      await this.readOn(upto);
    } catch (error) {
      if (!(error instanceof HasherLost)) throw error;
      this.closeHasher();
      this.hasher = Promise.resolve(new InlineHasher(!this.layout.single)); // slower, but it stays
      await this.readOn(upto);
    }
  }

  private async readOn(upto: number): Promise<void> {
    const pieces = [...this.tape.pieces(this.hashed, upto - this.hashed)];
    const { entries } = this.manifest;
    const isLarge = ({ entry }: Piece) => entries[entry]!.size > MAX_WHOLE;
    if (pieces.some(isLarge)) this.hasher ??= openHasher(!this.layout.single);
    const hasher = await this.hasher;
    const work: Promise<void>[] = [];
    let large = Promise.resolve(); // one after the other
    let end = this.hashed;
    for (const piece of pieces) {
      const { entry, offset, length } = piece;
      const ends = offset + length === entries[entry]!.size;
      if (!isLarge(piece) && !ends) break; // it comes with a later call, whole
      if (this.gone.has(entry)) {
        // it is not hashed
      } else if (isLarge(piece)) {
        work.push((large = large.then(() => this.hashPart(hasher!, piece, ends))));
      } else work.push(this.hashWhole(entry));
      if (work.length === MOST_AT_ONCE) {
        await Promise.all(work.splice(0));
        await breathe();
      }
      end = this.tape.start(entry) + offset + length;
    }
    await Promise.all(work);
    this.hashed = end;
  }

  private async hashWhole(entry: number): Promise<void> {
    const content = new Uint8Array(this.manifest.entries[entry]!.size);
    if (this.load(content, entry, 0))
      this.note(entry, await hashWhole(content, !this.layout.single));
  }

  /** Hash a large file up to the end of its next piece; `ends`: it is the last. */
  private async hashPart(hasher: Hasher, piece: Piece, ends: boolean): Promise<void> {
    const { entry, offset, length } = piece;
    if (this.unreadable === entry) return;
    const anew = this.hashing !== entry; // after another hasher was lost, in the midst of it
    if (anew && this.hashing >= 0) hasher.forget();
    this.hashing = entry;
    for (let at = anew ? 0 : offset; at < offset + length;) {
      const part = this.loadStored(hasher.part(), entry, at, offset + length - at);
      if (!part) {
        hasher.forget(); // no digest: the entry fails
        [this.hashing, this.unreadable] = [-1, entry];
        return;
      }
      at += part.length;
      hasher.update(part);
      if (at >= offset) continue;
      await hasher.settled();
      await breathe();
    }
    if (!ends) return hasher.settled();
    this.hashing = -1;
    this.note(entry, await hasher.finish());
  }

  /** Read a part of an entry of at most so many bytes, as it lies there; null where nothing is. */
  private loadStored(into: Bytes, entry: number, at: number, most: number): Stored | null {
    try {
      const stored = this.store.readStored(into, { at: this.layout.start(entry) + at });
      return stored.length ? { ...stored, length: Math.min(stored.length, most) } : null;
    } catch {
      return null; // as if nothing were there
    }
  }

  /** Read a part of an entry; whether all of it was there. */
  private load(into: Bytes, entry: number, at: number): boolean {
    for (let done = 0; done < into.length;) {
      let got = 0;
      try {
        const place = this.layout.start(entry) + at + done;
        got = this.store.read(into.subarray(done), { at: place });
      } catch {
        // as if nothing were there
      }
      if (got <= 0) return false;
      done += got;
    }
    return true;
  }

  private note(entry: number, { digest, crc }: Hashed): void {
    this.digests.set(entry, digest);
    this.crcs.set(entry, crc);
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
    this.closeHasher();
    this.store.close();
  }

  private closeHasher(): void {
    void this.hasher?.then((hasher) => hasher.close());
    this.hasher = null;
    this.hashing = -1;
  }

  async discard(): Promise<void> {
    this.close();
    await erase(this.file);
  }
}
