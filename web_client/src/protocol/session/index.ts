/**
 * The session: a machine for a role, between a finished handshake and an ending (mirrors
 * `p2p/protocol/session/`).
 *
 * In go control frames, headers of ranges, answers of the disk, decisions of people and the time; out
 * come control frames (`frames`), past-tense events (`events`) and the next moment to call `tick`
 * (`deadline`). No I/O and no clock; only signing may wait, for the platform keeps the key.
 *
 * **The one invariant: after every call, send all `frames` and handle all `events` before the next.**
 *
 * What may happen in which state stands in one table per role, at the end of its class. A machine that
 * threw is of no more use, except for `abort`.
 */
export type { Event } from "./events";
export {
  INITIAL_LIMIT,
  MIN_RANGE,
  RELAYED,
  WEBRTC,
  WINDOW,
  type CongestionWindow,
  type Plan,
  type Range,
} from "./flow";
export type { Accepted, Receipted } from "./events";
export { AT_PEER, DONE_SECONDS, IDLE_SECONDS, LOST_SECONDS, SUSPECT_SECONDS } from "./machine";
export { BODIES, BOTTLENECKS, MESSAGES, type Bottleneck } from "./messages";
export { ACK_SECONDS, RECIPIENT_STATES, RecipientSession, type RecipientState } from "./recipient";
export {
  SENDER_STATES,
  STALL_SECONDS,
  SenderSession,
  type Offering,
  type SenderState,
} from "./sender";
export { OutOfTurn } from "./table";
