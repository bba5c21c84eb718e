/** Sealed signaling: typed, bounded fields inside padded envelopes (mirrors `p2p/protocol/signal.py`). */
import sodium from "libsodium-wrappers-sumo";

import {
  base64url,
  base64urlUpto,
  boolean,
  concat,
  decodeJson,
  encodeBase64url,
  encodeJson,
  integer,
  listOf,
  matching,
  members,
  oneOf,
  optional,
  prefixed,
  readAs,
  text,
  u32,
  utf8,
  type Bytes,
} from "./codec";
import { PeerError } from "./errors";

const LABEL = utf8("handover/1 signal");
export const NONCE = 16;
const PADDING = 1024; // steps that hide how many candidates there are
export const MAX_PLAINTEXT = 8 * PADDING;
const SEAL_NONCE = 24;
const TAG = 16;
export const MAX_ENVELOPE = SEAL_NONCE + MAX_PLAINTEXT + TAG;
export const MAX_ENVELOPES = 64; // in one attempt and direction
export const MAX_CANDIDATES = 32; // per peer and connection; libjuice keeps 30
// That a peer tells of a relayed connection, one in an envelope, so that those of both fit.
export const MAX_RELAYED_CANDIDATES = 24;
// RFC 8841 6.1: 64 KiB is what an unannounced peer takes; above 256 KiB libdatachannel cuts.
export const [MIN_MESSAGE_SIZE, MAX_MESSAGE_SIZE] = [65_535, 262_144];

const ICE_CHARS = /^[A-Za-z0-9+/]+$/; // RFC 8839 5.4
const MDNS = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.local$/;

/** Which way an envelope goes. */
export type Direction = "to_guest" | "to_host";

/** An ICE candidate (RFC 8445), UDP and component 1 only. */
export interface Candidate {
  readonly foundation: string;
  readonly priority: number;
  readonly address: string; // an IP literal, or `<uuid>.local` of a browser's mDNS
  readonly port: number;
  readonly kind: "host" | "srflx" | "relay";
}

/** First message, guest to host. */
export interface Knock {
  readonly type: "knock";
  readonly nonceGuest: Bytes;
  readonly kind: "native" | "browser";
  readonly relayOnly: boolean; // the guest keeps its address from the host
}

/** One side's transport description: what SDP would say of it (RFC 8829), as typed fields. */
export interface Description {
  readonly type: "description";
  readonly nonceGuest: Bytes;
  readonly nonceHost: Bytes;
  readonly ufrag: string;
  readonly password: string;
  readonly fingerprint: Bytes; // sha-256 of the DTLS certificate (RFC 8122)
  readonly setup: "actpass" | "active" | "passive"; // RFC 8842
  readonly maxMessageSize: number;
  readonly candidates: readonly Candidate[];
  readonly relayed: boolean; // of the relayed connection of an attempt, not of the direct one
}

/** Candidates found after the description was sent (RFC 8838). */
export interface Candidates {
  readonly type: "candidates";
  readonly candidates: readonly Candidate[];
  readonly relayed: boolean;
}

/** Where one side listens for TLS connections; a page makes none (PROTOCOL.md, The connection; Several lanes). */
export interface DirectEndpoint {
  readonly type: "direct";
  readonly addresses: readonly string[];
  readonly port: number;
  readonly certificate: Bytes;
  readonly outer: { readonly address: string; readonly port: number } | null; // RFC 6544, S-O
}

/** By what tokens a page opens the lanes of a connection by HTTPS, at its own origin. */
export interface HttpsEndpoint {
  readonly type: "https";
  readonly nonceGuest: Bytes;
  readonly nonceHost: Bytes;
  readonly control: Bytes; // 32 bytes each
  readonly data: Bytes;
}

export type Signal = Knock | Description | Candidates | DirectEndpoint | HttpsEndpoint;

const IPV4 = /^(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(\.(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)){3}$/;

/** The 8 groups of an IPv6 literal, or null. No zone is taken. */
function ipv6(address: string): number[] | null {
  if (!/^[0-9a-fA-F:.]+$/.test(address)) return null;
  const tail = /^(.*:)([0-9.]+\.[0-9.]+)$/.exec(address);
  if (tail) {
    if (!IPV4.test(tail[2]!)) return null;
    const [a, b, c, d] = tail[2]!.split(".").map(Number) as [number, number, number, number];
    address = `${tail[1]}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  }
  const halves = address.split("::");
  if (halves.length > 2) return null;
  const groups = halves.map((half) => (half === "" ? [] : half.split(":")));
  const count = groups.reduce((sum, half) => sum + half.length, 0);
  if (halves.length === 1 ? count !== 8 : count > 7) return null;
  if (!groups.flat().every((group) => /^[0-9a-fA-F]{1,4}$/.test(group))) return null;
  const zeros = Array<string>(8 - count).fill("0");
  return [...groups[0]!, ...zeros, ...(groups[1] ?? [])].map((group) => parseInt(group, 16));
}

/** Whether an engine may see it: no loopback, multicast, low port, no DNS name. */
export function isEligible({ address, port }: Candidate): boolean {
  return port >= 1024 && (MDNS.test(address) || isOneHost(address));
}

/**
 * Whether an address is an IP literal that is nothing on this machine alone, and one host's. Two
 * computers on one cable have link-local addresses alone, where clouds answer for credentials, too.
 */
export function isOneHost(address: string): boolean {
  if (IPV4.test(address)) {
    const a = Number(address.split(".")[0]);
    const special = ["0.0.0.0", "255.255.255.255", "169.254.169.254"].includes(address);
    const multicast = a >= 224 && a < 240;
    return !(a === 127 || multicast || special);
  }
  const groups = ipv6(address);
  if (groups === null) return false;
  const allZero = (upto: number) => groups.slice(0, upto).every((group) => group === 0);
  const loopbackOrUnspecified = allZero(7) && groups[7]! <= 1;
  const mapped = allZero(5) && groups[5] === 0xffff;
  const multicast = groups[0]! >= 0xff00;
  const linkLocal = (groups[0]! & 0xffc0) === 0xfe80;
  return !(loopbackOrUnspecified || mapped || multicast || linkLocal);
}

/** Whether an address is this very machine's own. */
export function isLoopback(address: string): boolean {
  if (IPV4.test(address)) return address.startsWith("127.");
  return ipv6(address)?.every((group, at) => group === (at === 7 ? 1 : 0)) ?? false;
}

const candidate = members({
  foundation: matching(ICE_CHARS, 1, 32),
  priority: integer(1, 2 ** 31 - 1),
  address: text(64, { empty: false }),
  port: integer(0, 65535),
  kind: oneOf("host", "srflx", "relay"),
});
const candidates = listOf(candidate, MAX_CANDIDATES);
const knock = members({
  type: text(16),
  nonce_guest: base64url(NONCE),
  kind: oneOf("native", "browser"),
  relay_only: boolean,
});
const description = members({
  type: text(16),
  nonce_guest: base64url(NONCE),
  nonce_host: base64url(NONCE),
  ufrag: matching(ICE_CHARS, 4, 256),
  password: matching(ICE_CHARS, 22, 256),
  fingerprint: base64url(32),
  setup: oneOf("actpass", "active", "passive"),
  max_message_size: integer(1, 2 ** 32 - 1),
  candidates,
  relayed: boolean,
});
const laterCandidates = members({ type: text(16), candidates, relayed: boolean });
export const directShape = members({
  type: text(16),
  addresses: listOf(text(45, { empty: false }), 16),
  port: integer(1024, 65535),
  certificate: base64urlUpto(2048),
  outer: optional(members({ address: text(45, { empty: false }), port: integer(1024, 65535) })),
});
const httpsEndpoint = members({
  type: text(16),
  nonce_guest: base64url(NONCE),
  nonce_host: base64url(NONCE),
  control: base64url(32),
  data: base64url(32),
});

/** The JSON of a signal, unsealed and unpadded. */
export function encodeSignal(signal: Signal): Bytes {
  const found =
    "candidates" in signal ? { candidates: signal.candidates.map((c) => ({ ...c })) } : {};
  switch (signal.type) {
    case "knock":
      return encodeJson({
        type: "knock",
        nonce_guest: encodeBase64url(signal.nonceGuest),
        kind: signal.kind,
        relay_only: signal.relayOnly,
      });
    case "description":
      return encodeJson({
        type: "description",
        nonce_guest: encodeBase64url(signal.nonceGuest),
        nonce_host: encodeBase64url(signal.nonceHost),
        ufrag: signal.ufrag,
        password: signal.password,
        fingerprint: encodeBase64url(signal.fingerprint),
        setup: signal.setup,
        max_message_size: signal.maxMessageSize,
        relayed: signal.relayed,
        ...found,
      });
    case "candidates":
      return encodeJson({ type: "candidates", relayed: signal.relayed, ...found });
    case "direct": {
      const { addresses, port, outer } = signal;
      const certificate = encodeBase64url(signal.certificate);
      const told = { type: "direct", addresses: [...addresses], port, certificate };
      return encodeJson(outer ? { ...told, outer: { ...outer } } : told);
    }
    case "https":
      return encodeJson({
        type: "https",
        nonce_guest: encodeBase64url(signal.nonceGuest),
        nonce_host: encodeBase64url(signal.nonceHost),
        control: encodeBase64url(signal.control),
        data: encodeBase64url(signal.data),
      });
  }
}

/** Read a signal; candidates that no engine may see are dropped, sizes clamped. Throws `PeerError`. */
export function decodeSignal(data: Bytes): Signal {
  const value = decodeJson(data, MAX_PLAINTEXT);
  const isObject = value !== null && typeof value === "object" && !Array.isArray(value);
  switch (isObject ? value["type"] : null) {
    case "knock": {
      const fields = readAs(knock, value, "knock");
      const { nonce_guest: nonceGuest, kind, relay_only: relayOnly } = fields;
      return { type: "knock", nonceGuest, kind, relayOnly };
    }
    case "description": {
      const fields = readAs(description, value, "description");
      const size = Math.max(fields.max_message_size, MIN_MESSAGE_SIZE);
      return {
        type: "description",
        nonceGuest: fields.nonce_guest,
        nonceHost: fields.nonce_host,
        ufrag: fields.ufrag,
        password: fields.password,
        fingerprint: fields.fingerprint,
        setup: fields.setup,
        maxMessageSize: Math.min(size, MAX_MESSAGE_SIZE),
        candidates: fields.candidates.filter(isEligible),
        relayed: fields.relayed,
      };
    }
    case "candidates": {
      const { candidates, relayed } = readAs(laterCandidates, value, "candidates");
      return { type: "candidates", candidates: candidates.filter(isEligible), relayed };
    }
    case "direct": {
      const { addresses, port, certificate, outer } = readAs(directShape, value, "direct");
      return { type: "direct", addresses, port, certificate, outer };
    }
    case "https": {
      const fields = readAs(httpsEndpoint, value, "https");
      const { nonce_guest: nonceGuest, nonce_host: nonceHost, control, data } = fields;
      return { type: "https", nonceGuest, nonceHost, control, data };
    }
    default:
      throw new PeerError("signal_unknown");
  }
}

/** One direction of one attempt. Each side holds two: one that seals and one that opens. */
export class Sealer {
  private readonly head: Bytes;
  private sequence = 0;

  constructor(
    private readonly key: Bytes,
    room: Bytes,
    attempt: Bytes,
    direction: Direction,
  ) {
    const octet = Uint8Array.of(direction === "to_guest" ? 0 : 1);
    this.head = concat(prefixed(LABEL, room, attempt), octet);
  }

  private associated(): Bytes {
    if (this.sequence >= MAX_ENVELOPES) throw new PeerError("too_many_envelopes");
    return concat(this.head, u32(this.sequence++));
  }

  /** The next envelope; `nonce` is 24 fresh random bytes. */
  seal(signal: Signal, nonce: Bytes): Bytes {
    const data = encodeSignal(signal);
    const padded = new Uint8Array(Math.ceil((2 + data.length) / PADDING) * PADDING);
    new DataView(padded.buffer).setUint16(0, data.length);
    padded.set(data, 2);
    const associated = this.associated();
    return concat(
      nonce,
      sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(padded, associated, null, nonce, this.key),
    );
  }

  /** Open the next envelope. Throws `PeerError`; the attempt is then over. */
  open(envelope: Bytes): Signal {
    if (envelope.length < SEAL_NONCE + TAG + PADDING || envelope.length > MAX_ENVELOPE) {
      throw new PeerError("envelope_length");
    }
    const associated = this.associated();
    let padded: Bytes;
    try {
      padded = sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(
        null,
        envelope.slice(SEAL_NONCE),
        associated,
        envelope.slice(0, SEAL_NONCE),
        this.key,
      );
    } catch {
      throw new PeerError("envelope_not_authentic");
    }
    const length = (padded[0]! << 8) | padded[1]!;
    if (length > padded.length - 2 || padded.subarray(2 + length).some((octet) => octet !== 0)) {
      throw new PeerError("envelope_padding");
    }
    return decodeSignal(padded.subarray(2, 2 + length));
  }
}

/** The description with further candidates, never above the cap. Throws `PeerError`. */
export function merge(description: Description, more: readonly Candidate[]): Description {
  const all = [...description.candidates, ...more];
  if (all.length > MAX_CANDIDATES) throw new PeerError("too_many_candidates");
  return { ...description, candidates: all };
}
