"""Unfinished transfers as they stand on this disk, so that both sides can die at any moment.

Each has a folder below `HANDOVER_HOME/transfers`, named by its transfer id and the role (both
sides may have one home; 0.1 named it by the id alone), readable by its owner alone and gone when
the transfer has ended: `journal.json` (a `Record`, replaced whole), `begun` (that as it was at
first, for when it is damaged), `manifest` (as it was sent), and by role

    sender     `sources`   what each entry is on this disk, one JSON line each
               `results`   what became of each entry, from the first closing on
    recipient  `marks`     running digests of what was read back, 32 bytes for every MARK of tape
               `results`   what became of each entry, from the moment they are given their names

What a side promises the other stands here before it is said: write, fsync, journal, acknowledge.
"""

from __future__ import annotations

import os
import re
import stat
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from ..protocol.codec import (
    MAX_INTEGER,
    Json,
    Reader,
    base64url,
    base64url_upto,
    boolean,
    decode_json,
    encode_base64url,
    encode_json,
    integer,
    list_of,
    members,
    one_of,
    optional,
    read_as,
    text,
    utc_time,
)
from ..protocol.errors import Failure, PeerError
from ..protocol.manifest import MAX_ENTRIES
from ..protocol.paths import shown
from ..protocol.receipt import MAX_RECEIPT
from ..protocol.seal import TRANSFER_ID
from ..protocol.session.messages import plain
from ..storage.durable import FileLock, is_private, replace_whole, uptime, write_at
from ..storage.listing import UNREAD, EntrySource, SourceFile
from ..storage.parts import remove_parts, staging_folder
from ..storage.strict import open_strictly, read_strictly
from .folder import unwritable
from .home import TRANSFERS, Home

MAX_RECORD = 256 * 1024 * 1024  # every name of 200,000 may be changed
MAX_CLOSINGS = 100
MARK_SIZE = 32
SHORT_ID = 8  # hex digits that are shown
GONE = ".gone-"  # folders that are being removed
WAITED_SECONDS = 24 * 3600.0  # no side waits longer for the other
# Before anything is erased by the clock of the day alone, which may have been set wrongly.
CLOCK_SECONDS = 7 * 24 * 3600.0
FILES = ("journal.json", "manifest", "results", "sources", "marks", "begun", "lock")
ID = 2 * TRANSFER_ID  # hex digits of a folder's name
_FOLDER = re.compile(rf"(?:{re.escape(GONE)})?[0-9a-f]{{{ID}}}(?:-(?:sender|recipient))?")
_HALF_WRITTEN = re.compile(r"\.[a-z0-9_]{8}")  # what `replace_whole` had begun
_PATH = 4096

_offset = integer(0, MAX_INTEGER)


def _path(value: Json) -> bytes:
    path: bytes = base64url_upto(_PATH)(value)
    if b"\0" in path:
        raise ValueError("no path")
    return path


def _moment(value: Json) -> str:
    moment: str = text(40, empty=False)(value)
    if datetime.fromisoformat(moment).tzinfo is None:
        raise ValueError("a time without its zone")
    return moment


def _large(value: Json) -> int:
    return int(text(24, empty=False)(value))


def _some(*names: str, **nested: Reader) -> Reader:
    """An object with some of these members: texts, true or false, and nested ones."""
    own: dict[str, Reader] = dict.fromkeys(names, _text_or_boolean)
    shape = members({name: optional(read) for name, read in (own | nested).items()})

    def read(value: Json) -> Json:
        shape(value)
        return value

    return read


def _text_or_boolean(value: Json) -> Json:
    return value if type(value) is bool else text(MAX_RECEIPT)(value)


_party = _some("audit_head", "label", "software", jwk=_some("x"))
_security = _some(
    *("suite", "path", "fingerprint_sender", "fingerprint_recipient"),
    *("transcript", "digits_confirmed", "passphrase"),
)
_said_of_receipt = _some(
    *("offer_sha256", "closing_sha256"),
    sender=_party,
    recipient=_party,
    security=_security,
    times=_some("offered", "accepted", "closed"),
)


_options = members(
    {
        "limit": optional(integer(1, MAX_INTEGER)),
        "compress": optional(boolean),
        "direct": optional(boolean),
        "direct_ports": optional(list_of(integer(0, 65535), 2, least=2)),
        "proxy": optional(text(4096)),
        "no_relay": optional(boolean),
        "relay_only": optional(boolean),
        "label": optional(text(1024)),
        "engine": optional(text(32)),
    }
)


def _begun_with(value: Json) -> Json:
    """`Options.begun_with`: only what was chosen."""
    found: dict[str, Any] = _options(value)
    return {name: one for name, one in found.items() if one is not None}


def _closing(value: Json) -> Json:
    """What `SenderSession.closed` said: members of a receipt, and which session it was."""
    found = _said_of_receipt(value)
    text(64)(_security(found.get("security")).get("transcript"))
    return found


@dataclass(frozen=True)
class Record:
    """What both roles note of a transfer. Hashes, keys and paths are bytes, times RFC 3339."""

    role: ClassVar[str] = ""  # not known any more
    shape: ClassVar[Mapping[str, Reader]] = {
        "transfer_id": base64url(TRANSFER_ID),
        "link": text(4096, empty=False),
        "identity": base64url(32),
        "peer": base64url_upto(32),
        "label": text(1024),
        "manifest_sha256": base64url(32),
        "began": utc_time,
        "total": _offset,
        "durable": _offset,
        "confirmed": boolean,
        "verify": optional(boolean),
        "options": optional(_begun_with),
        "boot": optional(text(64)),
        "uptime": optional(_offset),
    }

    transfer_id: bytes
    link: str = ""  # with its secret: whoever reads this can take part in the transfer
    identity: bytes = b""  # this side's
    peer: bytes = b""  # the other side's, once it was let in
    label: str = ""  # of the other side
    manifest_sha256: bytes = b""
    began: str = ""
    total: int = 0
    durable: int = 0  # how much of the tape the recipient has on its disk for good
    confirmed: bool = False  # both said that the check digits are the same
    verify: bool = False  # this side wants that
    options: dict[str, Any] = field(default_factory=dict)  # what it was begun with
    boot: str = ""  # when it was written: the boot of the machine ...
    uptime: int = 0  # ... and the seconds since

    @property
    def accepted(self) -> bool:
        """Whether the recipient has accepted what is offered."""
        return True


@dataclass(frozen=True)
class SenderRecord(Record):
    """What a sender needs to stand behind the same link again."""

    role: ClassVar[str] = "sender"
    shape: ClassVar[Mapping[str, Reader]] = {
        **Record.shape,
        "owner": base64url(32),
        "expires": _moment,
        "server": text(4096),
        "host": text(256),
        "port": integer(0, 65535),
        "address": text(256),
        "tls": one_of("none", "local-ca", "files"),
        "certificate": _path,
        "key": _path,
        "to": text(1024),
        "auto": optional(boolean),
        "closings": list_of(_closing, MAX_CLOSINGS),
        "reached": optional(_offset),
    }

    owner: bytes = b""  # of the room
    expires: str = ""
    server: str = ""  # the signaling server, or "" for this process's own ...
    host: str = ""  # ... on this host and port
    port: int = 0
    address: str = ""
    tls: str = "none"
    certificate: bytes = b""
    key: bytes = b""
    to: str = ""  # the contact it is for
    auto: bool = False  # whoever opens the link first is let in
    closings: list[dict[str, Any]] = field(default_factory=list)  # `SenderSession.closed`
    reached: int = 0  # how far the tape may have been handed to the recipient

    @property
    def accepted(self) -> bool:
        """As far as was noted: whoever was let in is a visitor until the first range, or the
        closing, is on its way."""
        return bool(self.peer and (self.reached or self.durable or self.closings))


@dataclass(frozen=True)
class RecipientRecord(Record):
    """What a recipient needs to go on from where its disk stands."""

    role: ClassVar[str] = "recipient"
    shape: ClassVar[Mapping[str, Reader]] = {
        **Record.shape,
        "output": _path,
        "tail": _offset,
        "tail_mark": base64url_upto(MARK_SIZE),
        "phase": one_of("receiving", "placing", "signed"),
        "gone": list_of(integer(0, MAX_ENTRIES - 1), MAX_ENTRIES),
        "renamed": list_of(list_of(text(2 * _PATH), 2, least=2), MAX_ENTRIES),
        "payload": text(MAX_RECEIPT),
        "signature": base64url_upto(64),
    }

    output: bytes = b""  # the folder it arrives in
    tail: int = 0  # how far it was read back ...
    tail_mark: bytes = b""  # ... and the running digest there
    phase: str = "receiving"
    gone: list[int] = field(default_factory=list)  # entries the sender gave up
    renamed: list[list[Any]] = field(default_factory=list)  # [name as sent, name as placed]
    payload: str = ""  # of the receipt, once it is signed here
    signature: bytes = b""


_ROLES: dict[str, type[SenderRecord] | type[RecipientRecord]] = {
    one.role: one for one in (SenderRecord, RecipientRecord)
}


def _encode(record: Record) -> bytes:
    values = {one.name: getattr(record, one.name) for one in fields(record)}
    return encode_json(plain({"role": record.role, **values}))


def _decode(data: bytes) -> Record:
    value = decode_json(data, MAX_RECORD)
    made = _ROLES.get(str(value.pop("role", ""))) if isinstance(value, dict) else None
    if made is None:
        raise PeerError("journal_role_unknown")
    found = read_as(members(made.shape), value, "journal")
    record: Record = made(**{name: one for name, one in found.items() if one is not None})
    return record


class Journal:
    """One transfer's folder, and its record."""

    def __init__(self, path: Path, record: Record, *, damaged: bool = False) -> None:
        self.path, self.record = path, record
        self.damaged = damaged  # the record is what it was at first, or holds nothing but the id
        self._lock: FileLock | None = None
        self._writing = threading.Lock()  # the last one to be written is the newest

    @property
    def short_id(self) -> str:
        """What a person types."""
        return self.record.transfer_id.hex()[:SHORT_ID]

    def hold(self) -> bool:
        """Keep other processes away until `release`; False when that cannot be had."""
        if self._lock is None:
            lock = FileLock(self.path / "lock")
            with suppress(OSError):
                if lock.try_acquire():
                    self._lock = lock
        return self._lock is not None

    @property
    def held(self) -> bool:
        """Whether other processes are kept away."""
        return self._lock is not None

    @property
    def begun(self) -> bool:
        """Whether it counts: written, and not removed."""
        return os.path.lexists(self.path / "journal.json")

    @property
    def running(self) -> bool:
        """Whether another process has it."""
        free = self.hold()
        self.release()
        return not free

    @property
    def expired(self) -> bool:
        """Whether nothing was noted for so long that the other side waits no more, and no clock
        that was set makes it only look so."""
        boot, _ = uptime()
        same_boot = bool(boot) and boot == self.record.boot
        return self.age > (WAITED_SECONDS if same_boot else CLOCK_SECONDS)

    @property
    def left(self) -> float:
        """Seconds until the other side waits no more."""
        return WAITED_SECONDS - self.age

    @property
    def age(self) -> float:
        """Seconds since it was written last: in the same boot whatever the clock of the day says,
        for that one may be set."""
        boot, seconds = uptime()
        if boot and boot == self.record.boot:
            return seconds - self.record.uptime
        return time.time() - self.written

    @property
    def written(self) -> float:
        """When it was written last, by the clock of the day as it was then."""
        with suppress(OSError):
            return (self.path / "journal.json").stat().st_mtime
        return time.time()

    def release(self) -> None:
        """Let others have it."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def write(self, **changes: Any) -> None:
        """Note the record, with these changes; from any thread. Raises `OSError`: then nothing has
        changed here either, for what is not noted may not be said."""
        with self._writing:
            boot, seconds = uptime()
            record = replace(self.record, **changes, boot=boot, uptime=seconds)
            replace_whole(self.path / "journal.json", _encode(record))
            self.record = record

    def note_verify(self) -> None:
        """Note that the check digits are to be compared, from now on. Raises `Failure`."""
        if not self.record.verify:
            try:
                self.write(verify=True)
            except OSError as error:
                raise unwritable(error) from None

    def erase(self, home: Home) -> None:
        """Remove what has arrived, where the record tells, and forget it; say so in the audit log.
        Raises `Failure` when another process has it."""
        if not self.hold():
            raise Failure("transfer_running", self.short_id)
        record = self.record
        if isinstance(record, RecipientRecord):
            # Once it is signed, what still lies there is verified, and had no other place.
            signed = record.phase == "signed" or home.receipts.path(record.transfer_id).exists()
            where = staging_folder(Path(os.fsdecode(record.output)), record.transfer_id)
            if not signed and not remove_parts(where):
                raise Failure("not_writable", shown(str(where), 256))
        self.remove()
        if self.begun:
            raise Failure("not_writable", shown(str(self.path), 256))
        members = {"transfer_id": encode_base64url(record.transfer_id), "role": record.role}
        home.audit.append("erased", members)

    def remove(self) -> None:
        """The transfer has ended: forget it."""
        gone = self.path.with_name(f"{GONE}{self.path.name}")
        _remove(gone)  # of an earlier one of that name
        with suppress(OSError):
            if _is_ours(self.path):
                self.path.rename(gone)  # all at once; `Journals.tidy` finishes it after a crash
            elif _is_folder(self.path):
                _remove_files(self.path)  # and leave what is not ours
        _remove(gone)
        self.release()

    def read(self, name: str) -> bytes:
        """One of the other files; empty when it is not there. Raises `OSError`."""
        try:
            return read_strictly(self.path / name, MAX_RECORD)
        except FileNotFoundError:
            return b""

    def store(self, name: str, data: bytes) -> None:
        """Write one of the other files. Raises `OSError`."""
        replace_whole(self.path / name, data)

    def append_mark(self, index: int, mark: bytes) -> None:
        """Note the running digest at `index` times MARK. Raises `OSError`."""
        file = open_strictly(self.path / "marks", os.O_WRONLY | os.O_CREAT)
        try:
            write_at(file, mark, index * MARK_SIZE)
            os.ftruncate(file, (index + 1) * MARK_SIZE)
            os.fsync(file)
        finally:
            os.close(file)

    def marks(self) -> list[bytes]:
        """All running digests. Raises `OSError`."""
        data = self.read("marks")
        return [data[at : at + MARK_SIZE] for at in range(0, len(data) // MARK_SIZE * 32, 32)]

    def sources(self) -> tuple[EntrySource, ...]:
        """What `store_sources` noted. Raises `PeerError` when it is damaged, and `OSError`."""
        shape = members(
            {
                "path": _path,
                "device": _large,
                "inode": _large,
                "size": _offset,
                "modified_ns": _large,
                "changed_ns": _large,
                "sparse": boolean,
            }
        )

        def one(line: bytes) -> EntrySource:
            if line == b"null":
                return None
            if line == encode_json(UNREAD):
                return "unread"
            found = read_as(shape, decode_json(line, 3 * _PATH), "source")
            return SourceFile(**{**found, "path": os.fsdecode(found["path"])})

        longest = 3 * _PATH
        with open(open_strictly(self.path / "sources"), "rb") as file:
            lines = iter(lambda: file.readline(longest + 2), b"")  # longer ones are not read whole
            found = islice((one(line.rstrip(b"\n")) for line in lines), MAX_ENTRIES + 1)
            return tuple(found)

    def store_sources(self, sources: Sequence[EntrySource]) -> None:
        """Note what each entry is on this disk. Raises `OSError`."""

        def one(source: EntrySource) -> bytes:
            if not isinstance(source, SourceFile):
                return encode_json(source)
            values = {f.name: getattr(source, f.name) for f in fields(source)}
            for name in ("device", "inode", "modified_ns", "changed_ns"):
                values[name] = str(values[name])  # beyond what is safe as a JSON number
            where = os.fsencode(os.path.abspath(source.path))
            return encode_json(plain({**values, "path": where}))

        self.store("sources", b"\n".join(map(one, sources)))


class Journals:
    """All unfinished transfers of this machine."""

    def __init__(self, home: Home) -> None:
        self._home, self._folder = home, home.path / TRANSFERS

    def path(self, record: Record) -> Path:
        """Where a transfer's folder lies."""
        return self._folder / f"{record.transfer_id.hex()}-{record.role}"

    def has(self, transfer_id: bytes) -> bool:
        """Whether a transfer is not over yet, damaged or not."""
        every = ("", *(f"-{role}" for role in _ROLES))
        folders = (self._folder / f"{transfer_id.hex()}{one}" for one in every)
        return any(os.path.lexists(one / "journal.json") for one in folders)

    def begin(self, journal: Journal, manifest: bytes) -> None:
        """Begin to note a transfer; `Journal.write` makes it count. Raises `OSError`, and `Failure`
        where another process has begun it."""
        journal.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not journal.hold():
            raise Failure("transfer_running", journal.short_id)
        journal.store("manifest", manifest)
        journal.store("begun", _encode(journal.record))

    def __iter__(self) -> Iterator[Journal]:
        """All that have begun, the oldest first."""
        found: list[Journal] = []
        for path in self._folder.glob(f"{'[0-9a-f]' * ID}*"):
            if not _FOLDER.fullmatch(path.name) or not _is_folder(path, private=False):
                continue
            one = _recall(path)
            if one.begun:  # else what was read may be half of one that is being removed
                found.append(one)
        return iter(sorted(found, key=lambda one: one.record.began))

    def tidy(self) -> None:
        """Erase what nobody will come back for, and what crashes have left; nothing of which the
        record is damaged: a person has to look at that."""
        for one in self:
            if one.expired and not one.damaged:
                with suppress(Failure):
                    one.erase(self._home)
        for path in self._folder.iterdir():
            with suppress(OSError):
                old = time.time() - path.lstat().st_mtime > CLOCK_SECONDS
                begun = os.path.lexists(path / "journal.json")
                if path.name.startswith(GONE) or (old and not begun):
                    _remove(path)

    def find(self, wanted: str) -> Journal:
        """The one whose id begins so; of both sides of one transfer the first that no process has.
        Raises `Failure` (transfer_unknown)."""
        wanted = wanted.lower()
        found = [one for one in self if wanted and one.record.transfer_id.hex().startswith(wanted)]
        if len({one.record.transfer_id for one in found}) != 1:
            raise Failure("transfer_unknown", shown(wanted))
        return next((one for one in found if not one.running), found[0])

    def of_secret(self, secret: bytes, role: str) -> Journal | None:
        """The one under this link, whichever of its addresses the link has."""
        from ..protocol.link import parse_link

        for one in self:
            with suppress(Failure):
                if one.record.role == role and parse_link(one.record.link).secret == secret:
                    return one
        return None


def _recall(path: Path) -> Journal:
    """What is noted in a folder, as far as it can be read."""
    transfer_id = bytes.fromhex(path.name[:ID])
    for name in ("journal.json", "begun"):
        with suppress(OSError, PeerError):
            record = _decode(read_strictly(path / name, MAX_RECORD))
            if record.transfer_id == transfer_id:
                return Journal(path, record, damaged=name != "journal.json")
    return Journal(path, Record(transfer_id), damaged=True)


def _is_folder(path: Path, *, private: bool = True) -> bool:
    """Whether it is a folder, and no link to one; and nobody else's to change, where `private`."""
    try:
        info = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(info.st_mode) and (is_private(info) or not private)


def _is_ours(path: Path) -> bool:
    """Whether a journal made this folder and everything in it. Raises `OSError`."""
    if not _FOLDER.fullmatch(path.name) or not _is_folder(path):
        return False
    with os.scandir(path) as content:
        return all(
            (one.name in FILES or _HALF_WRITTEN.fullmatch(one.name))
            and one.is_file(follow_symlinks=False)
            for one in content
        )


def _remove_files(path: Path) -> None:
    """Remove what a journal wrote. Raises `OSError`."""
    for name in ("journal.json", *FILES):  # from the first on it does not count any more
        with suppress(FileNotFoundError):
            if stat.S_ISREG((path / name).lstat().st_mode):
                (path / name).unlink()


def _remove(path: Path) -> None:
    """Remove a journal's folder; anything else is left as it is."""
    with suppress(OSError):
        if _is_ours(path):
            for name in os.listdir(path):
                (path / name).unlink()
            path.rmdir()
