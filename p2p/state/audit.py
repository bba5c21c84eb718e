"""The audit log of this machine: JSON Lines, hash-chained, append-only, synced."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..protocol import audit
from ..protocol.codec import decode_json
from ..protocol.errors import PeerError
from .folder import Folder, now_text

FILE = "audit.jsonl"


class AuditLog:
    """The log, and its head."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    @property
    def path(self) -> Path:
        """The audit log."""
        return self._folder.path / FILE

    def append(self, event: str, members: Mapping[str, Any]) -> None:
        """Chain one more entry to the log, synced. A line torn by a crash is closed first."""
        with self._folder.locked(), open(self.path, "ab+") as log:
            os.chmod(log.fileno(), 0o600)
            head, number, whole = _tail(log)
            if not whole:
                log.write(b"\n" + audit.entry(head, number + 1, now_text(), audit.RECOVERED, {}))
                log.flush()
                head, number, _ = _tail(log)
            log.write(audit.entry(head, number + 1, now_text(), event, members))
            log.flush()
            os.fsync(log.fileno())

    def head(self) -> str:
        """The hash of the last line."""
        with self._folder.locked():
            try:
                with open(self.path, "rb") as log:
                    return _tail(log)[0]
            except FileNotFoundError:
                return audit.GENESIS

    def recent(self, event: str, count: int) -> list[dict[str, Any]]:
        """The last entries of a kind, the newest first."""
        found: deque[dict[str, Any]] = deque(maxlen=count)
        with self._folder.locked(), suppress(FileNotFoundError), open(self.path, "rb") as log:
            for line in log:
                with suppress(PeerError):
                    entry = decode_json(line, audit.MAX_LINE)
                    if isinstance(entry, dict) and entry.get("event") == event:
                        found.appendleft(entry)
        return list(found)

    def verify(self) -> audit.Verified:
        """Walk the log. Raises `audit.BadLine`."""
        with self._folder.locked():
            try:
                with open(self.path, "rb") as log:
                    return audit.verify(log)
            except FileNotFoundError:
                return audit.Verified(0, audit.GENESIS)


def _tail(log: Any) -> tuple[str, int, bool]:
    """(hash of the last line, its number, whether it ends in a newline)."""
    size = log.seek(0, os.SEEK_END)
    if not size:
        return audit.GENESIS, 0, True
    log.seek(max(0, size - 2 * audit.MAX_LINE))
    lines = log.read().split(b"\n")
    whole = lines[-1] == b""
    if whole:
        lines.pop()
    try:
        return audit.line_hash(lines[-1]), decode_json(lines[-1], audit.MAX_LINE)["seq"], whole
    except (PeerError, KeyError, TypeError):
        # Torn: its number is one more than the line before it.
        try:
            number = decode_json(lines[-2], audit.MAX_LINE)["seq"] + 1 if lines[-2:-1] else 1
        except (PeerError, KeyError, TypeError):
            number = 1
        return audit.line_hash(lines[-1]), number, whole
