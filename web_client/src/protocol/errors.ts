/**
 * Every way a transfer can end, and the two axes of errors (mirrors `p2p/protocol/errors.py`).
 *
 * The sentences that people read stand under the same codes in the catalogue that the page shares with the
 * command line (`p2p/protocol/sentences/`).
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

/** What may follow a failure once files were under way. Each includes those before it. */
export const Next = {
  NOTHING: 0, // it is over, and what had arrived is erased
  RESUME: 1, // what had arrived stays, where a reload can take it up
  RETRY: 2, // the recipient tries again by itself
  WAIT: 3, // and the sender waits for it
} as const;
export type Next = (typeof Next)[keyof typeof Next];
const { NOTHING, RESUME, RETRY, WAIT } = Next;

/**
 * A failure's ending, what may follow, and whether it reads the same on both sides when an `abort` names
 * it; any other one reads as `peer_failed` at the peer.
 */
export interface FailureKind {
  readonly ending: Ending;
  readonly next: Next;
  readonly shared: boolean;
}

const leadsTo = (ending: Ending, next: Next = RESUME): FailureKind => ({
  ending,
  next,
  shared: false,
});
const shared = (kind: FailureKind): FailureKind => ({ ...kind, shared: true });

/** Code of a failure -> what it means (PROTOCOL.md, Endings and failures). */
export const FAILURES = {
  // --- the link and the meeting
  link_invalid: leadsTo("failed"),
  link_unsupported: leadsTo("failed"),
  server_unreachable: leadsTo("failed", RETRY),
  server_refused: leadsTo("failed", RETRY),
  cannot_listen: leadsTo("failed"),
  token_required: leadsTo("failed"),
  not_allowed: leadsTo("failed"),
  address_invalid: leadsTo("failed"),
  certificate_untrusted: leadsTo("failed"),
  no_web_client: leadsTo("failed"),
  certificate_unusable: leadsTo("failed"),
  local_ca_unusable: leadsTo("failed"),
  local_ca_uncovered: leadsTo("failed"),
  host_invalid: leadsTo("failed"),
  not_found: leadsTo("failed", RETRY),
  busy: leadsTo("failed", RETRY),
  expired: leadsTo("expired", NOTHING),
  no_connection: leadsTo("failed", RETRY),
  engine_missing: leadsTo("failed"),
  // --- who is who
  host_unproven: leadsTo("failed"),
  guest_unproven: leadsTo("failed"),
  passphrase_wrong: leadsTo("failed"),
  disarmed: leadsTo("failed"),
  not_for_you: leadsTo("failed"),
  claimed: leadsTo("failed"),
  contact_changed: leadsTo("failed"),
  contact_unknown: leadsTo("failed"),
  digits_rejected: shared(leadsTo("aborted", NOTHING)),
  version_unsupported: leadsTo("failed"),
  // --- decisions
  declined: shared(leadsTo("declined", NOTHING)),
  cancelled: leadsTo("aborted", NOTHING),
  peer_cancelled: leadsTo("aborted", NOTHING),
  needs_answer: leadsTo("failed"),
  no_answer: shared(leadsTo("failed", RETRY)),
  // --- the files
  nothing_to_send: leadsTo("failed"),
  not_readable: leadsTo("failed"),
  same_name: leadsTo("failed"),
  name_collision: leadsTo("failed"),
  name_refused: leadsTo("failed"),
  hidden_names: leadsTo("failed", NOTHING),
  too_many_entries: leadsTo("failed"),
  too_many_holes: leadsTo("failed"),
  no_space: shared(leadsTo("failed", NOTHING)),
  not_writable: shared(leadsTo("failed")),
  home_unwritable: leadsTo("failed", WAIT),
  home_foreign: leadsTo("failed"),
  exposed: leadsTo("failed"),
  descriptors_short: leadsTo("failed", WAIT),
  disk_error: shared(leadsTo("partial")),
  disk_paused: shared(leadsTo("partial", WAIT)),
  source_changed: leadsTo("failed"),
  source_away: leadsTo("failed", WAIT),
  // --- taking up again
  transfer_unknown: leadsTo("failed"),
  transfer_running: leadsTo("failed"),
  offer_changed: leadsTo("failed"),
  journal_foreign: leadsTo("failed"),
  parts_missing: leadsTo("failed"),
  parts_foreign: leadsTo("failed"),
  journal_damaged: leadsTo("failed"),
  incomplete: leadsTo("incomplete", NOTHING),
  // --- on the way
  connection_lost: leadsTo("partial", WAIT),
  connection_lost_early: leadsTo("failed", RETRY),
  unconfirmed: leadsTo("delivered_unconfirmed"),
  receipt_unconfirmed: leadsTo("complete", NOTHING),
  protocol: leadsTo("failed", NOTHING),
  internal: leadsTo("failed"),
  peer_failed: leadsTo("failed"), // what any other code in a peer's `abort` reads as
} as const satisfies { [code: string]: FailureKind };

export type Code = keyof typeof FAILURES;

/** A connection that is lost tells itself: no peer ends a transfer by one of these. */
export const LOST_CODES: readonly string[] = ["connection_lost", "connection_lost_early"];

/** What fills a detail in; a value may be a code of the catalogue under `detail` as well. */
export type Values = { readonly [name: string]: string };

/**
 * Both axes. `detail` is a code of the catalogue under `detail`, which `values` fill in, or already safe to
 * show.
 */
export class HandoverError extends Error {
  constructor(
    readonly code: Code,
    readonly detail = "",
    readonly values: Values = {},
  ) {
    super(`${code}${detail && ": "}${detail}`);
  }

  /** The ending this failure leads to. */
  get ending(): Ending {
    return FAILURES[this.code].ending;
  }

  /** What may follow it. */
  get next(): Next {
    return FAILURES[this.code].next;
  }
}

/** This side cannot go on, for a reason a person can act on. */
export class Failure extends HandoverError {}

/** The other side sent something the protocol does not allow (`code` is mostly `protocol`). */
export class PeerError extends HandoverError {
  /** `violation` is the same in every language, for reports: `range_past_end`. `about`: of what. */
  constructor(violation: string, about = "", code: Code = "protocol") {
    super(code, about ? `${violation}: ${about}` : violation);
  }
}
