"""Every way a transfer can end and every failure a person can meet, each with its sentence.

Two axes (after h11): `PeerError` says the other side broke the protocol, `Failure` says that this
transfer cannot go on for a reason a person can act on. Both carry a `code` from `FAILURES`, which
is what travels in an `abort` message and what `--json` prints; nobody else writes such sentences.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


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


class Kind(NamedTuple):
    """A failure's ending, the sentence a person reads (`{detail}` is filled in, escaped), and what
    may follow."""

    ending: Ending
    sentence: str
    next: Next = Next.RESUME


_F = Ending.FAILED

FAILURES: dict[str, Kind] = {
    # --- the link and the meeting ---------------------------------------------------------
    "link_invalid": Kind(
        _F, "This is not a Handover link ({detail}). Copy the whole link and try again."
    ),
    "link_unsupported": Kind(
        _F, "This link was made by a newer version of Handover. Update, then try again."
    ),
    "server_unreachable": Kind(
        _F,
        "The signaling server cannot be reached ({detail}). Check the network and the address.",
        Next.RETRY,
    ),
    "server_refused": Kind(
        _F, "The signaling server refused ({detail}). Try again in a minute.", Next.RETRY
    ),
    "address_invalid": Kind(
        _F, "{detail} is not a server's address. Write it like https://HOST or https://HOST:PORT."
    ),
    "certificate_untrusted": Kind(
        _F,
        "The server's certificate is not trusted here ({detail}). If it comes from a local "
        "certificate authority, get that one's certificate from whoever runs it and say --ca FILE.",
    ),
    "no_web_client": Kind(
        _F,
        "This installation holds no web client to compare with. Install Handover from its wheel, "
        "or build it with python3 run.py setup.",
    ),
    "certificate_unusable": Kind(
        _F,
        "The TLS certificate or its key cannot be used ({detail}). "
        "Give PEM files that belong together.",
    ),
    "local_ca_unusable": Kind(
        _F,
        "The local certificate authority in {detail} is damaged or has expired. Remove that folder "
        "to make a new one, which then has to be installed again.",
    ),
    "local_ca_uncovered": Kind(
        _F,
        "The local certificate authority was not made for {detail}. Remove its folder "
        "(handover local-ca show) to make a new one, which then has to be installed again.",
    ),
    "host_invalid": Kind(
        _F, "{detail} is not a host name. Write a name like pacs.example.org, or an address."
    ),
    "not_found": Kind(
        _F,
        "Nobody is waiting behind this link: it is finished, expired or mistyped. "
        "Ask the sender for a new one.",
        Next.RETRY,
    ),
    "busy": Kind(
        _F,
        "Someone else is using this link right now. Ask the sender, then try again in a minute.",
        Next.RETRY,
    ),
    "expired": Kind(
        Ending.EXPIRED, "The link has expired. Start again to get a new one.", Next.NOTHING
    ),
    "no_connection": Kind(
        _F,
        "The two computers found no network path to each other. The usual causes: the other side "
        "closed the program, a firewall blocks UDP (and, between two command lines, TCP), or the "
        "two networks are kept apart.",
        Next.RETRY,
    ),
    "engine_missing": Kind(_F, "The WebRTC engine cannot be loaded: {detail}."),
    # --- who is who -----------------------------------------------------------------------
    "sender_unproven": Kind(
        _F,
        "The other side is not the sender this link was made by. Nothing was revealed. "
        "Tell the sender, and ask for a new link by another way.",
    ),
    "recipient_unproven": Kind(
        _F, "Someone opened the link who does not know its whole secret. Nothing was revealed."
    ),
    "passphrase_wrong": Kind(
        _F, "The passphrase is wrong. Nothing was revealed. Ask the sender for it and try again."
    ),
    "disarmed": Kind(
        _F,
        "WARNING: three attempts to open this link failed, so it was disabled. Someone may have "
        "part of the link or be guessing the passphrase. Send again to get a new link.",
    ),
    "not_for_you": Kind(_F, "This transfer is meant for another identity. Ask the sender."),
    "claimed": Kind(_F, "This link is already in use by another recipient. Ask the sender."),
    "contact_changed": Kind(
        _F,
        "WARNING: {detail} is a known contact, but this is a different key: a new computer or "
        "browser of theirs, or someone else. Call them and compare the check digits before you go "
        "on. If they have a new key, remove the old one with `handover contacts remove`.",
    ),
    "contact_unknown": Kind(
        _F, "There is no contact named {detail}. `handover contacts list` shows the known ones."
    ),
    "digits_rejected": Kind(
        Ending.ABORTED,
        "WARNING: the check digits were said to differ. Someone may be in between. "
        "Nothing was transferred. Use another network or another way to pass on the link.",
        Next.NOTHING,
    ),
    "version_unsupported": Kind(
        _F, "The two versions of Handover do not understand each other. Update the older one."
    ),
    # --- decisions ------------------------------------------------------------------------
    "declined": Kind(
        Ending.DECLINED, "The transfer was declined. Nothing was transferred.", Next.NOTHING
    ),
    "cancelled": Kind(Ending.ABORTED, "The transfer was stopped on this side.", Next.NOTHING),
    "peer_cancelled": Kind(Ending.ABORTED, "The other side stopped the transfer.", Next.NOTHING),
    "needs_answer": Kind(
        _F,
        "A question would have to be asked ({detail}) and nobody can answer it here. "
        "Run it in a terminal, or say --auto.",
    ),
    # --- the files ------------------------------------------------------------------------
    "nothing_to_send": Kind(_F, "There is nothing to send: {detail}."),
    "not_readable": Kind(_F, "{detail} cannot be read."),
    "same_name": Kind(
        _F, "Two of the things to send have the same name, {detail}. Rename one or send one folder."
    ),
    "name_collision": Kind(
        _F, "These names would fall together on another computer: {detail}. Rename one."
    ),
    "name_refused": Kind(_F, "This name cannot be sent: {detail}. Rename it and try again."),
    "too_many_entries": Kind(
        _F, "There are more than 200,000 files, or their list is over 64 MiB. Send them in parts."
    ),
    "no_space": Kind(
        _F,
        "There is not enough room at the destination ({detail}). Make room, or choose another.",
        Next.NOTHING,
    ),
    "not_writable": Kind(_F, "The destination cannot be written to ({detail})."),
    "home_unwritable": Kind(
        _F,
        "The folder for identity, receipts and audit log cannot be written to ({detail}).",
        Next.WAIT,
    ),
    "disk_error": Kind(Ending.PARTIAL, "The disk at the destination failed ({detail})."),
    "disk_paused": Kind(
        Ending.PARTIAL,
        "The disk cannot take more ({detail}). Make room or mend it; the transfer then goes on.",
        Next.WAIT,
    ),
    "source_changed": Kind(
        _F,
        "{detail} is not what it was when the transfer began, so it cannot go on. Send again.",
    ),
    # --- taking up again ------------------------------------------------------------------
    "transfer_unknown": Kind(
        _F, "No unfinished transfer has the id {detail}. `handover transfers` shows them."
    ),
    "transfer_running": Kind(
        _F, "The transfer {detail} is under way in another process here. Stop that one first."
    ),
    "offer_changed": Kind(
        _F,
        "The sender offers something else under this link than what was begun here. To begin anew: "
        "handover transfers discard {detail}, then receive again.",
    ),
    "journal_foreign": Kind(
        _F,
        "This transfer was begun with another identity than this machine has now, so it cannot go "
        "on. Send again.",
    ),
    "parts_missing": Kind(
        _F,
        "What had arrived is not there any more: {detail}. Connect that disk again, or begin anew "
        "after handover transfers discard.",
    ),
    "journal_damaged": Kind(
        _F,
        "What was noted of the transfer is damaged. Remove it with handover transfers discard "
        "{detail} and begin anew.",
    ),
    "incomplete": Kind(
        Ending.INCOMPLETE,
        "The transfer is finished, but {detail} did not arrive. The receipt says so.",
        Next.NOTHING,
    ),
    # --- on the way -----------------------------------------------------------------------
    "connection_lost": Kind(
        Ending.PARTIAL,
        "The connection to the other side was lost. What had arrived is kept, and never under its "
        "final name. `handover resume` takes it up again.",
        Next.WAIT,
    ),
    "connection_lost_early": Kind(
        _F,
        "The connection to the other side was lost before any file was sent. Try again.",
        Next.RETRY,
    ),
    "unconfirmed": Kind(
        Ending.DELIVERED_UNCONFIRMED,
        "All files arrived and were verified, but the sender's signature on the receipt did not "
        "come. The receipt is kept with one signature.",
    ),
    "receipt_unconfirmed": Kind(
        Ending.COMPLETE,
        "The receipt is signed by both; the recipient's last word did not come.",
        Next.NOTHING,
    ),
    "protocol": Kind(
        _F,
        "The other side broke the protocol ({detail}). Nothing was damaged. "
        "If both versions are current, report this.",
        Next.NOTHING,
    ),
    "internal": Kind(_F, "Handover itself failed ({detail}). Please report this."),
}

# What a peer's `abort` may name; any other code from the wire reads as `peer_failed`.
FAILURES["peer_failed"] = Kind(_F, "The other side could not go on ({detail}).")


class HandoverError(Exception):
    """Base of both axes. `code` is a key of `FAILURES`; `detail` is already safe to show."""

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

    @property
    def sentence(self) -> str:
        """What a person reads: what happened and what to do next."""
        return FAILURES[self.code].sentence.replace("{detail}", self.detail)

    def __str__(self) -> str:
        return self.sentence


class Failure(HandoverError):
    """This side cannot go on, for a reason a person can act on."""


class PeerError(HandoverError):
    """The other side sent something the protocol does not allow (`code` is mostly `protocol`)."""

    def __init__(self, detail: str, code: str = "protocol") -> None:
        super().__init__(code, detail)
