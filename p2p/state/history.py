"""What the audit log and the receipts tell: entry by entry, and transfer by transfer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

from ..protocol.audit import BadLine
from ..protocol.codec import MAX_INTEGER, decode_base64url
from ..protocol.errors import Failure
from ..protocol.labels import shown_label
from ..protocol.receipt import ROLES, Receipt, thumbprint
from .audit import AuditLog
from .home import Home

MAX_TEXT = 256  # characters of a member that is shown
MAX_STEPS = 1000  # of one transfer that are told
TRANSFER_ID = 16
IDENTITY = "identity_made"
EXPORTED = "exported"  # something of the log, or of a receipt


@dataclass(frozen=True)
class Entry:
    """An entry of the log: its line, counted from 1, and its members, whoever wrote them."""

    number: int
    head: str  # hex SHA-256 of its line
    members: dict[str, Any]

    def text(self, name: str) -> str:
        """A member that is text, as far as it is fit to be shown; "" for any other."""
        value = self.members.get(name)
        return shown_label(value, MAX_TEXT) if isinstance(value, str) else ""

    def count(self, name: str) -> int | None:
        """A member that counts something; None for any other."""
        value = self.members.get(name)
        return value if type(value) is int and 0 <= value <= MAX_INTEGER else None

    @property
    def time(self) -> str:
        """RFC 3339, by this machine's clock."""
        return self.text("time")

    @property
    def event(self) -> str:
        """What happened, a key of the catalogue under `audit_event`, or of a later version."""
        return self.text("event")

    @property
    def transfer(self) -> str:
        """The transfer it is about, hex, or ""."""
        try:
            found = decode_base64url(self.text("transfer_id"))
        except ValueError:
            return ""
        return found.hex() if len(found) == TRANSFER_ID else ""


@dataclass(frozen=True)
class Filter:
    """Which entries are wanted; what is "" does not matter. Times are RFC 3339 in UTC."""

    since: str = ""  # from then on
    until: str = ""  # before then
    peer: str = ""  # a key ID
    ending: str = ""
    transfer: str = ""  # the beginning of an ID, hex

    def takes(self, entry: Entry) -> bool:
        """Whether this entry is one of them."""
        return (
            self.since <= entry.time
            and (not self.until or entry.time < self.until)
            and self.peer in ("", entry.text("peer"))
            and self.ending in ("", entry.text("ending"))
            and entry.transfer.startswith(self.transfer)
        )


def entries(audit: AuditLog, wanted: Filter | None = None) -> Iterator[Entry]:
    """The entries of a log, the oldest first, each once the chain is known to hold up to it. Raises
    `audit.BadLine`, `Failure`."""
    for line in audit.walk():
        if line.fields is not None:
            entry = Entry(line.number, line.head, line.fields)
            if wanted is None or wanted.takes(entry):
                yield entry


@dataclass
class Account:
    """A transfer, by what the log says of it, and its receipt where there is one."""

    transfer: str  # its ID, hex; "" of an attempt that never came to know it
    role: str  # of this machine
    began: str
    ended: str = ""  # "" where the log does not tell of an end
    ending: str = ""
    code: str = ""
    own: str = ""  # key ID of this machine then, as far as the log tells
    peer: str = ""  # key ID of the last peer that was proven
    known: str = ""  # how it was known when it came: new, contact, changed
    digits: str = ""  # what a person said of them: same, differ
    entries: int | None = None
    size: int | None = None  # bytes
    purpose: str = ""  # a key of `PURPOSES`, or ""
    manifest: str = ""  # SHA-256, base64url, or ""
    moved: bool = False  # whether files may have moved
    steps: list[tuple[str, str]] = field(default_factory=list)  # (time, event)
    receipt: Receipt | None = None

    def hear(self, entry: Entry) -> None:
        """One more entry about it."""
        if len(self.steps) < MAX_STEPS:
            self.steps.append((entry.time, entry.event))
        peer = entry.text("peer") or self.peer
        if peer != self.peer:  # what was compared with somebody else says nothing of this one
            self.peer, self.known, self.digits = peer, "", ""
        for name, value in (("entries", entry.count("entries")), ("size", entry.count("bytes"))):
            if value is not None:
                setattr(self, name, value)
        self.purpose = entry.text("purpose") or self.purpose
        self.manifest = entry.text("manifest_sha256") or self.manifest
        match entry.event:
            case "authenticated":
                self.known = entry.text("known")
            case "digits_same" | "digits_differ":
                self.digits = entry.event.removeprefix("digits_")
            case "admitted" | "accepted" | "resumed":
                self.moved = self.moved or entry.event != "admitted"
            case "transfer":
                self.ended, self.ending = entry.time, entry.text("ending")
                self.code = entry.text("code")
            case "erased":
                self.ended, self.ending, self.code = entry.time, "erased", ""


class Accounts:
    """Transfers, by the entries of a whole log, heard one after the other."""

    def __init__(self, own: str = "") -> None:
        """`own`: the key ID of this machine, until the log tells of another."""
        self.own = own
        self._found: dict[
            tuple[str, str], tuple[Account, str]
        ] = {}  # and the time of its last entry
        self._early: dict[
            str, list[Entry]
        ] = {}  # by run, of before it was known which transfer it is

    def hear(self, entry: Entry) -> Account | None:
        """The transfer that one more entry is about; None where it is about none, or it is not yet
        known about which."""
        self.own = entry.text("key_id") if entry.event == IDENTITY else self.own
        run, role = entry.text("run"), entry.text("role")
        if not entry.transfer:
            if run and len(self._early.setdefault(run, [])) < MAX_STEPS:
                self._early[run].append(entry)
            return None
        if entry.event == EXPORTED:  # long after, and by whoever has its receipt
            for one in ROLES:
                if (entry.transfer, one) in self._found:
                    self._found[entry.transfer, one][0].hear(entry)
            return None
        return self._told((entry.transfer, role), [*self._early.pop(run, ()), entry])

    def _told(self, key: tuple[str, str], entries: list[Entry]) -> Account:
        """Those of a transfer and a role; the transfer may be named by its run."""
        account = Account(*key, entries[0].time, own=self.own)
        account = self._found[key][0] if key in self._found else account
        for entry in entries:
            account.hear(entry)
        self._found[key] = account, entries[-1].time
        return account

    def all(self) -> list[tuple[Account, str]]:
        """Each with the time of its last entry, also those that never came to know their ID."""
        for run, entries in self._early.items():
            account = self._told(("", run), entries)
            account.transfer, account.role, account.own = "", entries[0].text("role"), ""
        self._early = {}
        return list(self._found.values())


def accounts(
    home: Home,
    since: str = "",
    until: str = "",
    *,
    broken: bool = False,
    unreadable: bool = False,
) -> list[Account]:
    """The transfers whose last entry lies in this time, the oldest first; of a log that is `broken`
    as far as it holds. `unreadable`: a receipt that cannot be read counts as none. Raises
    `audit.BadLine`, `Failure`."""
    heard = Accounts(own_id(home))
    for entry in _holding(home.audit) if broken else entries(home.audit):
        heard.hear(entry)
    wanted = [
        account for account, last in heard.all() if since <= last and (not until or last < until)
    ]
    for account in wanted:
        with suppress(Failure) if unreadable else nullcontext():
            add_receipt(account, home)
    return sorted(wanted, key=lambda one: one.began)


def own_id(home: Home) -> str:
    """The key ID of this machine now, or "" where it has no key yet. Raises `Failure`."""
    identity = home.identity.existing()
    return thumbprint(identity.public) if identity else ""


def add_receipt(account: Account, home: Home) -> None:
    """Let a transfer have its receipt, where this machine keeps one. Raises `Failure`."""
    if account.transfer:
        account.receipt = home.receipts.read(bytes.fromhex(account.transfer))


def _holding(audit: AuditLog) -> Iterator[Entry]:
    with suppress(BadLine):
        yield from entries(audit)
