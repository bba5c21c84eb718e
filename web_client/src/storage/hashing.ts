/**
 * Hashing what was read back. A file that fits in one buffer is hashed by the browser itself (WebCrypto,
 * which takes no parts); a larger one is decrypted and hashed by libsodium, in a worker of its own, while
 * the caller goes on.
 */
import CRC32 from "crc-32";
import sodium, { type StateAddress } from "libsodium-wrappers-sumo";

import type { Bytes } from "../protocol/codec";
import { Cipher } from "./encrypted";
import type { Stored } from "./ports";

export const MAX_WHOLE = 8 * 1024 * 1024; // bytes of a file that is hashed as a whole
const WORTH = 16 * 1024; // below it libsodium is the faster one
export const PART = 1024 * 1024; // of a larger one, at once
export const HASHER = "hasher"; // name of the worker that does it
const START_SECONDS = 3; // for a worker to begin; nothing waits longer for one that cannot

/** What a file's content came to. */
export interface Hashed {
  readonly digest: Bytes; // SHA-256
  readonly crc: number; // CRC-32, for archives, where it was wanted
}

/** The worker is gone: what it had is of no use. */
export class HasherLost extends Error {}

/** Hashes one file after the other, in the order of the calls. What waits throws `HasherLost`. */
export interface Hasher {
  /** A buffer of `PART` bytes, for the next part. */
  part(): Bytes;
  /** The next part of the file, in a buffer of `part`, which is the hasher's again. */
  update(part: Stored): void;
  /** The file is whole: what it came to. The next call begins another. */
  finish(): Promise<Hashed>;
  /** The file is given up. */
  forget(): void;
  /** Until every call so far is carried out. */
  settled(): Promise<void>;
  close(): void;
}

/** Hash a file that is whole: natively, where that is worth the way there. */
export async function hashWhole(content: Bytes, wantsCrc: boolean): Promise<Hashed> {
  const crc = wantsCrc ? CRC32.buf(content) >>> 0 : 0;
  if (content.length < WORTH) return { digest: sodium.crypto_hash_sha256(content), crc };
  const digest = await crypto.subtle.digest("SHA-256", content as Uint8Array<ArrayBuffer>);
  return { digest: new Uint8Array(digest), crc };
}

/** Hashes at once, in the caller's thread. */
export class InlineHasher implements Hasher {
  private readonly cipher = Cipher.get();
  private file: { sha: StateAddress; crc: number } | null = null;

  constructor(private readonly wantsCrc: boolean) {}

  part(): Bytes {
    return new Uint8Array(PART);
  }

  update(part: Stored): void {
    this.file ??= { sha: sodium.crypto_hash_sha256_init(), crc: 0 };
    this.cipher.take(part);
    const { data } = this.cipher;
    const content = data.view(part.skip + part.length).subarray(part.skip);
    if (this.wantsCrc) this.file.crc = CRC32.buf(content, this.file.crc);
    data.hashInto(this.file.sha, part.skip, part.length);
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
  | { readonly call: "begin"; readonly wantsCrc: boolean }
  | { readonly call: "update"; readonly part: Stored }
  | { readonly call: "finish" }
  | { readonly call: "forget" };
export interface HashAnswer {
  readonly part?: ArrayBuffer; // its memory back
  readonly hashed?: Hashed;
  readonly failed?: true;
}

interface Answering<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: unknown) => void;
}

function withResolvers<T>(): Answering<T> {
  let [resolve, reject]: any[] = [];
  const promise = new Promise<T>((...both) => ([resolve, reject] = both));
  return { promise, resolve, reject };
}

/** Hashes in a worker. */
class WorkerHasher implements Hasher {
  private readonly free: ArrayBuffer[] = [];
  private readonly waiting: Answering<HashAnswer>[] = [];
  private last: Promise<unknown> = Promise.resolve(); // of the calls so far
  private lost = false;

  constructor(
    private readonly worker: Worker,
    wantsCrc: boolean,
  ) {
    worker.onerror = worker.onmessageerror = () => this.lose();
    worker.onmessage = ({ data }: MessageEvent<HashAnswer>) => {
      if (data.failed) return this.lose();
      if (data.part) this.free.push(data.part);
      this.waiting.shift()?.resolve(data);
    };
    void this.ask({ call: "begin", wantsCrc });
  }

  private lose(): void {
    this.lost = true;
    this.worker.terminate();
    for (const { reject } of this.waiting.splice(0)) reject(new HasherLost());
  }

  private ask(call: HashCall, transfer: Transferable[] = []): Promise<HashAnswer> {
    const answer = withResolvers<HashAnswer>();
    answer.promise.catch(() => {}); // not all are waited for
    this.last = answer.promise;
    this.waiting.push(answer);
    if (this.lost) this.lose();
    else this.worker.postMessage(call, transfer);
    return answer.promise;
  }

  part(): Bytes {
    return new Uint8Array(this.free.pop() ?? new ArrayBuffer(PART));
  }

  update(part: Stored): void {
    void this.ask({ call: "update", part }, [part.bytes.buffer]);
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
    this.lose();
  }
}

/** A hasher in a worker; where none can be had, in this thread. */
export async function openHasher(wantsCrc: boolean): Promise<Hasher> {
  if (typeof Worker === "undefined") return new InlineHasher(wantsCrc);
  let worker: Worker | null = null;
  try {
    // This worker's own script again, which the browser has: libsodium is most of it.
    worker = new Worker(String(globalThis.location?.href), { type: "module", name: HASHER });
    await started(worker);
    return new WorkerHasher(worker, wantsCrc);
  } catch {
    worker?.terminate();
    return new InlineHasher(wantsCrc);
  }
}

function started(worker: Worker): Promise<void> {
  return new Promise((resolve, reject) => {
    worker.onmessage = () => resolve(); // it says nothing else before it is asked
    worker.onerror = () => reject(new Error("the worker did not start"));
    setTimeout(reject, START_SECONDS * 1000, new Error("the worker did not start"));
  });
}
