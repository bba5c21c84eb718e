"""The audit log to a syslog server, as DICOM audit messages: whatever it has not read yet."""

from __future__ import annotations

from typing import NamedTuple

from .connect import syslog
from .connect.syslog import Message, Server
from .state import dicom_audit, history
from .state.forwarding import BEGINNING, Place
from .state.home import Home
from .storage.durable import locked

BATCH = 1000  # messages after which the server has to have read everything
MSGID = "DICOM+RFC3881"  # PS3.15, A.6.2


class Forwarding(NamedTuple):
    """What was sent. `rewritten`: the log is not the one that the server knew; all was sent."""

    entries: int
    messages: int
    rewritten: bool


def forward(home: Home, server: Server) -> Forwarding:
    """Send what a server has not read yet, and note how far that is, batch by batch. After a
    failure, a batch is sent again. Raises `SyslogFailed`, `BadLine`, `Failure`, `OSError`. In a
    thread."""
    name = f"{server.host}:{server.port}"
    with locked(home.path / ".forwarding"):
        last = home.forwarded.last(name)
        rewritten = not _is_there(home, last)
        if rewritten:
            last = BEGINNING
        batch, entries, sent, place = list[Message](), 0, 0, last
        log = history.entries(home.audit)
        for entry, made in dicom_audit.messages(log, home, syslog.own_name()):
            if entry.number <= last.line:
                continue
            batch += [Message(one.time, MSGID, one.xml) for one in made]
            entries, place = entries + 1, Place(entry.number, entry.head)
            if len(batch) >= BATCH:
                sent += _send(home, server, name, batch, place)
                batch = []
        if place != last:
            sent += _send(home, server, name, batch, place)
        if last == BEGINNING and entries:
            home.audit.note(history.EXPORTED, {"format": "syslog", "count": sent})  # the first time
    return Forwarding(entries, sent, rewritten)


def _send(home: Home, server: Server, name: str, batch: list[Message], place: Place) -> int:
    if batch:
        syslog.send(server, batch)
    home.forwarded.store(name, place)
    return len(batch)


def _is_there(home: Home, place: Place) -> bool:
    """Whether the log still has that line, or has pruned it."""
    end = 0
    for line in home.audit.walk():
        end = line.number
        if end == place.line and line.base is None:
            return line.head == place.head
    return end >= place.line
