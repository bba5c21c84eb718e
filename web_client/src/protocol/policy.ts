/**
 * What a signaling server's operator asks of transfers (mirrors `p2p/protocol/policy.py`). It only ever
 * narrows what peers do anyway, so that a hostile server gains nothing by it.
 */
import { integer, members, oneOf, optional, readAs, text, type Json } from "./codec";

const [MIN_EXPIRES, MAX_EXPIRES] = [60, 24 * 3600]; // seconds
const MAX_OPERATOR = 64; // bytes

const told = members({
  operator: optional(text(MAX_OPERATOR, { empty: false })), // not safe to show
  max_expires: optional(integer(MIN_EXPIRES, MAX_EXPIRES)), // seconds that a link may live
  require: optional(oneOf("passphrase", "digits", "either")), // beside the link
  relay: optional(oneOf("forbidden", "required")),
});

export interface Policy {
  readonly operator: string | null;
  readonly max_expires: number | null;
  readonly require: "passphrase" | "digits" | "either" | null;
  readonly relay: "forbidden" | "required" | null;
}

/** Whether two ask for the same. */
export const isSame = (one: Policy, other: Policy): boolean =>
  one.operator === other.operator &&
  one.max_expires === other.max_expires &&
  one.require === other.require &&
  one.relay === other.relay;

export const NO_POLICY: Policy = { operator: null, max_expires: null, require: null, relay: null };

/**
 * What a signaling server says in `policy`; null asks for nothing. Throws `PeerError` for what has not the
 * shape, or asks for what this version does not know.
 */
export const readPolicy = (value: Json | null): Policy =>
  value === null ? NO_POLICY : readAs(told, value, "policy");
