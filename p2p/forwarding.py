"""The audit log to a syslog server, as DICOM audit messages: whatever was not sent yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .connect import syslog
from .connect.syslog import Message, Server, SyslogFailed
from .protocol.audit import BadLine
from .protocol.sentences import Detail
from .state import dicom_audit, history
from .state.forwarding import BEGINNING, Place
from .state.home import Home
from .storage.durable import Taken, locked

BATCH = 1000  # messages after which the server has to have read everything
MSGID = "DICOM+RFC3881"  # PS3.15, A.6.2


class Forwarding(NamedTuple):
    """Of how many entries messages were sent, and how many; whether the server has confirmed that
    it has read all of them."""

    entries: int
    messages: int
    confirmed: bool


def forward(
    home: Home, server: Server, rewritten: Callable[[], None], *, unconfirmed: bool = False
) -> Forwarding:
    """Send what a server has not read yet, and note how far that is, batch by batch. A batch that
    it does not confirm is sent again the next time; but `unconfirmed` ones count as well where it
    only closed. `rewritten` is called where the log is not the one that the server knew: then all
    of it is sent. Raises `SyslogFailed`, `BadLine` once everything before is sent, `Failure`,
    `OSError`. In a thread."""
    try:
        with locked(home.path / ".forwarding", wait=False):
            return _forward(home, server, rewritten, unconfirmed)
    except Taken:
        raise SyslogFailed(Detail("another_run")) from None


def _forward(
    home: Home, server: Server, rewritten: Callable[[], None], unconfirmed: bool
) -> Forwarding:
    name = server.name
    last = home.forwarded.last(name)
    there, end = _look_for(home, last)
    if there and end == last.line:  # mostly, where this runs every minute
        return Forwarding(0, 0, True)
    if not there:
        rewritten()
        last = BEGINNING
    batch, entries, sent, place, confirmed = list[Message](), 0, 0, last, True

    def deliver() -> None:
        nonlocal batch, sent, confirmed, last
        if batch:
            if last == BEGINNING:
                home.forwarded.store(name, last)  # from now on nothing is pruned before it is read
            confirmed = syslog.send(server, batch) and confirmed
            if not (confirmed or unconfirmed):
                raise SyslogFailed(Detail("not_confirmed"))
        elif last == BEGINNING:
            return  # nothing was asked of anybody yet
        home.forwarded.store(name, place)
        sent += len(batch)
        if last == BEGINNING:  # the first time
            home.audit.note(history.EXPORTED, {"format": "syslog", "count": sent})
        last, batch = place, []

    bad: BadLine | None = None
    try:
        log = history.entries(home.audit)
        for entry, made in dicom_audit.messages(log, home, syslog.own_name(), last.line):
            batch += [Message(one.time, MSGID, one.xml) for one in made]
            entries, place = entries + bool(made), Place(entry.number, entry.head)
            if len(batch) >= BATCH:
                deliver()
    except BadLine as found:  # which keeps nothing of before
        bad = found
    if place != last:
        deliver()
    if bad is not None:
        raise bad
    return Forwarding(entries, sent, confirmed)


def _look_for(home: Home, place: Place) -> tuple[bool, int]:
    """Whether the log still has that line, or has pruned it; and its last line, or -1 where it
    cannot be read to its end. Raises `BadLine` for one before that line."""
    end, there = 0, place == BEGINNING
    try:
        for line in home.audit.walk():
            end = line.number
            if end == place.line:
                there = line.head == place.head
            elif line.base is not None and end > place.line:
                there = True
    except BadLine:
        if end < place.line:  # what it knew cannot be looked for
            raise
        return there, -1
    return there, end
