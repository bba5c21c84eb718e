/**
 * The messages on the control channel and the signed bodies in them, each declared once.
 *
 * A message is JSON with a `type`; a signed one carries the exact bytes of its body, and the signature
 * over the body behind its label (PROTOCOL.md, Control messages).
 */
import {
  MAX_INTEGER,
  base64url,
  encodeBase64url,
  encodeJson,
  integer,
  listOf,
  members,
  oneOf,
  text,
  tupleOf,
  utcTime,
  utf8,
  type Bytes,
  type Json,
} from "../codec";
import { MAX_ENTRIES, MAX_MANIFEST } from "../manifest";
import { MAX_MESSAGE, TAG } from "../noise";
import { MAX_RECEIPT } from "../receipt";
import { MAX_PLAINTEXT, directShape } from "../signal";

export const LABEL_OFFER = utf8("handover/1 offer");
export const LABEL_ACCEPT = utf8("handover/1 accept");
export const LABEL_CLOSING = utf8("handover/1 closing");
export const MAX_LANES = 32; // at once
export const MAX_LANE_NUMBER = 65_535; // a number is used once

/**
 * What holds a transfer up, as the side sees it that says so: its disk, its limit, the network, or the
 * other side; "": nothing for long.
 */
export const BOTTLENECKS = ["", "disk", "limit", "network", "other_side"] as const;
export type Bottleneck = (typeof BOTTLENECKS)[number];

export const BATCH = 256; // entries in one `withdraw` or `failed`
export const MAX_BODY = 4096;
export const MAX_CONTROL = MAX_MESSAGE - TAG;

const type = text(32);
const body = text(MAX_BODY, { empty: false });
const offset = integer(0, MAX_INTEGER);
const entry = integer(0, MAX_ENTRIES - 1);
const status = integer(0, 255);
const laneNumber = integer(0, MAX_LANE_NUMBER);
const signed = { type, body, signature: base64url(64) };

export const MESSAGES = {
  confirmed: members({ type }),
  offer: members(signed),
  accept: members(signed),
  decline: members({ type }),
  ack: members({
    type,
    stream: integer(0, 2),
    written: offset,
    limit: offset,
    durable: offset,
    verified: offset,
    lanes: listOf(tupleOf<[number, number]>(laneNumber, offset), MAX_LANES),
  }),
  withdraw: members({
    type,
    entries: listOf(tupleOf<[number, number, number]>(entry, status, offset), BATCH, { least: 1 }),
  }),
  failed: members({
    type,
    entries: listOf(tupleOf<[number, number]>(entry, status), BATCH, { least: 1 }),
  }),
  closing: members(signed),
  receipt: members({
    type,
    payload: text(MAX_RECEIPT, { empty: false }),
    signature: base64url(64),
  }),
  countersignature: members({ type, signature: base64url(64) }),
  done: members({ type }),
  direct: directShape,
  https: members({ type, token: base64url(32) }),
  lane: members({ type, lane: integer(1, MAX_LANE_NUMBER), signal: text(MAX_PLAINTEXT) }),
  ping: members({ type, bottleneck: oneOf(...BOTTLENECKS) }),
  abort: members({ type, code: text(32) }),
};
export type MessageType = keyof typeof MESSAGES;
export type Message<T extends MessageType> = ReturnType<(typeof MESSAGES)[T]>;

const id = base64url(32);

/** The signed documents by name. */
export const BODIES = {
  offer: members({
    type: oneOf("offer"),
    transfer_id: base64url(16),
    transcript: id,
    sender: id,
    recipient: id,
    manifest_sha256: id,
    manifest_bytes: integer(1, MAX_MANIFEST),
    entries: integer(1, MAX_ENTRIES),
    bytes: offset,
    time: utcTime,
  }),
  accept: members({
    type: oneOf("accept"),
    transfer_id: base64url(16),
    transcript: id,
    offer_sha256: id,
    offset,
    time: utcTime,
  }),
  closing: members({
    type: oneOf("closing"),
    transfer_id: base64url(16),
    manifest_sha256: id,
    digests_sha256: id,
    audit_head: text(64),
    time: utcTime,
  }),
};
export type Body<T extends keyof typeof BODIES> = ReturnType<(typeof BODIES)[T]>;

/** Members of a message or a body; bytes are written as base64url. */
export type Fields = { readonly [name: string]: Json | Bytes };

export function encodeBody(fields: Fields): Bytes {
  const plain = Object.entries(fields).map(([name, value]): [string, Json] => [
    name,
    value instanceof Uint8Array ? encodeBase64url(value) : value,
  ]);
  return encodeJson(Object.fromEntries(plain));
}
