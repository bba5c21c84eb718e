/**
 * The recipient's disk as a browser has it (what `p2p/files.py` is for the command line).
 *
 * Ranges are written to their place in one container (`Layout`), synced, read back and hashed; what
 * lies there in the end is the file that is saved. The container is a file of the origin private
 * file system where there is one on a disk, else memory up to a stated size.
 */
import CRC32 from "crc-32";
import sodium, { type StateAddress } from "libsodium-wrappers-sumo";

import { same, type Bytes } from "../protocol/codec";
import { Failure } from "../protocol/errors";
import { HeapBuffer } from "../protocol/heap";
import { CHANGED, NOT_WRITTEN, Results, tapeOf, type Manifest } from "../protocol/manifest";
import { sha256 } from "../protocol/codec";
import type { Tape } from "../protocol/tape";
import { Layout } from "./zip";

const READ_BACK = 1024 * 1024; // read and hashed at once
const FOLDER = "handover"; // of the origin private file system
const [REOPEN_TRIES, REOPEN_PAUSE] = [20, 150]; // milliseconds
const BEYOND_MEMORY = 2 ** 32; // more than Chromium's file in memory can be
export const MAX_IN_MEMORY = 512 * 1024 * 1024; // beyond it a tab is in danger

/** A file that is read and written at any place: the part of `FileSystemSyncAccessHandle` we use. */
export interface Store {
  read(buffer: Bytes, options: { at: number }): number;
  write(data: Bytes, options: { at: number }): number;
  truncate(size: number): void;
  getSize(): number;
  flush(): void;
  close(): void;
}

/** A store in memory, for where there is no disk. Pages come into being as they are written. */
export class MemoryStore implements Store {
  private static readonly PAGE = 1024 * 1024;
  private readonly pages = new Map<number, Bytes>();
  private size = 0;

  private *parts(
    at: number,
    length: number,
  ): Generator<[page: number, from: number, part: number]> {
    for (let done = 0; done < length;) {
      const from = (at + done) % MemoryStore.PAGE;
      const part = Math.min(length - done, MemoryStore.PAGE - from);
      yield [Math.floor((at + done) / MemoryStore.PAGE), from, part];
      done += part;
    }
  }

  read(buffer: Bytes, { at }: { at: number }): number {
    const length = Math.max(0, Math.min(buffer.length, this.size - at));
    let done = 0;
    for (const [page, from, part] of this.parts(at, length)) {
      const content = this.pages.get(page);
      if (content) buffer.set(content.subarray(from, from + part), done);
      else buffer.fill(0, done, done + part);
      done += part;
    }
    return length;
  }

  write(data: Bytes, { at }: { at: number }): number {
    let done = 0;
    for (const [page, from, part] of this.parts(at, data.length)) {
      const content = this.pages.get(page) ?? new Uint8Array(MemoryStore.PAGE);
      this.pages.set(page, content);
      content.set(data.subarray(done, done + part), from);
      done += part;
    }
    this.size = Math.max(this.size, at + data.length);
    return data.length;
  }

  truncate(size: number): void {
    const [last, from] = [Math.floor(size / MemoryStore.PAGE), size % MemoryStore.PAGE];
    for (const page of this.pages.keys()) if (page > last) this.pages.delete(page);
    this.pages.get(last)?.fill(0, from); // what is cut off is zeros when the store grows again
    this.size = size;
  }

  getSize(): number {
    return this.size;
  }

  flush(): void {}

  close(): void {}

  /** All of it, to be saved. */
  blob(): Blob {
    const parts: BlobPart[] = [];
    for (const [page, from, part] of this.parts(0, this.size)) {
      const content = this.pages.get(page) ?? new Uint8Array(MemoryStore.PAGE);
      parts.push(content.subarray(from, from + part) as BlobPart);
    }
    return new Blob(parts);
  }
}

/** Where the bytes go. One at a time; every method throws `Failure` (disk_error) at most. */
export interface Destination {
  /** What the receipt says was read back: the file itself, or the browser's store. */
  readonly stored: "file" | "browser";
  /** How far along the tape it is read back and hashed. */
  readonly hashed: number;
  /** Bytes of what lies there in the end; known once it is settled. */
  readonly size: number;
  /** Whether it would be good to sync soon. */
  readonly crowded: boolean;
  /** A session begins at this offset: what was withdrawn beyond it is open again. */
  begin(offset: number): void;
  /** Write a range. */
  write(offset: number, payload: Bytes): void | Promise<void>;
  /** The sender gave it up. */
  withdraw(entry: number): void;
  /** Bring what is written before `frontier` to the disk for good. */
  sync(frontier: number): void | Promise<void>;
  /** Read back from the disk and hash, up to `upto` at most, which is synced. */
  readBack(upto: number): void | Promise<void>;
  /** Hold the sender's digests against what was read back; what failed here is [entry, status]. */
  settle(claimed: Results): Settled | Promise<Settled>;
  /** Close it; what is durable stays. */
  close(): void;
  /** Erase everything. */
  discard(): Promise<void>;
}

export type Settled = [Results, [number, number][]];

/**
 * The final results: what the sender gave up, and what was not found here as it said.
 *
 * `found` gives the digest of what is there, undefined where nothing is; of a folder it does not matter
 * which.
 */
export function held(
  manifest: Manifest,
  claimed: Results,
  found: (index: number) => Bytes | undefined,
  unwritable: ReadonlySet<number> = new Set(),
): Settled {
  const results = Results.of(claimed.length);
  const refused: [number, number][] = [];
  manifest.entries.forEach((entry, index) => {
    const [given, digest] = claimed.at(index);
    const here = entry.size ? found(index) : EMPTY();
    if (given) results.failed(index, given);
    else if (unwritable.has(index)) {
      results.failed(index, NOT_WRITTEN);
      refused.push([index, NOT_WRITTEN]);
    } else if (entry.kind === "directory" || (here !== undefined && same(here, digest))) {
      results.delivered(index, digest);
    } else {
      const status = here === undefined ? NOT_WRITTEN : CHANGED;
      results.failed(index, status);
      refused.push([index, status]);
    }
  });
  return [results, refused];
}

/** The digest of an entry without content. */
const EMPTY = () => sha256(new Uint8Array(0));

/** What holds the bytes: a file on a disk that survives a reload, or memory that does not. */
export type Kept =
  | { readonly where: "disk"; readonly store: Store; readonly tight: boolean }
  | { readonly where: "memory"; readonly store: MemoryStore; readonly tight: boolean };

async function folder(): Promise<FileSystemDirectoryHandle> {
  const root = await navigator.storage.getDirectory();
  return root.getDirectoryHandle(FOLDER, { create: true });
}

/** Names of all containers on this browser's disk; none where it has no disk for pages. */
export async function containers(): Promise<string[]> {
  try {
    const names: string[] = [];
    for await (const name of (await folder()).keys()) names.push(name);
    return names;
  } catch {
    return [];
  }
}

/** Erase a container. */
export async function erase(name: string): Promise<void> {
  try {
    await (await folder()).removeEntry(name);
  } catch {
    // there is none
  }
}

/** A container as a file to be saved. Throws when it is not there. */
export async function containerFile(name: string): Promise<File> {
  return (await (await folder()).getFileHandle(name)).getFile();
}

/** Open a container that an earlier session left. Throws when it is not there or in use. */
export async function reopen(name: string): Promise<Kept> {
  const handle = await (await folder()).getFileHandle(name);
  for (let tries = 0; ; tries++) {
    try {
      return { where: "disk", store: await handle.createSyncAccessHandle!(), tight: false };
    } catch (error) {
      // A page that was just left may hold it for a moment yet.
      if (tries === REOPEN_TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, REOPEN_PAUSE));
    }
  }
}

/**
 * Make room for `size` bytes, and for as many again when they are saved.
 *
 * `persist` asks the person or the browser for more than the usual share. `tight` says that room for
 * the saved copy could not be established. Throws `Failure` (no_space).
 */
export async function reserve(
  name: string,
  size: number,
  persist: () => Promise<boolean>,
): Promise<Kept> {
  let store: FileSystemSyncAccessHandle | null = null;
  try {
    const handle = await (await folder()).getFileHandle(name, { create: true });
    store = await handle.createSyncAccessHandle!();
    if (inMemory(store)) throw new Error("no disk");
    const room = fits(store, 2 * size) || ((await persist()) && fits(store, 2 * size));
    if (room || fits(store, size)) {
      store.truncate(0);
      store.truncate(size);
      return { where: "disk", store, tight: !room };
    }
  } catch {
    // no file system for this page (a private window), or it is broken: memory, then
  }
  const onDisk = store !== null && fits(store, 1);
  store?.close();
  await erase(name);
  if (size > MAX_IN_MEMORY) {
    throw new Failure("no_space", onDisk ? "" : "private window");
  }
  return { where: "memory", store: new MemoryStore(), tight: false };
}

/**
 * Whether it is no file but memory, as off the record in Chromium: there sizes above 2 GiB are
 * ignored, where a disk takes or refuses them.
 */
function inMemory(store: FileSystemSyncAccessHandle): boolean {
  try {
    store.truncate(BEYOND_MEMORY);
    return store.getSize() !== BEYOND_MEMORY;
  } catch {
    return false;
  }
}

/** Whether a file of this size is allowed. */
function fits(store: FileSystemSyncAccessHandle, size: number): boolean {
  try {
    store.truncate(size);
    return store.getSize() === size;
  } catch {
    return false;
  }
}

/** What a failing write means. */
export function diskFailure(error: unknown): Failure {
  const full = error instanceof DOMException && error.name === "QuotaExceededError";
  return new Failure("disk_error", full ? "no room is left" : "the browser's store failed");
}

/** The container of this link: on the browser's disk, or in memory. */
export class Container implements Destination {
  readonly stored = "browser";
  readonly crowded = false;
  readonly layout: Layout;
  private readonly tape: Tape;
  private readonly gone = new Set<number>();
  private readonly digests = new Map<number, Bytes>();
  private readonly crcs = new Map<number, number>();
  private readonly buffer = new HeapBuffer(READ_BACK);
  private hashing: { entry: number; sha: StateAddress; crc: number } | null = null;
  hashed = 0;
  size = 0;

  constructor(
    private readonly manifest: Manifest,
    private readonly room: string,
    private readonly store: Store,
  ) {
    this.layout = new Layout(manifest);
    this.tape = tapeOf(manifest);
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
    const [results, refused] = held(this.manifest, claimed, (index) => this.digests.get(index));
    const arrived = new Map<number, number>();
    this.manifest.entries.forEach((_, index) => {
      if (results.at(index)[0]) this.wipe(index);
      else arrived.set(index, this.crcs.get(index) ?? 0);
    });
    this.size = this.layout.single && !arrived.size ? 0 : this.layout.size;
    for (const [at, data] of this.layout.frame(arrived)) {
      this.put(data, at);
      this.size = at + data.length;
    }
    try {
      this.store.truncate(this.size);
      this.store.flush();
      this.store.close();
    } catch (error) {
      throw diskFailure(error);
    }
    return [results, refused];
  }

  /** What failed leaves nothing behind. */
  private wipe(entry: number): void {
    const start = this.layout.start(entry);
    const zeros = new Uint8Array(READ_BACK);
    for (let at = 0; at < this.manifest.entries[entry]!.size; at += READ_BACK) {
      const length = Math.min(READ_BACK, this.manifest.entries[entry]!.size - at);
      this.put(zeros.subarray(0, length), start + at);
    }
  }

  close(): void {
    this.forget();
    this.store.close();
  }

  async discard(): Promise<void> {
    this.close();
    await erase(this.room);
  }
}
