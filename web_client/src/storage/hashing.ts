/**
 * Hashing what was read back. A file that fits in one buffer is hashed by the browser itself (WebCrypto,
 * which takes no parts); a larger one by libsodium, in a worker of its own, while the caller goes on.
 */
import CRC32 from "crc-32";
import sodium, { type StateAddress } from "libsodium-wrappers-sumo";

import type { Bytes } from "../protocol/codec";
import { HeapBuffer } from "../protocol/heap";

export const MAX_WHOLE = 8 * 1024 * 1024; // bytes of a file that is hashed as a whole
const WORTH = 16 * 1024; // below it libsodium is the faster one
export const PART = 1024 * 1024; // of a larger one, at once
const START_SECONDS = 3; // for a worker to begin; nothing waits longer for one that cannot

/** What a file's content came to. `crc`: CRC-32, for archives. */
export interface Hashed {
  readonly digest: Bytes; // SHA-256
  readonly crc: number;
}

/** Hashes one file after the other, in the order of the calls. */
export interface Hasher {
  /** A buffer for the next part, of at most so many bytes. */
  part(length: number): Bytes;
  /** The next part of the file, in a buffer of `part`, which is the hasher's again. */
  update(part: Bytes): void;
  /** The file is whole: what it came to. The next call begins another. */
  finish(): Promise<Hashed>;
  /** The file is given up. */
  forget(): void;
  /** Until every call so far is carried out. */
  settled(): Promise<void>;
  close(): void;
}

/** Hash a file that is whole: natively, where that is worth the way there. */
export async function hashWhole(content: Bytes): Promise<Hashed> {
  const crc = CRC32.buf(content) >>> 0;
  if (content.length < WORTH) return { digest: sodium.crypto_hash_sha256(content), crc };
  const digest = await crypto.subtle.digest("SHA-256", content as Uint8Array<ArrayBuffer>);
  return { digest: new Uint8Array(digest), crc };
}

/** Hashes at once, in the caller's thread. */
export class InlineHasher implements Hasher {
  private readonly heap = new HeapBuffer(PART);
  private file: { sha: StateAddress; crc: number } | null = null;

  part(length: number): Bytes {
    return new Uint8Array(Math.min(length, PART));
  }

  update(part: Bytes): void {
    this.file ??= { sha: sodium.crypto_hash_sha256_init(), crc: 0 };
    this.file.crc = CRC32.buf(part, this.file.crc);
    this.heap.view(part.length).set(part);
    this.heap.hashInto(this.file.sha, part.length);
  }

  async finish(): Promise<Hashed> {
    const { sha, crc } = this.file ?? { sha: sodium.crypto_hash_sha256_init(), crc: 0 };
    this.file = null;
    return { digest: sodium.crypto_hash_sha256_final(sha), crc: crc >>> 0 };
  }

  forget(): void {
    if (this.file) sodium.crypto_hash_sha256_final(this.file.sha); // frees its memory
    this.file = null;
  }

  async settled(): Promise<void> {}

  close(): void {
    this.forget();
  }
}

/** What the worker is asked, one after the other, and what it answers to each. */
export type HashCall =
  | { readonly call: "update"; readonly part: Bytes }
  | { readonly call: "finish" }
  | { readonly call: "forget" };
export interface HashAnswer {
  readonly part?: Bytes; // its memory back
  readonly hashed?: Hashed;
}

/** Hashes in a worker. */
class WorkerHasher implements Hasher {
  private readonly free: ArrayBuffer[] = [];
  private readonly waiting: ((answer: HashAnswer) => void)[] = [];
  private last: Promise<unknown> = Promise.resolve(); // of the calls so far

  constructor(private readonly worker: Worker) {
    worker.onmessage = ({ data }: MessageEvent<HashAnswer>) => {
      if (data.part) this.free.push(data.part.buffer as ArrayBuffer);
      this.waiting.shift()!(data);
    };
  }

  private ask(call: HashCall, transfer: Transferable[] = []): Promise<HashAnswer> {
    this.worker.postMessage(call, transfer);
    const answer = new Promise<HashAnswer>((resolve) => this.waiting.push(resolve));
    this.last = answer;
    return answer;
  }

  part(length: number): Bytes {
    return new Uint8Array(this.free.pop() ?? new ArrayBuffer(PART), 0, Math.min(length, PART));
  }

  update(part: Bytes): void {
    void this.ask({ call: "update", part }, [part.buffer]);
  }

  async finish(): Promise<Hashed> {
    return (await this.ask({ call: "finish" })).hashed!;
  }

  forget(): void {
    void this.ask({ call: "forget" });
  }

  async settled(): Promise<void> {
    await this.last;
  }

  close(): void {
    this.worker.terminate();
  }
}

/** A hasher in a worker; where none can be had, in this thread. */
export async function openHasher(): Promise<Hasher> {
  if (typeof Worker === "undefined") return new InlineHasher();
  let worker: Worker | null = null;
  try {
    worker = new Worker(new URL("../hash_worker.ts", import.meta.url), { type: "module" });
    await started(worker);
    return new WorkerHasher(worker);
  } catch {
    worker?.terminate();
    return new InlineHasher();
  }
}

function started(worker: Worker): Promise<void> {
  return new Promise((resolve, reject) => {
    worker.onmessage = () => resolve(); // it says nothing else before it is asked
    worker.onerror = () => reject(new Error("the worker did not start"));
    setTimeout(reject, START_SECONDS * 1000, new Error("the worker did not start"));
  });
}
