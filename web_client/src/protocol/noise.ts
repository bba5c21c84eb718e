/**
 * Noise_XXpsk3_25519_ChaChaPoly_SHA256 (noiseprotocol.org, revision 34), both sides.
 *
 * Mirrors `p2p/protocol/noise.py`: one pattern, so the three messages are written out.
 */
import sodium from "libsodium-wrappers-sumo";

import { concat, hkdfExpand, hkdfExtract, utf8, type Bytes } from "./codec";
import { PeerError } from "./errors";
import type { Suite } from "./suite";

export const MAX_MESSAGE = 65535; // specification section 3
export const KEY = 32;
export const TAG = 16;
const NOTHING: Bytes = new Uint8Array(0);

/** X25519. Throws `PeerError` for a public key of low order. */
export function dh(private_: Bytes, public_: Bytes): Bytes {
  try {
    return sodium.crypto_scalarmult(private_, public_);
  } catch {
    throw new PeerError("public_key_low_order"); // an all-zero result (RFC 7748 6.1)
  }
}

/** The X25519 public key of a private one (32 bytes each). */
export function publicKey(private_: Bytes): Bytes {
  return sodium.crypto_scalarmult_base(private_);
}

/** ChaCha20-Poly1305 with a counter nonce: no message can be replayed, dropped or reordered. */
export class CipherState {
  private counter = 0n;
  constructor(private readonly key: Bytes) {}

  private nonce(): Bytes {
    const nonce = new Uint8Array(12);
    new DataView(nonce.buffer).setBigUint64(4, this.counter++, true);
    return nonce;
  }

  /** Seal the next message. */
  encrypt(plaintext: Bytes, associated: Bytes = NOTHING): Bytes {
    return sodium.crypto_aead_chacha20poly1305_ietf_encrypt(
      plaintext,
      associated,
      null,
      this.nonce(),
      this.key,
    );
  }

  /** Open the next message. Throws `PeerError`; the state is then of no more use. */
  decrypt(ciphertext: Bytes, associated: Bytes = NOTHING): Bytes {
    try {
      return sodium.crypto_aead_chacha20poly1305_ietf_decrypt(
        null,
        ciphertext,
        associated,
        this.nonce(),
        this.key,
      );
    } catch {
      throw new PeerError("message_not_authentic");
    }
  }
}

/** The chaining key and the handshake hash (specification section 5.2). */
export class SymmetricState {
  h: Bytes;
  chainingKey: Bytes;
  private cipher!: CipherState; // with a psk there is a key from the first `e` on

  constructor(
    private readonly suite: Suite,
    prologue: Bytes,
  ) {
    this.h = this.chainingKey = suite.hash(utf8(suite.noise)); // above 32 bytes, so hashed (5.2)
    this.mixHash(prologue);
  }

  mixHash(data: Bytes): void {
    this.h = this.suite.hash(this.h, data);
  }

  mixKey(material: Bytes): void {
    const output = hkdfExpand(hkdfExtract(this.chainingKey, material), NOTHING, 64);
    this.chainingKey = output.slice(0, 32);
    this.cipher = new CipherState(output.slice(32));
  }

  mixKeyAndHash(material: Bytes): void {
    const output = hkdfExpand(hkdfExtract(this.chainingKey, material), NOTHING, 96);
    this.chainingKey = output.slice(0, 32);
    this.cipher = new CipherState(output.slice(64));
    this.mixHash(output.slice(32, 64));
  }

  encryptAndHash(plaintext: Bytes): Bytes {
    const ciphertext = this.cipher.encrypt(plaintext, this.h);
    this.mixHash(ciphertext);
    return ciphertext;
  }

  decryptAndHash(ciphertext: Bytes): Bytes {
    const plaintext = this.cipher.decrypt(ciphertext, this.h);
    this.mixHash(ciphertext);
    return plaintext;
  }

  /** The transport ciphers: initiator to responder, and back. */
  split(): [CipherState, CipherState] {
    const output = hkdfExpand(hkdfExtract(this.chainingKey, NOTHING), NOTHING, 64);
    return [new CipherState(output.slice(0, 32)), new CipherState(output.slice(32))];
  }
}

/** What initiator and responder share. Private keys are arguments: this module draws nothing. */
abstract class Party {
  readonly state: SymmetricState;
  remoteStatic = NOTHING;
  remoteEphemeral = NOTHING;

  constructor(
    suite: Suite,
    prologue: Bytes,
    protected readonly static_: Bytes,
    protected readonly ephemeral: Bytes,
  ) {
    this.state = new SymmetricState(suite, prologue);
  }

  protected mixEphemeral(public_: Bytes): void {
    this.state.mixHash(public_);
    this.state.mixKey(public_); // with a psk in the pattern (section 9.2)
  }

  protected mixDh(private_: Bytes, public_: Bytes): void {
    this.state.mixKey(dh(private_, public_));
  }
}

/** A message in parts of these lengths, and the rest. Throws `PeerError`. */
function cut(message: Bytes, ...lengths: number[]): Bytes[] {
  const least = lengths.reduce((sum, length) => sum + length, 0);
  if (message.length < least || message.length > MAX_MESSAGE) {
    throw new PeerError("handshake_message_length");
  }
  let at = 0;
  const parts = lengths.map((length) => message.slice(at, (at += length)));
  return [...parts, message.slice(at)];
}

/** The guest's side. Call `write1`, `read2`, `begin3`, `finish3`, in this order, once each. */
export class Initiator extends Party {
  write1(payload: Bytes): Bytes {
    const public_ = publicKey(this.ephemeral);
    this.mixEphemeral(public_);
    return concat(public_, this.state.encryptAndHash(payload));
  }

  /** The payload, and the handshake hash as it was before the payload. Throws `PeerError`. */
  read2(message: Bytes): [Bytes, Bytes] {
    const [public_, static_, payload] = cut(message, KEY, KEY + TAG);
    this.remoteEphemeral = public_!;
    this.mixEphemeral(this.remoteEphemeral);
    this.mixDh(this.ephemeral, this.remoteEphemeral);
    this.remoteStatic = this.state.decryptAndHash(static_!);
    this.mixDh(this.ephemeral, this.remoteStatic);
    const h = this.state.h;
    return [this.state.decryptAndHash(payload!), h];
  }

  /** The head of message 3, and the handshake hash its payload is signed over. */
  begin3(psk: Bytes): [Bytes, Bytes] {
    const head = this.state.encryptAndHash(publicKey(this.static_));
    this.mixDh(this.static_, this.remoteEphemeral);
    this.state.mixKeyAndHash(psk);
    return [head, this.state.h];
  }

  finish3(head: Bytes, payload: Bytes): Bytes {
    return concat(head, this.state.encryptAndHash(payload));
  }
}

/** The host's side. Call `read1`, `begin2`, `finish2`, `read3`, in this order, once each. */
export class Responder extends Party {
  /** The payload. Throws `PeerError`. */
  read1(message: Bytes): Bytes {
    const [public_, payload] = cut(message, KEY);
    this.remoteEphemeral = public_!;
    this.mixEphemeral(this.remoteEphemeral);
    return this.state.decryptAndHash(payload!);
  }

  /** The head of message 2, and the handshake hash its payload is signed over. */
  begin2(): [Bytes, Bytes] {
    const public_ = publicKey(this.ephemeral);
    this.mixEphemeral(public_);
    this.mixDh(this.ephemeral, this.remoteEphemeral);
    const head = concat(public_, this.state.encryptAndHash(publicKey(this.static_)));
    this.mixDh(this.static_, this.remoteEphemeral);
    return [head, this.state.h];
  }

  finish2(head: Bytes, payload: Bytes): Bytes {
    return concat(head, this.state.encryptAndHash(payload));
  }

  /** The payload, and the handshake hash as it was before the payload. Throws `PeerError`. */
  read3(message: Bytes, psk: Bytes): [Bytes, Bytes] {
    const [static_, payload] = cut(message, KEY + TAG);
    this.remoteStatic = this.state.decryptAndHash(static_!);
    this.mixDh(this.ephemeral, this.remoteStatic);
    this.state.mixKeyAndHash(psk);
    const h = this.state.h;
    return [this.state.decryptAndHash(payload!), h];
  }
}
