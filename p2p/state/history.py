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


Key = tuple[str, str]  # of an account: transfer and role, or "" and the run


class Accounts:
    """Transfers, by the entries of a whole log, heard one after the other."""

    def __init__(self, own: str = "") -> None:
        """`own`: the key ID of this machine, until the log tells of another."""
        self.own = own
        self._found: dict[Key, Account] = {}
        self._early: dict[
            str, list[Entry]
        ] = {}  # by run, of before it was known which transfer it is

    def hear(self, entry: Entry) -> Account | None:
        """The transfer that one more entry is about; None where it is about none, or it is not yet
        known about which."""
        self.own = entry.text("key_id") if entry.event == IDENTITY else self.own
        run, transfer = entry.text("run"), entry.transfer
        if not transfer:
            if run and len(self._early.setdefault(run, [])) < MAX_STEPS:
                self._early[run].append(entry)
            return None
        if entry.event == EXPORTED:  # long after, and by whoever has its receipt
            for role in ROLES:
                if (transfer, role) in self._found:
                    self._found[transfer, role].hear(entry)
            return None
        key = transfer, entry.text("role")
        account = self._found.get(key)
        if account is None:
            began = self._early[run][0] if run in self._early else entry
            account = self._found[key] = Account(*key, began.time, own=self.own)
        for one in (*self._early.pop(run, ()), entry):
            account.hear(one)
        return account

    def end(self, key: Key) -> Account | None:
        """Give up a transfer of which nothing more is to be heard."""
        if key[0]:
            return self._found.pop(key, None)
        entries = self._early.pop(key[1], None)
        if not entries:
            return None
        account = Account("", entries[0].text("role"), entries[0].time)
        for entry in entries:
            account.hear(entry)
        return account


class Transfers:
    """The transfers whose last entry lies in some time, in the order of those entries: counted at
    once, and told one by one, as often as wanted, each with all that is known of it, and held no
    longer. What is noted meanwhile is not in them."""

    def __init__(
        self, home: Home, since: str, until: str, *, broken: bool, unreadable: bool
    ) -> None:
        self._home, self._broken, self._unreadable = home, broken, unreadable
        last: dict[Key, tuple[int, str]] = {}  # line, and the time that counts
        runs: dict[str, tuple[int, str]] = {}  # of which it is not known which transfer they are
        for entry in self._entries():
            run, transfer, at = entry.text("run"), entry.transfer, (entry.number, entry.time)
            if transfer and entry.event == EXPORTED:
                for key in ((transfer, role) for role in ROLES):
                    if key in last:
                        last[key] = entry.number, last[key][1]
            elif transfer:
                last[transfer, entry.text("role")] = at
                runs.pop(run, None)
            elif run:
                runs[run] = at
        self._ends: dict[int, list[tuple[Key, bool]]] = {}  # by line; and whether it is wanted
        self._count = 0
        for key, (line, time) in (*last.items(), *((("", run), at) for run, at in runs.items())):
            wanted = since <= time and (not until or time < until)
            self._ends.setdefault(line, []).append((key, wanted))
            self._count += wanted

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Account]:
        """Raises `audit.BadLine`, `Failure`."""
        heard, end = Accounts(own_id(self._home)), max(self._ends, default=0)
        for entry in self._entries():
            if entry.number > end:
                return
            heard.hear(entry)
            for key, wanted in self._ends.get(entry.number, ()):
                account = heard.end(key)
                if account is not None and wanted:
                    with suppress(Failure) if self._unreadable else nullcontext():
                        add_receipt(account, self._home)
                    yield account

    def _entries(self) -> Iterator[Entry]:
        return _holding(self._home.audit) if self._broken else entries(self._home.audit)


def accounts(
    home: Home,
    since: str = "",
    until: str = "",
    *,
    broken: bool = False,
    unreadable: bool = False,
) -> Transfers:
    """The transfers whose last entry lies in this time; of a log that is `broken` as far as it
    holds. `unreadable`: a receipt that cannot be read counts as none. Raises `audit.BadLine`,
    `Failure`."""
    return Transfers(home, since, until, broken=broken, unreadable=unreadable)


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
