"""The audit log of this machine: JSON Lines, hash-chained, append-only, synced."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ..protocol import audit
from ..protocol.codec import MAX_INTEGER, Json, Reader, decode_json, integer, text
from ..protocol.errors import Failure, PeerError
from ..protocol.sentences import Detail
from ..storage.durable import replace_with
from ..storage.strict import open_strictly, unusable
from .folder import Folder, now_text

FILE = "audit.jsonl"
LONGEST = audit.MAX_LINE + 2  # of a line that is read, so that one that is too long is known to be
RECENT_BYTES = 1024 * 1024  # of the end, in which recent entries are looked for

# What is shown of an entry has to be of these kinds, and where it is missing is this.
SHOWN: dict[str, tuple[Reader, Json]] = {
    "time": (text(40), ""),
    "role": (text(32), ""),
    "ending": (text(32), ""),
    "bytes": (integer(0, MAX_INTEGER), 0),
}


class AuditLog:
    """The log, and its head."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    @property
    def path(self) -> Path:
        """The audit log."""
        return self._folder.path / FILE

    def append(self, event: str, members: Mapping[str, Any]) -> None:
        """Chain one more entry to the log, synced. A line torn by a crash is closed first. Raises
        `Failure`, `OSError`."""
        with self._folder.locked(), self._opened(append=True) as log:
            assert log is not None
            head, number, whole = _tail(log)
            if not whole:
                log.write(b"\n" + audit.entry(head, number + 1, now_text(), audit.RECOVERED, {}))
                log.flush()
                head, number, _ = _tail(log)
            log.write(audit.entry(head, number + 1, now_text(), event, members))
            log.flush()
            os.fsync(log.fileno())

    def note(self, event: str, members: Mapping[str, Any]) -> None:
        """The same for what has happened in any case: where it cannot be noted, the next transfer
        says that the log cannot be written."""
        with suppress(OSError, Failure):
            self.append(event, members)

    def head(self) -> str:
        """The hash of the last line. Raises `Failure`."""
        with self._folder.locked(reading=True), self._opened() as log:
            return _tail(log)[0] if log else audit.GENESIS

    def recent(self, event: str, count: int) -> list[dict[str, Any]]:
        """The last entries of a kind, the newest first, as far as they have the form of one. Raises
        `Failure`."""
        found: deque[dict[str, Any]] = deque(maxlen=count)
        with self._folder.locked(reading=True), self._opened() as log:
            if log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - RECENT_BYTES))
                for line in lines_of(log):
                    entry = _entry(line, event)
                    if entry:
                        found.appendleft(entry)
        return list(found)

    def walk(self) -> Iterator[audit.Line]:
        """Go through the log. Raises `audit.BadLine`, `Failure`."""
        with self._opened() as log:
            with self._folder.locked(reading=True):  # not while somebody reads what comes out
                size = log.seek(0, os.SEEK_END) if log else 0
            if log:
                log.seek(0)
                yield from audit.walk(lines_of(log, size))

    def verify(self) -> audit.Verified:
        """Check the chain alone. Raises `audit.BadLine`, `Failure`."""
        verified = audit.Verified(0, audit.GENESIS)
        for line in self.walk():
            pruned = line.number if line.base is not None else verified.pruned
            verified = audit.Verified(line.number, line.head, pruned)
        return verified

    def prune(self, base: audit.Base) -> None:
        """Put a base into the place of the lines it stands for. Raises `BadLine`, `OSError`, and
        `Failure` where it does not stand for them."""
        with self._folder.locked(), self._opened() as log:

            def rest() -> Iterator[bytes]:
                yield base.encode()
                head = ""
                for line in audit.walk(lines_of(log) if log else ()):
                    if line.number > base.lines and line.base is None and head == base.head:
                        yield line.data + b"\n"
                    elif line.number >= base.lines and line.head != base.head:
                        raise Failure("not_readable", Detail("log_misfits"))  # another came first
                    else:
                        head = line.head
                if head != base.head:
                    raise Failure("not_readable", Detail("log_misfits"))

            replace_with(self.path, rest())

    @contextmanager
    def _opened(self, *, append: bool = False) -> Iterator[IO[bytes] | None]:
        """The log, or None where there is none. Raises `Failure`."""
        try:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT if append else os.O_RDONLY
            file = open_strictly(self.path, flags)
        except FileNotFoundError:
            yield None
            return
        except OSError as error:
            raise unusable(self.path, "audit_file", error) from None
        with open(file, "ab+" if append else "rb") as log:
            yield log


def lines_of(log: IO[bytes], size: int | None = None) -> Iterator[bytes]:
    """Its lines, or those of its first `size` bytes, in bounded memory: one that is too long in
    parts."""
    left = MAX_INTEGER if size is None else size
    while left > 0 and (line := log.readline(min(LONGEST, left))):
        left -= len(line)
        yield line


def _entry(line: bytes, event: str) -> dict[str, Any] | None:
    """The members of a line, if it is an entry of a kind; not safe to show yet."""
    try:
        fields = decode_json(line, audit.MAX_LINE)
        if not isinstance(fields, dict) or fields.get("event") != event:
            return None
        return fields | {
            name: read(fields.get(name, otherwise)) for name, (read, otherwise) in SHOWN.items()
        }
    except (PeerError, ValueError):
        return None


def _tail(log: IO[bytes]) -> tuple[str, int, bool]:
    """(hash of the last line, its number, whether it ends in a newline)."""
    size = log.seek(0, os.SEEK_END)
    if not size:
        return audit.GENESIS, 0, True
    log.seek(max(0, size - 2 * LONGEST))
    lines = log.read(2 * LONGEST).split(b"\n")
    whole = lines[-1] == b""
    if whole:
        lines.pop()
    number = audit.sequence(lines[-1])
    if number is None:  # torn: its number is one more than the line before it
        number = (audit.sequence(lines[-2]) or 0) + 1 if lines[-2:-1] else 1
    return audit.line_hash(lines[-1]), number, whole
