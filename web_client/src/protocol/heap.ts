/**
 * Buffers in libsodium's own memory, for what passes through it by the gigabyte: what is put there is
 * sealed, opened and hashed without a copy, and no new pages are asked for. Everything else uses the wrappers.
 */
import sodium, { type StateAddress } from "libsodium-wrappers-sumo";

import type { Bytes } from "./codec";
import { PeerError } from "./errors";

/** The part of libsodium's C functions that we call; lengths are two halves of 64 bits, low first. */
interface Functions {
  readonly HEAPU8: Bytes; // another one after the memory has grown
  _malloc(size: number): number;
  _crypto_box_seal(
    sealed: number,
    plain: number,
    low: number,
    high: number,
    publicKey: number,
  ): number;
  _crypto_box_seal_open(
    plain: number,
    sealed: number,
    low: number,
    high: number,
    publicKey: number,
    privateKey: number,
  ): number;
  _crypto_hash_sha256_update(state: StateAddress, data: number, low: number, high: number): number;
  _crypto_stream_chacha20_xor_ic(
    into: number,
    from: number,
    low: number,
    high: number,
    nonce: number,
    counterLow: number,
    counterHigh: number,
    key: number,
  ): number;
}

const functions = (): Functions => (sodium as unknown as { libsodium: Functions }).libsodium;

/** A buffer that stays where it is. It lives as long as the worker. */
export class HeapBuffer {
  private readonly address: number;

  constructor(readonly size: number) {
    this.address = functions()._malloc(size);
    if (!this.address) throw new RangeError("no memory");
  }

  /** A buffer with a copy of `bytes`. */
  static of(bytes: Bytes): HeapBuffer {
    const made = new HeapBuffer(bytes.length);
    made.view().set(bytes);
    return made;
  }

  /** Its beginning. Good until the next call of anything in libsodium. */
  view(length = this.size): Bytes {
    return functions().HEAPU8.subarray(this.address, this.address + Math.min(length, this.size));
  }

  /** Seal the first `length` bytes into `sealed`. Throws `PeerError` for a key of low order. */
  sealInto(sealed: HeapBuffer, length: number, publicKey: HeapBuffer): void {
    const { _crypto_box_seal: seal } = functions();
    if (seal(sealed.address, this.address, length, 0, publicKey.address) !== 0) {
      throw new PeerError("public_key_low_order");
    }
  }

  /** Open the sealed box of `length` bytes that lies here into `plain`. Throws `PeerError`. */
  openSealed(length: number, plain: HeapBuffer, publicKey: HeapBuffer, key: HeapBuffer): void {
    const [into, from] = [plain.address, this.address];
    const [known, secret] = [publicKey.address, key.address];
    if (functions()._crypto_box_seal_open(into, from, length, 0, known, secret) !== 0) {
      throw new PeerError("range_not_authentic");
    }
  }

  /** Encrypt or decrypt `length` bytes from `at` on, by ChaCha20 from this block of the keystream on. */
  xorKeystream(
    at: number,
    length: number,
    block: number,
    nonce: HeapBuffer,
    key: HeapBuffer,
  ): void {
    const [address, high] = [this.address + at, Math.floor(block / 2 ** 32)];
    const { _crypto_stream_chacha20_xor_ic: xor } = functions();
    xor(address, address, length, 0, nonce.address, block >>> 0, high, key.address);
  }

  /** Hash `length` bytes from `at` on. */
  hashInto(state: StateAddress, at: number, length: number): void {
    functions()._crypto_hash_sha256_update(state, this.address + at, length, 0);
  }
}
