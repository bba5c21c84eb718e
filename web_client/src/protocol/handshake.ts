/**
 * The handshake on the control channel, both sides (mirrors `p2p/protocol/handshake.py`).
 *
 * The host is proven first (message 2); only then does the guest say who it is (PROTOCOL.md, The handshake). Which of
 * the two sends files is another question (`ChannelBinding.hostSends`): the recipient's session key x_R
 * stands in message 3 where the guest is the recipient, and in message 4 where the host is.
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
  optional,
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
import { hostCommitment, type PskSecrets } from "./link";
import {
  Initiator,
  Responder,
  dh,
  publicKey,
  type CipherState,
  type SymmetricState,
} from "./noise";
import { FIRST_SUITE, SUITES, type Suite } from "./suite";

const PROTOCOL = utf8("handover/1");
const LABEL_HOST_PROOF = utf8("handover/1 host proof");
const LABEL_GUEST_PROOF = utf8("handover/1 guest proof");
const LABEL_COMMIT = utf8("handover/1 commit");
const LABEL_DIGITS = utf8("handover/1 digits");

export const VERSIONS = [1];
export const MAX_HANDSHAKE_MESSAGE = 8192; // before anybody is proven
export const MAX_LABEL = 128; // bytes of the name its owner chose
export const MAX_SOFTWARE = 64;
export const HANDSHAKE_SECONDS = 20; // for an attempt, from joining to message 4
export const MAX_FAILED_ATTEMPTS = 3; // then the link is disarmed
export const LANES = "lanes"; // capability: this side answers further connections, ...
export const MANY_LANES = "many-lanes"; // ... 8 or more
export const ZSTD_FRAMES = "zstd"; // capability: this side reads compressed ranges
export const RESUME = "resume"; // capability: this side takes a transfer up again after a cut
const SIGNATURE = 64;
const [FLAG_PASSPHRASE, FLAG_HOST_RECEIVES] = [0x01, 0x02];

/** A long-term Ed25519 key; `sign` may ask the platform, which keeps the private half. */
export interface Identity {
  readonly public: Bytes;
  readonly label: string;
  sign(data: Bytes): Promise<Bytes>;
}

/**
 * What both sides of one attempt know before the handshake, and the handshake is bound to (RFC 5056):
 * it is the Noise prologue.
 */
export interface ChannelBinding {
  readonly room: Bytes;
  readonly attempt: Bytes;
  readonly nonceGuest: Bytes;
  readonly nonceHost: Bytes;
  readonly fingerprintHost: Bytes;
  readonly fingerprintGuest: Bytes;
  readonly passphrase: boolean;
  readonly hostSends: boolean; // else the host is the recipient
}

/** Every length-prefixed field, then one byte of flags. */
export function prologue(binding: ChannelBinding): Bytes {
  const flags =
    (binding.passphrase ? FLAG_PASSPHRASE : 0) | (binding.hostSends ? 0 : FLAG_HOST_RECEIVES);
  return concat(
    prefixed(
      PROTOCOL,
      binding.room,
      binding.attempt,
      binding.nonceGuest,
      binding.nonceHost,
      binding.fingerprintHost,
      binding.fingerprintGuest,
    ),
    Uint8Array.of(flags),
  );
}

/** The DTLS fingerprints of sender and recipient. */
export function fingerprints(binding: ChannelBinding): { sender: Bytes; recipient: Bytes } {
  const { fingerprintHost: host, fingerprintGuest: guest, hostSends } = binding;
  return hostSends ? { sender: host, recipient: guest } : { sender: guest, recipient: host };
}

/** Fresh random bytes, 32 each; `session`, of a guest that is the recipient, is the private half of x_R. */
export interface Entropy {
  readonly static_: Bytes;
  readonly ephemeral: Bytes;
  readonly nonce: Bytes;
  readonly session?: Bytes;
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
  readonly sessionKey: Bytes; // x_R, public
}

const hello1 = members({
  versions: listOf(integer(1, 255), 16, { least: 1 }),
  suites: listOf(integer(1, 255), 16, { least: 1 }),
  commit: base64url(32),
});
const host2 = members({
  version: integer(1, 255),
  suite: integer(1, 255),
  identity: base64url(32),
  nonce: base64url(32),
  verify: boolean,
  capabilities: listOf(text(32, { empty: false }), 32),
});
const guest3 = members({
  identity: base64url(32),
  nonce: base64url(32),
  session_key: optional(base64url(32)),
  label: text(MAX_LABEL),
  software: text(MAX_SOFTWARE),
  verify: boolean,
  capabilities: listOf(text(32, { empty: false }), 32),
});
const welcome4 = members({
  type: oneOf("welcome"),
  label: text(MAX_LABEL),
  software: text(MAX_SOFTWARE),
  session_key: optional(base64url(32)),
});
const REFUSALS = ["claimed", "not_for_you", "contact_changed"] as const;
/** Why a host turns a guest away. */
export type Refusal = (typeof REFUSALS)[number];
const refuse4 = members({ type: oneOf("refuse"), code: oneOf(...REFUSALS) });

/** What message 1 commits the guest to: its Noise static key and the body of message 3. */
export function commitment(static_: Bytes, body: Bytes): Bytes {
  return sha256(LABEL_COMMIT, prefixed(static_, body));
}

/**
 * Twelve digits from values that were all committed to before either side could see them.
 *
 * Pairs are (guest's, host's). No signature goes in: its signer could grind it (RFC 6189 4.4).
 */
export function checkDigits(
  state: SymmetricState,
  binding: ChannelBinding,
  ephemerals: [Bytes, Bytes],
  statics: [Bytes, Bytes],
  bodies: [Bytes, Bytes],
): string {
  const material = prefixed(prologue(binding), ...ephemerals, ...statics, ...bodies);
  const key = hkdfExtract(LABEL_DIGITS, state.chainingKey);
  const octets = hkdfExpand(key, sha256(material), 16);
  const number = octets.reduce((sum, octet) => (sum << 8n) | BigInt(octet), 0n) % 10n ** 12n;
  const digits = number.toString().padStart(12, "0");
  return `${digits.slice(0, 4)}-${digits.slice(4, 8)}-${digits.slice(8)}`;
}

/** Whether `signature` is this identity's over `label || data`. */
export function isSigned(label: Bytes, identity: Bytes, data: Bytes, signature: Bytes): boolean {
  try {
    return sodium.crypto_sign_verify_detached(signature, concat(label, data), identity);
  } catch {
    return false; // a key that is none
  }
}

/** Throws `PeerError` unless a side has proven itself. */
function checkProof(label: Bytes, identity: Bytes, h: Bytes, body: Bytes, signature: Bytes): void {
  if (!isSigned(label, identity, concat(h, sha256(body)), signature)) {
    throw new PeerError("handshake_signature_invalid");
  }
}

function readSigned(payload: Bytes): [Bytes, Bytes] {
  const length = payload.length < 4 ? -1 : new DataView(payload.slice(0, 4).buffer).getUint32(0);
  if (payload.length !== 4 + length + SIGNATURE) {
    throw new PeerError("handshake_payload_malformed");
  }
  return [payload.slice(4, 4 + length), payload.slice(4 + length)];
}

/** x_R of the other side, where it is the recipient; null where it is not. Throws `PeerError`. */
function readSessionKey(value: Bytes | null, expected: boolean, probe: Bytes): Bytes | null {
  if ((value !== null) !== expected) {
    throw new PeerError("session_key_not_allowed");
  }
  try {
    if (value !== null) dh(probe, value); // one of low order is refused (RFC 7748 6.1)
  } catch {
    throw new PeerError("session_key_low_order");
  }
  return value;
}

/** What a guest brings to the handshake. */
export interface GuestInput {
  readonly secrets: PskSecrets;
  readonly secret: Bytes; // K of the link
  readonly commitment: Bytes; // C of the link
  readonly identity: Identity;
  readonly software: string;
  readonly verify: boolean;
  readonly capabilities: readonly string[];
  readonly entropy: Entropy;
}

/** Call `message1`, `receive2`, `receive4`, in this order, once each. */
export class GuestHandshake {
  private readonly noise: Initiator;
  private readonly sessionKey: Bytes | null; // x_R, where this side is the recipient
  private readonly body: Bytes;
  private peerFields!: ReturnType<typeof host2>;
  private peerBody!: Bytes;
  private suite!: Suite;
  private ciphers!: [CipherState, CipherState];

  constructor(
    private readonly binding: ChannelBinding,
    private readonly input: GuestInput,
  ) {
    const { entropy, identity } = input;
    const { static_, ephemeral, session } = entropy;
    this.noise = new Initiator(FIRST_SUITE, prologue(binding), static_, ephemeral);
    this.sessionKey = binding.hostSends ? publicKey(session!) : null;
    this.body = encodeJson({
      identity: encodeBase64url(identity.public),
      nonce: encodeBase64url(entropy.nonce),
      label: identity.label,
      software: input.software,
      verify: input.verify,
      capabilities: [...input.capabilities],
      ...(this.sessionKey && { session_key: encodeBase64url(this.sessionKey) }),
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
   * Check the host against the link, then message 3.
   *
   * Throws `PeerError`, or `Failure` host_unproven: then nothing of this side was revealed.
   */
  async receive2(message: Bytes): Promise<Bytes> {
    const [payload, h] = this.noise.read2(message);
    const [body, signature] = readSigned(payload);
    const fields = readAs(host2, decodeJson(body, MAX_HANDSHAKE_MESSAGE), "message 2");
    if (!same(hostCommitment(this.input.secret, fields.identity), this.input.commitment)) {
      throw new Failure("host_unproven");
    }
    checkProof(LABEL_HOST_PROOF, fields.identity, h, body, signature);
    const suite = SUITES.get(fields.suite);
    if (!VERSIONS.includes(fields.version) || !suite) throw new Failure("version_unsupported");
    [this.peerFields, this.peerBody, this.suite] = [fields, body, suite];
    const [head, h3] = this.noise.begin3(suite.psk(this.input.secrets));
    const signed = concat(LABEL_GUEST_PROOF, h3, sha256(this.body));
    const proof = concat(prefixed(this.body), await this.input.identity.sign(signed));
    const message3 = this.noise.finish3(head, proof);
    this.ciphers = this.noise.state.split();
    return message3;
  }

  /** The host's welcome. Throws `PeerError`, or `Failure` with the reason of a refusal. */
  receive4(message: Bytes): Secured {
    const [send, receive] = this.ciphers;
    const value = decodeJson(receive.decrypt(message), MAX_HANDSHAKE_MESSAGE);
    const refused = value !== null && typeof value === "object" && !Array.isArray(value);
    if (refused && value["type"] === "refuse") {
      throw new Failure(readAs(refuse4, value, "message 4").code);
    }
    const welcome = readAs(welcome4, value, "message 4");
    const { entropy } = this.input;
    const { hostSends } = this.binding;
    const theirs = readSessionKey(welcome.session_key, !hostSends, entropy.static_);
    const digits = checkDigits(
      this.noise.state,
      this.binding,
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
      sessionKey: (theirs ?? this.sessionKey)!,
    };
  }
}

/** What a host brings to the handshake. */
export interface HostInput {
  readonly secrets: PskSecrets;
  readonly identity: Identity;
  readonly software: string;
  readonly verify: boolean;
  readonly capabilities: readonly string[];
  readonly entropy: Entropy;
  readonly fill?: number; // bytes that message 2 has at least
}

/** Call `receive1`, `receive3`, then `message4` or `refuse4`, once each. */
export class HostHandshake {
  private readonly noise: Responder;
  private readonly sessionKey: Bytes | null; // x_R, where this side is the recipient
  private commit!: Bytes;
  private body!: Bytes;
  private suite!: Suite;
  private send!: CipherState;

  constructor(
    private readonly binding: ChannelBinding,
    private readonly input: HostInput,
  ) {
    const { static_, ephemeral, session } = input.entropy;
    this.noise = new Responder(FIRST_SUITE, prologue(binding), static_, ephemeral);
    this.sessionKey = binding.hostSends ? null : publicKey(session!);
  }

  /** Choose version and suite, then message 2. Throws `PeerError`, `Failure`. */
  async receive1(message: Bytes): Promise<Bytes> {
    const value = decodeJson(this.noise.read1(message), MAX_HANDSHAKE_MESSAGE);
    const fields = readAs(hello1, value, "message 1");
    const version = Math.max(...VERSIONS.filter((one) => fields.versions.includes(one)));
    const suite = Math.max(...[...SUITES.keys()].filter((one) => fields.suites.includes(one)));
    if (version < 0 || suite < 0) throw new Failure("version_unsupported");
    const { identity, entropy, verify, capabilities, fill = 0 } = this.input;
    [this.commit, this.suite] = [fields.commit, SUITES.get(suite)!];
    const body = encodeJson({
      version,
      suite,
      identity: encodeBase64url(identity.public),
      nonce: encodeBase64url(entropy.nonce),
      verify,
      capabilities: [...capabilities],
    });
    // JSON may end in spaces.
    this.body = concat(body, new Uint8Array(Math.max(0, fill - body.length)).fill(0x20));
    const [head, h] = this.noise.begin2();
    const signed = concat(LABEL_HOST_PROOF, h, sha256(this.body));
    const proof = concat(prefixed(this.body), await identity.sign(signed));
    return this.noise.finish2(head, proof);
  }

  /** The guest, proven. Throws `PeerError`; code guest_unproven counts as a guess. */
  receive3(message: Bytes): Secured {
    const { noise, binding, input } = this;
    const { entropy } = input;
    const [payload, h] = this.read3(message);
    const [body, signature] = readSigned(payload);
    if (!same(commitment(noise.remoteStatic, body), this.commit)) {
      throw new PeerError("commitment_mismatch");
    }
    const fields = readAs(guest3, decodeJson(body, MAX_HANDSHAKE_MESSAGE), "message 3");
    checkProof(LABEL_GUEST_PROOF, fields.identity, h, body, signature);
    const theirs = readSessionKey(fields.session_key, binding.hostSends, entropy.static_);
    const digits = checkDigits(
      noise.state,
      binding,
      [noise.remoteEphemeral, publicKey(entropy.ephemeral)],
      [noise.remoteStatic, publicKey(entropy.static_)],
      [body, this.body],
    );
    const [receive, send] = noise.state.split();
    this.send = send;
    const { identity, label, software, verify, capabilities } = fields;
    return {
      peer: { identity, label, software, verify, capabilities },
      digits,
      transcript: noise.state.h,
      suite: this.suite,
      send,
      receive,
      sessionKey: (theirs ?? this.sessionKey)!,
    };
  }

  private read3(message: Bytes): [Bytes, Bytes] {
    try {
      return this.noise.read3(message, this.suite.psk(this.input.secrets));
    } catch (error) {
      if (!(error instanceof PeerError)) throw error;
      throw new PeerError("", "", "guest_unproven");
    }
  }

  /** Welcome the guest; only now does it learn the host's label. */
  message4(): Bytes {
    const { identity, software } = this.input;
    const own = this.sessionKey && { session_key: encodeBase64url(this.sessionKey) };
    const welcome: Json = { type: "welcome", label: identity.label, software, ...own };
    return this.send.encrypt(encodeJson(welcome));
  }

  /** Turn it away. */
  refuse4(code: Refusal): Bytes {
    return this.send.encrypt(encodeJson({ type: "refuse", code }));
  }
}
