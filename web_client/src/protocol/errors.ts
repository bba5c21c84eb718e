/**
 * Every way a transfer can end, and the two axes of errors (mirrors `p2p/protocol/errors.py`).
 *
 * The sentences that people read stand in `messages.ts`, in every language, under the same codes.
 */
export type Ending =
  | "complete"
  | "incomplete"
  | "delivered_unconfirmed"
  | "partial"
  | "declined"
  | "expired"
  | "aborted"
  | "failed";

/** Code of a failure -> the ending it leads to (PROTOCOL.md 18). */
export const FAILURES = {
  link_invalid: "failed",
  link_unsupported: "failed",
  server_unreachable: "failed",
  server_refused: "failed",
  not_found: "failed",
  busy: "failed",
  expired: "expired",
  no_connection: "failed",
  engine_missing: "failed",
  sender_unproven: "failed",
  recipient_unproven: "failed",
  passphrase_wrong: "failed",
  disarmed: "failed",
  not_for_you: "failed",
  claimed: "failed",
  contact_changed: "failed",
  contact_unknown: "failed",
  digits_rejected: "aborted",
  version_unsupported: "failed",
  declined: "declined",
  cancelled: "aborted",
  peer_cancelled: "aborted",
  needs_answer: "failed",
  nothing_to_send: "failed",
  not_readable: "failed",
  same_name: "failed",
  name_collision: "failed",
  name_refused: "failed",
  too_many_entries: "failed",
  no_space: "failed",
  not_writable: "failed",
  home_unwritable: "failed",
  disk_error: "partial",
  disk_paused: "partial",
  source_changed: "failed",
  transfer_unknown: "failed",
  transfer_running: "failed",
  offer_changed: "failed",
  journal_foreign: "failed",
  parts_missing: "failed",
  journal_damaged: "failed",
  incomplete: "incomplete",
  connection_lost: "partial",
  connection_lost_early: "failed",
  unconfirmed: "delivered_unconfirmed",
  receipt_unconfirmed: "complete",
  protocol: "failed",
  internal: "failed",
  peer_failed: "failed",
} as const satisfies { [code: string]: Ending };

export type Code = keyof typeof FAILURES;

/** Both axes. `detail` is already safe to show and names no secret and no file. */
export class HandoverError extends Error {
  constructor(
    readonly code: Code,
    readonly detail = "",
  ) {
    super(`${code}${detail && ": "}${detail}`);
  }

  /** The ending this failure leads to. */
  get ending(): Ending {
    return FAILURES[this.code];
  }
}

/** This side cannot go on, for a reason a person can act on. */
export class Failure extends HandoverError {}

/** The other side sent something the protocol does not allow (`code` is mostly `protocol`). */
export class PeerError extends HandoverError {
  constructor(detail: string, code: Code = "protocol") {
    super(code, detail);
  }
}
