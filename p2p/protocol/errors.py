"""Every way a transfer can end and every failure a person can meet, and what each means.

Two axes (after h11): `PeerError` says the other side broke the protocol, `Failure` says that this
transfer cannot go on for a reason a person can act on. Both carry a `code` from `FAILURES`, which
is what travels in an `abort` message and what `--json` prints; its sentence stands in `sentences`.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from .sentences import Language, text


class Ending(enum.Enum):
    """How a transfer ended (PROTOCOL.md, Endings)."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    DELIVERED_UNCONFIRMED = "delivered_unconfirmed"
    PARTIAL = "partial"
    DECLINED = "declined"
    EXPIRED = "expired"
    ABORTED = "aborted"
    FAILED = "failed"


EXIT_CODES: dict[Ending, int] = {
    Ending.COMPLETE: 0,
    Ending.FAILED: 1,
    # 2 is the command line's own: wrong usage, or a question nobody can answer.
    Ending.INCOMPLETE: 3,
    Ending.DELIVERED_UNCONFIRMED: 4,
    Ending.PARTIAL: 5,
    Ending.DECLINED: 6,
    Ending.EXPIRED: 7,
    Ending.ABORTED: 8,
}
EXIT_USAGE = 2


class Next(enum.IntEnum):
    """What may follow a failure, once files were under way. Each includes those before it."""

    NOTHING = 0  # it is over, and what had arrived is erased
    RESUME = 1  # what is noted stays: a person can take it up again
    RETRY = 2  # the recipient tries again by itself: the way there may be back, or a disk
    WAIT = 3  # and the sender waits for it


class FailureKind(NamedTuple):
    """A failure's ending, what may follow, and whether it reads the same on both sides when an
    `abort` names it; any other one reads as `peer_failed` at the peer."""

    ending: Ending
    next: Next = Next.RESUME
    shared: bool = False


_F = Ending.FAILED

FAILURES: dict[str, FailureKind] = {
    # --- the link and the rendezvous
    "link_invalid": FailureKind(_F),
    "link_unsupported": FailureKind(_F),
    "server_unreachable": FailureKind(_F, Next.RETRY),
    "server_refused": FailureKind(_F, Next.RETRY),
    "cannot_listen": FailureKind(_F),
    "token_required": FailureKind(_F),
    "not_allowed": FailureKind(_F),
    "address_invalid": FailureKind(_F),
    "certificate_untrusted": FailureKind(_F),
    "no_web_client": FailureKind(_F),
    "certificate_unusable": FailureKind(_F),
    "local_ca_unusable": FailureKind(_F),
    "local_ca_uncovered": FailureKind(_F),
    "host_invalid": FailureKind(_F),
    "not_found": FailureKind(_F, Next.RETRY),
    "busy": FailureKind(_F, Next.RETRY),
    "expired": FailureKind(Ending.EXPIRED, Next.NOTHING),
    "no_connection": FailureKind(_F, Next.RETRY),
    "engine_missing": FailureKind(_F),
    # --- who is who
    "host_unproven": FailureKind(_F),
    "guest_unproven": FailureKind(_F),
    "passphrase_wrong": FailureKind(_F),
    "disarmed": FailureKind(_F),
    "not_for_you": FailureKind(_F),
    "claimed": FailureKind(_F),
    "contact_changed": FailureKind(_F),
    "contact_unknown": FailureKind(_F),
    "digits_rejected": FailureKind(Ending.ABORTED, Next.NOTHING, shared=True),
    "version_unsupported": FailureKind(_F),
    # --- decisions
    "declined": FailureKind(Ending.DECLINED, Next.NOTHING, shared=True),
    "cancelled": FailureKind(Ending.ABORTED, Next.NOTHING),
    "peer_cancelled": FailureKind(Ending.ABORTED, Next.NOTHING),
    "needs_answer": FailureKind(_F),
    "no_answer": FailureKind(_F, Next.RETRY, shared=True),
    # --- the files
    "nothing_to_send": FailureKind(_F),
    "not_readable": FailureKind(_F),
    "same_name": FailureKind(_F),
    "name_collision": FailureKind(_F),
    "name_refused": FailureKind(_F),
    "hidden_names": FailureKind(_F, Next.NOTHING),
    "too_many_entries": FailureKind(_F),
    "too_many_holes": FailureKind(_F),
    "no_space": FailureKind(_F, Next.NOTHING, shared=True),
    "not_writable": FailureKind(_F, shared=True),
    "home_unwritable": FailureKind(_F, Next.WAIT),
    "home_foreign": FailureKind(_F),
    "exposed": FailureKind(_F),
    "descriptors_short": FailureKind(_F, Next.WAIT),
    "disk_error": FailureKind(Ending.PARTIAL, shared=True),
    "disk_paused": FailureKind(Ending.PARTIAL, Next.WAIT, shared=True),
    "source_changed": FailureKind(_F),
    "source_away": FailureKind(_F, Next.WAIT),
    # --- taking up again
    "transfer_unknown": FailureKind(_F),
    "transfer_running": FailureKind(_F),
    "offer_changed": FailureKind(_F),
    "journal_foreign": FailureKind(_F),
    "parts_missing": FailureKind(_F),
    "parts_foreign": FailureKind(_F),
    "journal_damaged": FailureKind(_F),
    "incomplete": FailureKind(Ending.INCOMPLETE, Next.NOTHING),
    # --- on the way
    "connection_lost": FailureKind(Ending.PARTIAL, Next.WAIT),
    "connection_lost_early": FailureKind(_F, Next.RETRY),
    "unconfirmed": FailureKind(Ending.DELIVERED_UNCONFIRMED),
    "receipt_unconfirmed": FailureKind(Ending.COMPLETE, Next.NOTHING),
    "protocol": FailureKind(_F, Next.NOTHING),
    "internal": FailureKind(_F),
    "peer_failed": FailureKind(_F),  # what any other code in a peer's `abort` reads as
}

# What stops one side for a while reads as `disk_paused` at the other, which waits all the same.
LOCAL_PAUSES = ("home_unwritable", "descriptors_short", "source_away")

# A connection that is lost tells itself: no peer ends a transfer by one of these.
LOST_CODES = ("connection_lost", "connection_lost_early")


class HandoverError(Exception):
    """Base of both axes. `code` is a key of `FAILURES`; `detail` is already safe to show, and a
    `Detail` where it is more than a name or a number."""

    def __init__(self, code: str, detail: str = "") -> None:
        self.code = code
        self.detail = detail
        super().__init__(code, detail)

    @property
    def ending(self) -> Ending:
        """The ending this failure leads to."""
        return FAILURES[self.code].ending

    @property
    def next(self) -> Next:
        """What may follow."""
        return FAILURES[self.code].next

    def sentence_in(self, language: Language) -> str:
        """What a person reads: what happened and what to do next."""
        return text("failure", self.code, language, detail=self.detail)

    @property
    def sentence(self) -> str:
        """The same in English."""
        return self.sentence_in("en")

    def __str__(self) -> str:
        return self.sentence


class Failure(HandoverError):
    """This side cannot go on, for a reason a person can act on."""


class PeerError(HandoverError):
    """The other side sent something the protocol does not allow (`code` is mostly `protocol`)."""

    def __init__(self, violation: str, about: str = "", *, code: str = "protocol") -> None:
        """`violation` is the same in every language, for reports: `range_past_end`. `about`: of
        what, safe to show."""
        super().__init__(code, f"{violation}: {about}" if about else violation)
