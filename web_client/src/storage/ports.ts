/**
 * Where bytes come from and where received ones go, as contracts: the comments are law, and
 * `tests/storage/conformance.test.ts` holds every destination to each of them.
 */
import type { Compression, Compressor } from "../compression";
import type { Bytes } from "../protocol/codec";
import type { Results } from "../protocol/manifest";
import type { Extents } from "./zip";

/** Looked at every moment; once it is true, the call ends early. */
export type Stopped = () => boolean;

/** What reading gave: a stretch of tape (perhaps empty), and what became of entries. */
export interface Block {
  readonly offset: number;
  readonly length: number;
  readonly payload: Bytes; // good until the next call
  readonly compression: Compression; // how its bytes are best compressed, ...
  readonly phase: 0 | 1; // ... see `Compressor.compress`
  readonly finished: readonly (readonly [entry: number, digest: Bytes])[];
  readonly withdrawn: readonly (readonly [entry: number, status: number])[];
}

/** Reads the tape from its entries, in order, hashing as it goes. One call at a time. */
export interface Source {
  /**
   * The next stretch, at most `length` bytes; then whatever ends there. With a `compressor` also how to
   * compress it.
   *
   * An entry that is not as it was listed, or shrinks or changes under way, is withdrawn: the block says
   * so, and the next one begins behind it. Never throws for one entry.
   */
  read(offset: number, length: number, compressor?: Compressor | null): Promise<Block>;
  /**
   * Begin at `offset`: the recipient has everything before it. On a fresh source only.
   *
   * What ends before is read and hashed all the same, unless its digest is `known`; so is the beginning of
   * the entry in which `offset` lies. `stopped` ends it early. Throws `Failure` then.
   */
  skip(offset: number, known: (entry: number) => Bytes | null, stopped: Stopped): Promise<Block>;
  /**
   * Entries that were `delivered` and are another now, as far as that can be seen, so that what was read of
   * them may be of no one version. Looked at when all is read. `stopped` ends it early. Throws `Failure`
   * then.
   */
  changed(delivered: (entry: number) => boolean, stopped: Stopped): Promise<number[]>;
  /** Let go of what is open. */
  close(): void;
}

/**
 * The content of one transfer, addressed by the tape's offsets.
 *
 * Any number of `write`, one `sync` and one `readBack` may be under way at once; what is begun or
 * withdrawn may come between. `settle`, `close` and `discard` come alone. A disk that fails is `Failure`
 * (disk_error, or disk_paused where it may take data again), the only error there is; an entry that cannot
 * be written, for its name or a permission, fails alone and is told by `settle`.
 */
export interface Destination {
  /** What the receipt says was read back: the file itself, or the browser's store. */
  readonly stored: "file" | "browser";
  /** For people: the file that can be saved from here, or the folder that holds the files. */
  readonly name: string;
  /** How far along the tape it is read back and hashed. It never goes back. */
  readonly hashed: number;
  /** The most bytes to read back in one call, for messages to be taken in between. */
  readonly readBackStep: number;
  /** Bytes of what lies there in the end; known once it is settled. */
  readonly size: number;
  /** Of a store, what of it is saved; known once it is settled. */
  readonly extents: Extents;
  /** Whether to sync soon rather than wait for more. */
  readonly crowded: boolean;
  /** Whether there is space again for some of what is to come, after a write that found none. */
  takesData(): Promise<boolean>;
  /** A session begins at this offset: what was withdrawn and ends beyond it is open again. */
  begin(offset: number): void;
  /**
   * Put a range in its place. Ranges come in any order and may straddle entries; what no range covers
   * reads as zeros. The payload is good only until the call returns: what is needed later is copied.
   */
  write(offset: number, payload: Bytes): void | Promise<void>;
  /** The sender gave the entry up: it is neither hashed nor kept, and no failure of this side. */
  withdraw(entry: number): void;
  /** Bring everything before `frontier` to the disk for good; all of it is written. */
  sync(frontier: number): void | Promise<void>;
  /** Read back from the disk and hash, no further than `upto`, which is synced. */
  readBack(upto: number): void | Promise<void>;
  /**
   * Hold the sender's digests against what was read back, and make what is there what people get: no
   * entry that failed leaves anything behind. Called at the end; once more, if the disk paused in it.
   */
  settle(claimed: Results): Settled | Promise<Settled>;
  /** Let go of it. What is durable stays, where a reload can find it. */
  close(): void;
  /** Erase everything that was made here, and nothing else. */
  discard(): Promise<void>;
}

/** The final results, and of those what failed on this side: [entry, status]. */
export type Settled = [results: Results, refused: [entry: number, status: number][]];

/** Content as it lies in a store: `length` bytes of it, behind the first `skip` of `bytes`. */
export interface Stored {
  readonly bytes: Bytes;
  readonly skip: number;
  readonly length: number;
  /** By what it is encrypted, from the first byte on, and where on the disk that lies. */
  readonly encrypted: { readonly key: Bytes; readonly place: number } | null;
}

/** A file that is read and written at any place. */
export interface Store {
  read(buffer: Bytes, options: { at: number }): number;
  /** What `read` would give, for another thread to decrypt; the buffer is a multiple of 64 bytes long. */
  readStored(buffer: Bytes, options: { at: number }): Stored;
  write(data: Bytes, options: { at: number }): number;
  /** Make a range read as zeros, and leave nothing of what was there. */
  clear(at: number, length: number): void;
  truncate(size: number): void;
  flush(): void;
  close(): void;
}
