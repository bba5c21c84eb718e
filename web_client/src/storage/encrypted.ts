/**
 * A store whose content lies encrypted on the browser's disk: whoever finds the profile without the link
 * reads nothing but sizes, and where holes are.
 *
 * ChaCha20 under a key of this one file, at the place of each byte (block n of 64 bytes is block n of
 * the keystream), so any place can be read and written. Nothing is authenticated: a hash is held against
 * what is read. A block of zeros on the disk is a hole and reads as zeros, so holes are never written; a
 * block with content looks like one once in 2^512. That takes whole blocks: the rest of one that is
 * written in part is read before.
 */
import type { Bytes } from "../protocol/codec";
import { HeapBuffer } from "../protocol/heap";
import type { Store, Stored } from "./ports";

const BLOCK = 64; // bytes, of the keystream
const WORDS = BLOCK / 4;
const MOST = 1024 * 1024; // read or written at once
const KEY = 32;
const NONCE = 8;

/** The part of `FileSystemSyncAccessHandle` we use. */
export type Disk = Pick<
  FileSystemSyncAccessHandle,
  "read" | "write" | "truncate" | "flush" | "close"
>;

const floor = (at: number): number => at - (at % BLOCK);
const ceil = (at: number): number => floor(at + BLOCK - 1);

/** Encrypts and decrypts blocks in libsodium's memory. */
export class Cipher {
  // Of all of them: one call of one of them uses it, and returns.
  private static shared: Cipher | null = null;
  readonly data = new HeapBuffer(MOST + 2 * BLOCK);
  private readonly key = new HeapBuffer(KEY);
  private readonly nonce = HeapBuffer.of(new Uint8Array(NONCE)); // every key is fresh

  static get(): Cipher {
    return (Cipher.shared ??= new Cipher());
  }

  /** Encrypt or decrypt a part of `data`, which is for this place of the disk. */
  xor(begin: number, length: number, place: number, key: Bytes): void {
    this.key.view().set(key);
    this.data.xorKeystream(begin, length, place / BLOCK, this.nonce, this.key);
  }

  /** Take what lies in a store into `data`, decrypted; it begins behind the first `skip` bytes. */
  take({ bytes, skip, length, encrypted }: Stored): void {
    const end = ceil(skip + length);
    this.data.view(end).set(bytes.subarray(0, end));
    if (encrypted) this.decrypt(end, encrypted.place, encrypted.key);
  }

  /** Decrypt the first `length` bytes of `data`, whole blocks that lie at this place of the disk. */
  decrypt(length: number, place: number, key: Bytes): void {
    const view = this.data.view(length);
    const words = new Uint32Array(view.buffer, view.byteOffset, length / 4);
    const blocks = length / BLOCK;
    let begin = 0; // of those that are no holes
    for (let block = 0; block <= blocks; block++) {
      if (block < blocks && !isHole(words, block * WORDS)) continue;
      if (block > begin) {
        this.xor(begin * BLOCK, (block - begin) * BLOCK, place + begin * BLOCK, key);
      }
      begin = block + 1;
    }
  }
}

export class EncryptedStore implements Store {
  private readonly heap = Cipher.get();

  /** `key` has 32 bytes and encrypts nothing else. */
  constructor(
    private readonly disk: Disk,
    private readonly key: Bytes,
  ) {}

  read(buffer: Bytes, { at }: { at: number }): number {
    const wanted = Math.min(buffer.length, MOST);
    const from = floor(at);
    const got = floor(this.load(from, ceil(at + wanted) - from));
    const done = Math.max(0, Math.min(wanted, from + got - at));
    buffer.set(this.heap.data.view(got).subarray(at - from, at - from + done));
    return done;
  }

  readStored(buffer: Bytes, { at }: { at: number }): Stored {
    const place = floor(at);
    const skip = at - place;
    const got = floor(this.disk.read(buffer, { at: place }));
    const key = this.key;
    return { bytes: buffer, skip, length: Math.max(0, got - skip), encrypted: { key, place } };
  }

  write(data: Bytes, { at }: { at: number }): number {
    const length = Math.min(data.length, MOST);
    const [from, end] = [floor(at), at + length];
    const [first, last] = [this.rest(from, at), this.rest(floor(end), end)];
    const view = this.heap.data.view(ceil(end) - from);
    if (last) view.set(last, floor(end) - from);
    if (first) view.set(first);
    view.set(data.subarray(0, length), at - from);
    this.heap.xor(0, view.length, from, this.key);
    this.put(view, from);
    return length;
  }

  /** Make it read as zeros, and leave nothing there that is not. */
  clear(at: number, length: number): void {
    const end = at + length;
    const zeros = (from: number, to: number) => this.write(new Uint8Array(to - from), { at: from }); // less than a block
    if (ceil(at) > floor(end)) return void zeros(at, end);
    if (ceil(at) > at) zeros(at, ceil(at));
    for (let from = ceil(at); from < floor(end); from += MOST) {
      this.put(this.heap.data.view(Math.min(MOST, floor(end) - from)).fill(0), from);
    }
    if (end > floor(end)) zeros(floor(end), end);
  }

  /** The last block stays a whole one on the disk. */
  truncate(size: number): void {
    this.disk.truncate(ceil(size));
    // What was never written stays a hole: a keystream alone would show the content that comes.
    if (size % BLOCK && !this.isHoleAt(floor(size))) this.clear(size, ceil(size) - size);
  }

  private isHoleAt(block: number): boolean {
    const view = this.heap.data.view(BLOCK);
    const got = this.disk.read(view, { at: block });
    return got === BLOCK && view.every((octet) => octet === 0);
  }

  flush(): void {
    this.disk.flush();
  }

  close(): void {
    this.disk.close();
  }

  /** A block's content where only a part of it is written, which ends or begins at `at`. */
  private rest(block: number, at: number): Bytes | null {
    if (at === block) return null;
    const got = floor(this.load(block, BLOCK));
    return this.heap.data.view(BLOCK).slice().fill(0, got);
  }

  /** Read blocks from the disk and decrypt them; how many bytes came. */
  private load(from: number, length: number): number {
    const got = this.disk.read(this.heap.data.view(length), { at: from });
    this.heap.decrypt(floor(got), from, this.key);
    return got;
  }

  private put(view: Bytes, from: number): void {
    // A full disk: Firefox throws nothing then, and drops what it says was written of it.
    const short = this.disk.write(view, { at: from }) < view.length;
    if (short) throw new DOMException("", "QuotaExceededError");
  }
}

function isHole(words: Uint32Array, at: number): boolean {
  for (let word = at; word < at + WORDS; word++) if (words[word]) return false;
  return true;
}
