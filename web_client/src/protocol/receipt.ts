/** The receipt: a JWS with two Ed25519 signatures (mirrors `p2p/protocol/receipt.py`). */
import sodium from "libsodium-wrappers-sumo";

import {
  MAX_INTEGER,
  base64url,
  base64urlUpto,
  boolean,
  decodeJson,
  encodeBase64url,
  encodeJson,
  hex,
  integer,
  listOf,
  members,
  optional,
  oneOf,
  readAs,
  same,
  sha256,
  text,
  utcTime,
  utf8,
  type Bytes,
  type Json,
  type JsonObject,
} from "./codec";
import { PeerError } from "./errors";
import { MAX_LABEL, type Identity } from "./handshake";
import { PURPOSE_CODES } from "./purposes";

export const TYPE = "handover-receipt/1";
export const MAX_RECEIPT = 16384;

/** The receipt does not hold; the message says what of it. */
export class BadReceipt extends Error {}

/** An Ed25519 public key as a JWK (RFC 8037 2). */
export function jwk(identity: Bytes): JsonObject {
  return { crv: "Ed25519", kty: "OKP", x: encodeBase64url(identity) };
}

/** RFC 7638 thumbprint of an Ed25519 public key, base64url. */
export function thumbprint(identity: Bytes): string {
  return encodeBase64url(sha256(encodeJson(jwk(identity))));
}

/** The key's fingerprint as a person reads it: 32 hex digits of its SHA-256 in groups of 4. */
export function fingerprint(identity: Bytes): string {
  return hex(sha256(identity)).slice(0, 32).match(/.{4}/g)!.join(" ");
}

const key = members({ crv: oneOf("Ed25519"), kty: oneOf("OKP"), x: base64url(32) });
const partyShape = members({
  kid: text(43),
  jwk: key,
  label: text(MAX_LABEL),
  software: text(64),
  audit_head: text(64),
});
const count = integer(0, MAX_INTEGER);
const payloadShape = members({
  type: oneOf(TYPE),
  transfer_id: base64url(16),
  purpose: optional(oneOf(...PURPOSE_CODES)),
  outcome: oneOf("complete", "incomplete"),
  sender: partyShape,
  recipient: partyShape,
  offer_sha256: base64url(32),
  manifest_sha256: base64url(32),
  closing_sha256: base64url(32),
  content: members({
    hash: oneOf("sha-256"),
    tree: oneOf("rfc9162-salted"),
    root: base64url(32),
    entries: count,
    bytes: count,
    delivered_entries: count,
    delivered_bytes: count,
    skipped: optional(count), // version 0.1 did not say
  }),
  stored: oneOf("file", "browser"),
  security: members({
    suite: text(96),
    transcript: base64url(32),
    fingerprint_sender: base64url(32),
    fingerprint_recipient: base64url(32),
    path: oneOf("direct", "https", "relayed", "tls"),
    digits_confirmed: boolean,
    passphrase: boolean,
  }),
  times: members({
    offered: utcTime,
    accepted: utcTime,
    closed: utcTime,
    verified: utcTime,
  }),
});
const headerShape = members({ alg: oneOf("Ed25519"), kid: text(43) });
const signatureShape = members({ protected: base64urlUpto(256), signature: base64url(64) });
const receiptShape = members({
  payload: base64urlUpto(MAX_RECEIPT),
  signatures: listOf(signatureShape, 2, { least: 1 }),
});

export type Payload = ReturnType<typeof payloadShape>;

/** A receipt that holds. `confirmed` is whether the sender has signed it too. */
export interface Receipt {
  readonly payload: Payload;
  readonly octets: Bytes;
  readonly sender: Bytes;
  readonly recipient: Bytes;
  readonly confirmed: boolean;
}

function protectedHeader(identity: Bytes): string {
  return encodeBase64url(encodeJson({ alg: "Ed25519", kid: thumbprint(identity) }));
}

function signingInput(identity: Bytes, payload: Bytes): Bytes {
  return utf8(`${protectedHeader(identity)}.${encodeBase64url(payload)}`); // RFC 7515 5.1
}

/** The 64-byte signature of a party over the receipt's payload. */
export function sign(identity: Identity, payload: Bytes): Promise<Bytes> {
  return identity.sign(signingInput(identity.public, payload));
}

/** Throws `BadReceipt` unless `signature` is this key's over this payload. */
export function checkSignature(identity: Bytes, payload: Bytes, signature: Bytes): void {
  let fits = false;
  try {
    const input = signingInput(identity, payload);
    fits = sodium.crypto_sign_verify_detached(signature, input, identity);
  } catch {
    // a key or signature that is none
  }
  if (!fits) throw new BadReceipt("signature_mismatch");
}

/** The receipt file: (Ed25519 public key, signature) of the recipient, then of the sender. */
export function assemble(payload: Bytes, signatures: [Bytes, Bytes][]): Bytes {
  return encodeJson({
    payload: encodeBase64url(payload),
    signatures: signatures.map(([identity, signature]) => ({
      protected: protectedHeader(identity),
      signature: encodeBase64url(signature),
    })),
  });
}

/** How a receipt names a party. */
export function party(
  identity: Bytes,
  label: string,
  software: string,
  auditHead: string,
): JsonObject {
  return { kid: thumbprint(identity), jwk: jwk(identity), label, software, audit_head: auditHead };
}

/** The payload's members, binary ones as bytes. Throws `PeerError`. */
export function readPayload(octets: Bytes): Payload {
  const fields = readAs(payloadShape, decodeJson(octets, MAX_RECEIPT), "receipt");
  for (const one of [fields.sender, fields.recipient]) {
    if (one.kid !== thumbprint(one.jwk.x)) {
      throw new PeerError("receipt_key_mismatch");
    }
  }
  return fields;
}

/**
 * Throws `BadReceipt` naming the first member in which a payload is not as `expected`. Members that
 * `expected` does not have are the recipient's own to state.
 */
export function requireSame(payload: JsonObject, expected: JsonObject, at = ""): void {
  for (const [name, value] of Object.entries(expected)) {
    const said = Object.hasOwn(payload, name) ? payload[name]! : null;
    if (isObject(value)) requireSame(isObject(said) ? said : {}, value, `${at}${name}.`);
    else if (said !== value) throw new BadReceipt(`member_differs: ${at}${name}`);
  }
}

const isObject = (value: Json): value is JsonObject =>
  value !== null && typeof value === "object" && !Array.isArray(value);

/**
 * Check a receipt file: form, keys, roles, order and signatures. Throws `BadReceipt`.
 *
 * Keys are only ever taken from the signed payload, never from a header (no `jwk`, `jku`, `x5c`).
 */
export function verify(data: Bytes): Receipt {
  let outer: ReturnType<typeof receiptShape>, payload: Payload;
  let headers: ReturnType<typeof headerShape>[];
  try {
    outer = readAs(receiptShape, decodeJson(data, 4 * MAX_RECEIPT), "receipt");
    payload = readPayload(outer.payload);
    headers = outer.signatures.map((one) =>
      readAs(headerShape, decodeJson(one.protected, 256), "receipt header"),
    );
  } catch (error) {
    throw new BadReceipt("no_receipt");
  }
  const [recipient, sender] = [payload.recipient.jwk.x, payload.sender.jwk.x];
  [recipient, sender].slice(0, headers.length).forEach((identity, i) => {
    const [header, one] = [headers[i]!, outer.signatures[i]!];
    if (header.kid !== thumbprint(identity)) {
      throw new BadReceipt("signature_order");
    }
    if (!same(one.protected, encodeJson({ ...header } as Json))) {
      throw new BadReceipt("header_form");
    }
    checkSignature(identity, outer.payload, one.signature);
  });
  return { payload, octets: outer.payload, sender, recipient, confirmed: headers.length === 2 };
}
