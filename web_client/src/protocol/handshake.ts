/**
 * The handshake on the control channel, the recipient's side (mirrors `p2p/protocol/handshake.py`).
 *
 * The sender is proven first (message 2); only then does the recipient say who it is (PROTOCOL.md 7).
 */
import sodium from "libsodium-wrappers-sumo";

import {
  base64url,
  boolean,
  concat,
  decodeJson,
  encodeBase64url,
  encodeJson,
  hkdfExpand,
  hkdfExtract,
  integer,
  listOf,
  members,
  oneOf,
  prefixed,
  readAs,
  same,
  sha256,
  text,
  utf8,
  type Bytes,
  type Json,
} from "./codec";
import { Failure, PeerError } from "./errors";
import { senderCommitment } from "./link";
import { Initiator, publicKey, type CipherState, type SymmetricState } from "./noise";
import { FIRST_SUITE, SUITES, type Suite } from "./suite";

const PROTOCOL = utf8("handover/1");
const LABEL_SENDER_PROOF = utf8("handover/1 sender proof");
const LABEL_RECIPIENT_PROOF = utf8("handover/1 recipient proof");
const LABEL_COMMIT = utf8("handover/1 commit");
const LABEL_DIGITS = utf8("handover/1 digits");

export const VERSIONS = [1];
export const MAX_HANDSHAKE_MESSAGE = 8192; // before anybody is proven
export const MAX_LABEL = 128; // bytes of the name its owner chose
export const MAX_SOFTWARE = 64;
export const HANDSHAKE_SECONDS = 20; // for an attempt, from joining to message 4
export const LANES = "lanes"; // capability: this side answers further connections
export const ZSTD_FRAMES = "zstd"; // capability: this side reads compressed ranges
export const RESUME = "resume"; // capability: this side takes a transfer up again after a cut
const SIGNATURE = 64;
const FLAG_PASSPHRASE = 1;

/** A long-term Ed25519 key; `sign` may ask the platform, which keeps the private half. */
export interface Identity {
  readonly public: Bytes;
  readonly label: string;
  sign(data: Bytes): Promise<Bytes>;
}

/** What both sides of one attempt know before the handshake; it is the Noise prologue. */
export interface Attempt {
  readonly room: Bytes;
  readonly attempt: Bytes;
  readonly nonceR: Bytes;
  readonly nonceS: Bytes;
  readonly fingerprintS: Bytes;
  readonly fingerprintR: Bytes;
  readonly passphrase: boolean;
}

/** Every length-prefixed field, then one byte of flags. */
export function prologue(a: Attempt): Bytes {
  return concat(
    prefixed(PROTOCOL, a.room, a.attempt, a.nonceR, a.nonceS, a.fingerprintS, a.fingerprintR),
    Uint8Array.of(a.passphrase ? FLAG_PASSPHRASE : 0),
  );
}

/** Fresh random bytes, 32 each; `session` is the private half of x_R. */
export interface Entropy {
  readonly static_: Bytes;
  readonly ephemeral: Bytes;
  readonly nonce: Bytes;
  readonly session: Bytes;
}

/** The other side, proven. `verify`: it wants the check digits confirmed by both. */
export interface Peer {
  readonly identity: Bytes;
  readonly label: string;
  readonly software: string;
  readonly verify: boolean;
  readonly capabilities: readonly string[];
}

/** What a finished handshake leaves behind. `digits` are twelve, as 4-4-4. */
export interface Secured {
  readonly peer: Peer;
  readonly digits: string;
  readonly transcript: Bytes;
  readonly suite: Suite;
  readonly send: CipherState;
  readonly receive: CipherState;
  readonly sessionKey: Bytes;
}

const sender2 = members({
  version: integer(1, 255),
  suite: integer(1, 255),
  identity: base64url(32),
  nonce: base64url(32),
  verify: boolean,
  capabilities: listOf(text(32, { empty: false }), 32),
});
const welcome4 = members({
  type: oneOf("welcome"),
  label: text(MAX_LABEL),
  software: text(MAX_SOFTWARE),
});
const refuse4 = members({
  type: oneOf("refuse"),
  code: oneOf("claimed", "not_for_you", "contact_changed"),
});

/** What message 1 commits the recipient to: its Noise static key and the body of message 3. */
export function commitment(static_: Bytes, body: Bytes): Bytes {
  return sha256(LABEL_COMMIT, prefixed(static_, body));
}

/**
 * Twelve digits from values that were all committed to before either side could see them.
 *
 * Pairs are (recipient's, sender's). No signature goes in: its signer could grind it (RFC 6189 4.4).
 */
export function checkDigits(
  state: SymmetricState,
  attempt: Attempt,
  ephemerals: [Bytes, Bytes],
  statics: [Bytes, Bytes],
  bodies: [Bytes, Bytes],
): string {
  const material = prefixed(prologue(attempt), ...ephemerals, ...statics, ...bodies);
  const key = hkdfExtract(LABEL_DIGITS, state.chainingKey);
  const octets = hkdfExpand(key, sha256(material), 16);
  const number = octets.reduce((sum, octet) => (sum << 8n) | BigInt(octet), 0n) % 10n ** 12n;
  const digits = number.toString().padStart(12, "0");
  return `${digits.slice(0, 4)}-${digits.slice(4, 8)}-${digits.slice(8)}`;
}

/** Throws `PeerError`, which names `what`, unless `signature` is this identity's over `label || data`. */
export function checkSigned(
  label: Bytes,
  identity: Bytes,
  data: Bytes,
  signature: Bytes,
  what: string,
): void {
  let fits = false;
  try {
    fits = sodium.crypto_sign_verify_detached(signature, concat(label, data), identity);
  } catch {
    // a key that is none
  }
  if (!fits) throw new PeerError(`the signature of ${what} is wrong`);
}

function readSigned(payload: Bytes): [Bytes, Bytes] {
  const length = payload.length < 4 ? -1 : new DataView(payload.slice(0, 4).buffer).getUint32(0);
  if (payload.length !== 4 + length + SIGNATURE) {
    throw new PeerError("a handshake payload is malformed");
  }
  return [payload.slice(4, 4 + length), payload.slice(4 + length)];
}

/** What a recipient brings to the handshake. */
export interface RecipientInput {
  readonly psk: Bytes; // the link's own
  readonly stretched: Bytes; // of the passphrase; the suite mixes it in
  readonly secret: Bytes;
  readonly commitment: Bytes;
  readonly identity: Identity;
  readonly software: string;
  readonly verify: boolean;
  readonly capabilities: readonly string[];
  readonly entropy: Entropy;
}

/** Call `message1`, `receive2`, `receive4`, in this order, once each. */
export class RecipientHandshake {
  private readonly noise: Initiator;
  private readonly sessionKey: Bytes;
  private readonly body: Bytes;
  private peerFields!: ReturnType<typeof sender2>;
  private peerBody!: Bytes;
  private suite!: Suite;
  private ciphers!: [CipherState, CipherState];

  constructor(
    private readonly attempt: Attempt,
    private readonly input: RecipientInput,
  ) {
    const { entropy, identity } = input;
    const { static_, ephemeral } = entropy;
    this.noise = new Initiator(FIRST_SUITE, prologue(attempt), static_, ephemeral);
    this.sessionKey = publicKey(entropy.session);
    this.body = encodeJson({
      identity: encodeBase64url(identity.public),
      nonce: encodeBase64url(entropy.nonce),
      session_key: encodeBase64url(this.sessionKey),
      label: identity.label,
      software: input.software,
      verify: input.verify,
      capabilities: [...input.capabilities],
    });
  }

  /** The first message, with the commitment to everything message 3 will say. */
  message1(): Bytes {
    const commit = commitment(publicKey(this.input.entropy.static_), this.body);
    const suites = [...SUITES.keys()];
    const fields: Json = { versions: VERSIONS, suites, commit: encodeBase64url(commit) };
    return this.noise.write1(encodeJson(fields));
  }

  /**
   * Check the sender against the link, then message 3.
   *
   * Throws `PeerError`, or `Failure` sender_unproven: then nothing of this side was revealed.
   */
  async receive2(message: Bytes): Promise<Bytes> {
    const [payload, h] = this.noise.read2(message);
    const [body, signature] = readSigned(payload);
    const fields = readAs(sender2, decodeJson(body, MAX_HANDSHAKE_MESSAGE), "message 2");
    if (!same(senderCommitment(this.input.secret, fields.identity), this.input.commitment)) {
      throw new Failure("sender_unproven");
    }
    const proven = concat(h, sha256(body));
    checkSigned(LABEL_SENDER_PROOF, fields.identity, proven, signature, "message 2");
    const suite = SUITES.get(fields.suite);
    if (!VERSIONS.includes(fields.version) || !suite) throw new Failure("version_unsupported");
    [this.peerFields, this.peerBody, this.suite] = [fields, body, suite];
    const [head, h3] = this.noise.begin3(suite.psk(this.input.psk, this.input.stretched));
    const signed = concat(LABEL_RECIPIENT_PROOF, h3, sha256(this.body));
    const proof = concat(prefixed(this.body), await this.input.identity.sign(signed));
    const message3 = this.noise.finish3(head, proof);
    this.ciphers = this.noise.state.split();
    return message3;
  }

  /** The sender's welcome. Throws `PeerError`, or `Failure` with the reason of a refusal. */
  receive4(message: Bytes): Secured {
    const [send, receive] = this.ciphers;
    const value = decodeJson(receive.decrypt(message), MAX_HANDSHAKE_MESSAGE);
    const refused = value !== null && typeof value === "object" && !Array.isArray(value);
    if (refused && value["type"] === "refuse") {
      throw new Failure(readAs(refuse4, value, "message 4").code);
    }
    const welcome = readAs(welcome4, value, "message 4");
    const { entropy } = this.input;
    const digits = checkDigits(
      this.noise.state,
      this.attempt,
      [publicKey(entropy.ephemeral), this.noise.remoteEphemeral],
      [publicKey(entropy.static_), this.noise.remoteStatic],
      [this.body, this.peerBody],
    );
    const { identity, verify, capabilities } = this.peerFields;
    const { label, software } = welcome;
    return {
      peer: { identity, label, software, verify, capabilities },
      digits,
      transcript: this.noise.state.h,
      suite: this.suite,
      send,
      receive,
      sessionKey: this.sessionKey,
    };
  }
}
