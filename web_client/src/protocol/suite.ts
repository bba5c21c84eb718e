/**
 * What belongs to a cipher suite is one object (mirrors `p2p/protocol/suite.py`).
 *
 * The handshake negotiates its number (PROTOCOL.md, The handshake); everything else asks the object, so that a later
 * suite is one more entry here.
 */
import sodium from "libsodium-wrappers-sumo";

import { hkdfExtract, prefixed, sha256, type Bytes } from "./codec";
import { HeapBuffer } from "./heap";
import type { PskSecrets } from "./link";
import { MAX_MESSAGE_SIZE } from "./signal";

/** Seals the `length` bytes that `fill` writes, into what `make` gives: as many bytes as it is asked for. */
export type SealBox = (
  length: number,
  fill: (plaintext: Bytes) => void,
  make?: (length: number) => Bytes,
) => Bytes;

/** Opens one box: the plaintext, which is good until the next. Throws `PeerError`. */
export type OpenBox = (box: Bytes) => Bytes;

export interface Suite {
  readonly number: number; // as negotiated
  readonly name: string; // as receipts state it
  readonly noise: string; // name of the Noise protocol
  /** Noise's hash. */
  hash(...parts: Bytes[]): Bytes;
  /** The Noise psk, 32 bytes: the link's own, with what the passphrase gave mixed in. */
  psk(secrets: PskSecrets): Bytes;
  readonly overhead: number; // bytes that a sealed box adds
  /** Seal to the session whose public key this is (32 bytes). Throws `PeerError` for none. */
  sealer(publicKey: Bytes): SealBox;
  /** Open what is sealed to the session whose private key this is (32 bytes). */
  opener(privateKey: Bytes): OpenBox;
}

let buffers: [HeapBuffer, HeapBuffer] | null = null; // one pair for all sessions
const newBuffers = (): [HeapBuffer, HeapBuffer] => [
  new HeapBuffer(MAX_MESSAGE_SIZE),
  new HeapBuffer(MAX_MESSAGE_SIZE),
];

const suite1: Suite = {
  number: 1,
  name: "noise-xxpsk3-25519-chachapoly-sha256+nacl-sealed-box+ed25519",
  noise: "Noise_XXpsk3_25519_ChaChaPoly_SHA256",
  hash: sha256,
  psk: ({ link, passphrase }) => hkdfExtract(link, prefixed(passphrase)),
  overhead: 48, // crypto_box_SEALBYTES, known before libsodium is ready
  sealer(publicKey) {
    const known = HeapBuffer.of(publicKey);
    return (length, fill, make = (size) => new Uint8Array(size)) => {
      const [plain, sealed] = (buffers ??= newBuffers());
      fill(plain.view(length));
      plain.sealInto(sealed, length, known);
      const box = make(length + this.overhead);
      box.set(sealed.view(box.length));
      return box;
    };
  },
  opener(privateKey) {
    const publicHalf = HeapBuffer.of(sodium.crypto_scalarmult_base(privateKey));
    const privateHalf = HeapBuffer.of(privateKey);
    return (box) => {
      const [sealed, opened] = (buffers ??= newBuffers());
      sealed.view(box.length).set(box);
      sealed.openSealed(box.length, opened, publicHalf, privateHalf);
      return opened.view(box.length - this.overhead);
    };
  },
};

/** Number -> suite, of those spoken here. */
export const SUITES: ReadonlyMap<number, Suite> = new Map([[suite1.number, suite1]]);

/** The one that a handshake begins with. */
export const FIRST_SUITE = suite1;
