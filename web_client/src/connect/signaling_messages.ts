/**
 * The messages between a peer and the signaling server (mirrors `signaling/messages.py`).
 *
 * JSON objects with a `type`, one per WebSocket text frame; binary values are unpadded base64url. A
 * peer ignores members it does not know (PROTOCOL.md, The signaling server).
 */
import { decodeBase64url, encodeBase64url, type Bytes } from "../protocol/codec";

export const PATH = "/signal";
export const SUBPROTOCOL = "handover.signal.1";
export const MAX_FRAME = 16 * 1024; // characters of one WebSocket message
export const MAX_BODY = 9 * 1024; // bytes of a sealed envelope, before base64url
export const MAX_TTL = 24 * 3600;
const [ROOM, JOIN, JOIN_HASH, OWNER, ATTEMPT] = [16, 32, 32, 32, 16]; // bytes

/** How an attempt ended, as a guest says by the code that it closes its connection with. */
export const OUTCOMES = {
  direct: 4000,
  tls: 4001,
  relayed: 4002,
  https: 4003,
  no_connection: 4010,
  connection_lost_early: 4011,
  passphrase_wrong: 4012,
  cancelled: 4013,
  failed: 4014,
} as const;
export type Outcome = keyof typeof OUTCOMES;

const MAX_TOKEN = 8192; // characters that allow a host to create rooms: a JWT with many groups fits
const MAX_TEXT = 256; // of a path where one gets them, and of a reason

/**
 * Member -> length of the bytes, null for a body, [least, most] of an integer, "text", "object" for one that
 * may be missing and that the peer reads itself, or "token" and "optional" for texts that may be missing.
 */
type Shape = {
  readonly [member: string]:
    number | null | readonly [number, number] | "text" | "object" | "token" | "optional";
};
type Shapes = { readonly [type: string]: Shape };

export const FROM_PEER: Shapes = {
  create: { room: ROOM, join_hash: JOIN_HASH, owner: OWNER, ttl: [1, MAX_TTL], token: "token" },
  join: { room: ROOM, join: JOIN },
  envelope: { attempt: ATTEMPT, body: null },
  leave: { attempt: ATTEMPT },
  close: {},
  stay: { room: ROOM, join: JOIN },
};
export const FROM_SERVER: Shapes = {
  created: { policy: "object" },
  joined: { attempt: ATTEMPT, ice: "object", policy: "object" },
  attempt: { attempt: ATTEMPT, ice: "object" },
  envelope: { attempt: ATTEMPT, body: null },
  left: { attempt: ATTEMPT },
  error: { code: "text", sign_in: "optional", reason: "optional" },
};

export type Message = { type: string; [member: string]: string | number | Bytes | object | null };

/** A message that is not of the form. */
export class BadMessage extends Error {}

function member(value: unknown, shape: Shape[string]): string | number | Bytes | object | null {
  if (shape === "object") {
    if (value === undefined || value === null) return null;
    if (typeof value !== "object" || Array.isArray(value)) throw new BadMessage();
    return value;
  }
  if (shape === "token" || shape === "optional") {
    if (value === undefined || value === null) return null;
    const most = shape === "token" ? MAX_TOKEN : MAX_TEXT;
    const fits = typeof value === "string" && value.length > 0 && value.length <= most;
    if (!fits || /\p{Surrogate}/u.test(value)) throw new BadMessage();
    return value;
  }
  if (shape === "text") {
    if (typeof value !== "string" || value.length > 32) throw new BadMessage();
    return value;
  }
  if (Array.isArray(shape)) {
    const fits = Number.isInteger(value) && shape[0] <= Number(value) && Number(value) <= shape[1];
    if (!fits) throw new BadMessage();
    return value as number;
  }
  if (typeof value !== "string" || value.length > MAX_FRAME) throw new BadMessage();
  let data: Bytes;
  try {
    data = decodeBase64url(value);
  } catch {
    throw new BadMessage();
  }
  const fits = shape === null ? 0 < data.length && data.length <= MAX_BODY : data.length === shape;
  if (!fits) throw new BadMessage();
  return data;
}

/** One message as text. */
export function encode(
  type: string,
  members: { [member: string]: Bytes | number | string } = {},
): string {
  const values = Object.entries(members).map(([name, value]) => [
    name,
    value instanceof Uint8Array ? encodeBase64url(value) : value,
  ]);
  return JSON.stringify({ type, ...Object.fromEntries(values) });
}

/** Read a message from the other side; bytes come out as bytes. Throws `BadMessage`. */
export function decode(text: unknown, shapes: Shapes): Message {
  if (typeof text !== "string" || text.length > MAX_FRAME) throw new BadMessage();
  let value: { [member: string]: unknown } | null;
  try {
    value = JSON.parse(text);
  } catch {
    throw new BadMessage();
  }
  const type = value && typeof value === "object" ? value["type"] : null;
  if (typeof type !== "string" || !Object.hasOwn(shapes, type)) throw new BadMessage();
  const shape = shapes[type]!;
  const extra = Object.keys(value!).some((name) => name !== "type" && !Object.hasOwn(shape, name));
  if (shapes === FROM_PEER && extra) throw new BadMessage();
  const message: Message = { type };
  for (const [name, one] of Object.entries(shape)) {
    const there = Object.hasOwn(value!, name);
    const optional = one === "object" || one === "token" || one === "optional";
    if (!there && !optional) throw new BadMessage();
    message[name] = member(there ? value![name] : null, one);
  }
  return message;
}
