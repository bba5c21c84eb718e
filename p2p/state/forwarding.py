"""Up to where the log has been forwarded. The log itself is the queue: what a server was not sent
stays in it, whatever crashes or is switched off meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ..protocol.audit import GENESIS
from ..protocol.codec import MAX_INTEGER, encode_json, integer, list_of, members, text
from .folder import Folder

FILE = "forwarded.json"
MAX_SERVERS = 64
MAX_FILE = 64 * 1024
_SHAPE = list_of(
    members({"server": text(512), "line": integer(0, MAX_INTEGER), "head": text(64)}), MAX_SERVERS
)


class Place(NamedTuple):
    """A line of the log, counted from 1, and its hash, hex."""

    line: int
    head: str


BEGINNING = Place(0, GENESIS)


class Forwarded:
    """The last line that each server was sent."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def last(self, server: str) -> Place:
        """`BEGINNING` for one that was sent nothing. Raises `Failure`."""
        return self._all().get(server, BEGINNING)

    def store(self, server: str, place: Place) -> None:
        """Note that a server was sent everything up to here. Raises `Failure`."""
        with self._folder.locked():
            known = self._all()
            known.pop(server, None)
            self._write({**known, server: place})

    def forget(self, server: str) -> bool:
        """Forget a server; what it was not sent is kept back no longer. Whether it was known.
        Raises `Failure`."""
        with self._folder.locked():
            known = self._all()
            if server not in known:
                return False
            known.pop(server)
            self._write(known)
        return True

    def servers(self) -> dict[str, Place]:
        """The last line that each server was sent. Raises `Failure`."""
        return self._all()

    def _write(self, known: Mapping[str, Place]) -> None:
        kept = list(known.items())[-MAX_SERVERS:]
        told = [{"server": name, "line": at.line, "head": at.head} for name, at in kept]
        self._folder.write(FILE, encode_json(told))

    def _all(self) -> dict[str, Place]:
        found = self._folder.read_json(FILE, MAX_FILE, "forwarded_file", _SHAPE)
        return {one["server"]: Place(one["line"], one["head"]) for one in found or ()}
