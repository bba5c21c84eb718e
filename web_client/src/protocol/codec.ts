/**
 * What everything else is made of: strict JSON, base64url, length-prefixed bytes, HKDF.
 *
 * Mirrors `p2p/protocol/codec.py`; the rules stand in PROTOCOL.md (Words and notation) and both run the same vectors.
 * `sodium.ready` must have been awaited before anything of `protocol/` is called.
 */
import sodium from "libsodium-wrappers-sumo";

import { PeerError } from "./errors";

export const MAX_INTEGER = Number.MAX_SAFE_INTEGER; // what every JSON implementation holds exactly
export const MAX_DEPTH = 6; // our deepest document, the receipt, has 4

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
export type JsonObject = { [name: string]: Json };
export type Bytes = Uint8Array;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** UTF-8 of a text. */
export const utf8 = (text: string): Bytes => encoder.encode(text);

/** Text of UTF-8; throws `TypeError` when it is not. */
export const fromUtf8 = (data: Bytes): string => decoder.decode(data);

/** Compact JSON with sorted member names, UTF-8. */
export const encodeJson = (value: Json): Bytes => utf8(jsonText(value));

/** The same as text. */
export const jsonText = (value: Json): string => JSON.stringify(sorted(value));

function sorted(value: Json): Json {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(
    Object.keys(value)
      .sort()
      .map((name) => [name, sorted(value[name]!)]),
  );
}

class Malformed extends Error {}

/** A recursive-descent reader of strict JSON: `JSON.parse` lets duplicates and floats pass. */
class Parser {
  private at = 0;
  constructor(private readonly text: string) {}

  document(): Json {
    const value = this.value(0);
    this.space();
    if (this.at !== this.text.length) throw new Malformed();
    return value;
  }

  private space(): void {
    while (" \t\n\r".includes(this.text[this.at] ?? "x")) this.at++;
  }

  private take(token: string): boolean {
    this.space();
    if (!this.text.startsWith(token, this.at)) return false;
    this.at += token.length;
    return true;
  }

  private value(depth: number): Json {
    this.space();
    const next = this.text[this.at];
    if (next === '"') return this.string();
    if (next === "{" || next === "[") {
      if (depth === MAX_DEPTH) throw new Malformed();
      this.at++;
      return next === "{" ? this.object(depth) : this.array(depth);
    }
    for (const [token, value] of LITERALS) if (this.take(token)) return value;
    return this.integer();
  }

  private object(depth: number): JsonObject {
    const members: JsonObject = Object.create(null);
    if (this.take("}")) return members;
    do {
      this.space();
      if (this.text[this.at] !== '"') throw new Malformed();
      const name = this.string();
      if (name in members || !this.take(":")) throw new Malformed();
      members[name] = this.value(depth + 1);
    } while (this.take(","));
    if (!this.take("}")) throw new Malformed();
    return members;
  }

  private array(depth: number): Json[] {
    const items: Json[] = [];
    if (this.take("]")) return items;
    do items.push(this.value(depth + 1));
    while (this.take(","));
    if (!this.take("]")) throw new Malformed();
    return items;
  }

  private integer(): number {
    INTEGER.lastIndex = this.at;
    const digits = INTEGER.exec(this.text)?.[0];
    if (digits === undefined || digits === "-0") throw new Malformed();
    this.at += digits.length;
    const number = Number(digits);
    if (!Number.isSafeInteger(number) || /[.eE]/.test(this.text[this.at] ?? "")) {
      throw new Malformed();
    }
    return number;
  }

  private string(): string {
    STRING.lastIndex = this.at;
    const token = STRING.exec(this.text)?.[0];
    if (token === undefined) throw new Malformed();
    this.at += token.length;
    const text: string = JSON.parse(token);
    if (!text.isWellFormed()) throw new Malformed(); // a lone surrogate
    return text;
  }
}

const LITERALS: [string, Json][] = [
  ["true", true],
  ["false", false],
  ["null", null],
];
const INTEGER = /-?(?:0|[1-9][0-9]*)/y;
// eslint-disable-next-line no-control-regex
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;

/** Decode strict JSON of at most `limit` bytes. Throws `PeerError`. */
export function decodeJson(data: Bytes, limit: number): Json {
  if (data.length > limit) throw new PeerError("message_too_long");
  try {
    return new Parser(fromUtf8(data)).document();
  } catch {
    throw new PeerError("message_not_strict_json");
  }
}

/** Base64url without padding (RFC 4648 5). */
export function encodeBase64url(data: Bytes): string {
  return sodium.to_base64(data, sodium.base64_variants.URLSAFE_NO_PADDING);
}

/** Decode unpadded base64url; only the one canonical spelling is taken. Throws `Error`. */
export function decodeBase64url(text: string): Bytes {
  const data = sodium.from_base64(text, sodium.base64_variants.URLSAFE_NO_PADDING);
  if (encodeBase64url(data) !== text) throw new Malformed("not canonical base64url");
  return data;
}

/** The parts one after the other. */
export function concat(...parts: Bytes[]): Bytes {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** A u32, big-endian. */
export function u32(value: number): Bytes {
  const data = new Uint8Array(4);
  new DataView(data.buffer).setUint32(0, value);
  return data;
}

/** Each part behind its length as u32 big-endian: no two lists of parts give the same bytes. */
export function prefixed(...parts: Bytes[]): Bytes {
  return concat(...parts.flatMap((part) => [u32(part.length), part]));
}

/** SHA-256 of the parts one after the other. */
export function sha256(...parts: Bytes[]): Bytes {
  return sodium.crypto_hash_sha256(parts.length === 1 ? parts[0]! : concat(...parts));
}

/** Whether two byte strings are equal, in constant time for equal lengths. */
export function same(one: Bytes, other: Bytes): boolean {
  return one.length === other.length && sodium.memcmp(one, other);
}

/** Take all steps of some work at once. */
export function atOnce<T>(steps: Generator<void, T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
  }
}

/** Lower-case hex. */
export const hex = (data: Bytes): string => sodium.to_hex(data);

function hmac(key: Bytes, ...parts: Bytes[]): Bytes {
  // The one-shot call takes keys of 32 bytes only; HMAC (RFC 2104) knows no such limit.
  const state = sodium.crypto_auth_hmacsha256_init(key);
  for (const part of parts) sodium.crypto_auth_hmacsha256_update(state, part);
  return sodium.crypto_auth_hmacsha256_final(state);
}

/** HKDF-Extract with SHA-256 (RFC 5869 2.2). */
export function hkdfExtract(salt: Bytes, material: Bytes): Bytes {
  return hmac(salt, material);
}

/** HKDF-Expand with SHA-256 (RFC 5869 2.3); `length` is at most 255 * 32 bytes. */
export function hkdfExpand(key: Bytes, label: Bytes, length: number): Bytes {
  const output = new Uint8Array(length);
  let previous: Bytes = new Uint8Array(0);
  for (let at = 0, counter = 1; at < length; at += previous.length, counter++) {
    previous = hmac(key, previous, label, Uint8Array.of(counter));
    output.set(previous.subarray(0, length - at), at);
  }
  return output;
}

// --- readers: each takes a JSON value and returns the typed one, or throws ------------------------

export type Reader<T> = (value: Json) => T;
const OPTIONAL = Symbol("optional");
type Shape = { [name: string]: Reader<unknown> };
export type Members<S extends Shape> = { [name in keyof S]: ReturnType<S[name]> };

/** An integer from `low` to `high`. */
export function integer(low: number, high: number): Reader<number> {
  return (value) => {
    const fits = Number.isInteger(value) && low <= Number(value) && Number(value) <= high;
    if (!fits) throw new Malformed(); // not all that is read comes from strict JSON
    return value as number;
  };
}

/** A string of at most `limit` UTF-8 bytes. */
export function text(limit: number, { empty = true } = {}): Reader<string> {
  return (value) => {
    const fits = typeof value === "string" && value.isWellFormed() && (value || empty);
    if (!fits || utf8(value).length > limit) throw new Malformed();
    return value;
  };
}

/** A string that a pattern matches from end to end, of `low` to `high` characters. */
export function matching(pattern: RegExp, low: number, high: number): Reader<string> {
  return (value) => {
    const fits = typeof value === "string" && low <= value.length && value.length <= high;
    if (!fits || !pattern.test(value)) throw new Malformed();
    return value;
  };
}

const TIME =
  /^([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.[0-9]{1,9})?Z$/;
const DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/** A time of RFC 3339 in UTC, of a day that there is, with "T" and "Z" and no leap second. */
export const utcTime: Reader<string> = (value) => {
  const found = typeof value === "string" ? TIME.exec(value) : null;
  if (found === null) throw new Malformed();
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = found
    .slice(1)
    .map(Number);
  const leap = year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);
  if (!(year && 1 <= month && month <= 12 && hour <= 23 && minute <= 59 && second <= 59)) {
    throw new Malformed();
  }
  if (day < 1 || day > DAYS[month - 1]! + Number(leap && month === 2)) throw new Malformed();
  return found[0];
};

/** Base64url of exactly `length` bytes, read as bytes. */
export function base64url(length: number): Reader<Bytes> {
  return (value) => {
    const data = typeof value === "string" ? decodeBase64url(value) : new Uint8Array(0);
    if (data.length !== length) throw new Malformed();
    return data;
  };
}

/** Base64url of at most `limit` bytes, read as bytes. */
export function base64urlUpto(limit: number): Reader<Bytes> {
  return (value) => {
    if (typeof value !== "string" || value.length > (limit * 4) / 3 + 2) throw new Malformed();
    const data = decodeBase64url(value);
    if (data.length > limit) throw new Malformed();
    return data;
  };
}

/** true or false. */
export const boolean: Reader<boolean> = (value) => {
  if (typeof value !== "boolean") throw new Malformed();
  return value;
};

/** One of a few strings. */
export function oneOf<const T extends string>(...choices: T[]): Reader<T> {
  return (value) => {
    if (typeof value !== "string" || !choices.includes(value as T)) throw new Malformed();
    return value as T;
  };
}

/** A list of `least` to `limit` items. */
export function listOf<T>(item: Reader<T>, limit: number, { least = 0 } = {}): Reader<T[]> {
  return (value) => {
    const fits = Array.isArray(value) && least <= value.length && value.length <= limit;
    if (!fits) throw new Malformed();
    return value.map(item);
  };
}

/** A list of exactly these items. */
export function tupleOf<T extends unknown[]>(...readers: { [i in keyof T]: Reader<T[i]> }) {
  return ((value) => {
    if (!Array.isArray(value) || value.length !== readers.length) throw new Malformed();
    return readers.map((reader, i) => reader(value[i]!));
  }) as Reader<T>;
}

/** The member may be missing; it then reads as null. */
export function optional<T>(reader: Reader<T>): Reader<T | null> {
  const read: Reader<T | null> = (value) => (value === null ? null : reader(value));
  return Object.assign(read, { [OPTIONAL]: true });
}

/** An object with exactly these members, whose names it tells; unknown ones are refused. */
export function members<S extends Shape>(
  shape: S,
): Reader<Members<S>> & { readonly members: readonly string[] } {
  const read: Reader<Members<S>> = (value) => {
    if (value === null || typeof value !== "object" || Array.isArray(value)) throw new Malformed();
    if (!Object.keys(value).every((name) => Object.hasOwn(shape, name))) throw new Malformed();
    const result: { [name: string]: unknown } = {};
    for (const [name, reader] of Object.entries(shape)) {
      const member = Object.hasOwn(value, name) ? value[name]! : undefined;
      if (member === null || (member === undefined && !(OPTIONAL in reader))) throw new Malformed();
      result[name] = member === undefined ? null : reader(member);
    }
    return result as Members<S>;
  };
  return Object.assign(read, { members: Object.keys(shape) });
}

/** Apply a reader at the edge; the failure names `what`, never the value. Throws `PeerError`. */
export function readAs<T>(reader: Reader<T>, value: Json, what: string): T {
  try {
    return reader(value);
  } catch {
    throw new PeerError("malformed", what);
  }
}
