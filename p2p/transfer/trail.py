"""What happens in a transfer, told to the audit log as it happens.

The log tells who opened a link, who proved to be whom, what was decided, what was cut and taken up:
not only how it ended. No name of a file or a person stands in it, and no address.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any

from ..events import (
    Event,
    LinkMade,
    Listed,
    Offered,
    PeerMet,
    PolicyTold,
    Question,
    StateChanged,
    Warned,
)
from ..protocol.errors import HandoverError
from ..protocol.sentences import os_detail
from ..state.audit import AuditLog
from ..tasks import in_thread

RUN = 8  # bytes
MOST = 100  # entries of one kind about one transfer: strangers and bad networks fill no disk
_STATES = {
    "opened": "link_opened",
    "admitted": "admitted",
    "accepted": "accepted",
    "resumed": "resumed",
}
POLICY = ("operator", "max_expires", "require", "relay")
_CUTS = ("lost", "paused", "sender_paused")
# A guest that was turned away, by the code of the warning.
_FAILED = {
    "guesses_left": "guest_unproven",
    "guest_unproven": "guest_unproven",
    "not_for_you": "not_for_you",
    "claimed": "claimed",
}
_ANSWERS = {
    ("admit", False): "refused",
    ("accept", False): "declined",
    ("digits", True): "digits_same",
    ("digits", False): "digits_differ",
}

Entry = tuple[str, dict[str, Any]]


def entry_of(event: Event) -> Entry | None:
    """The entry of an event, its name and members; None where it makes none."""
    match event:
        case Listed(files, folders, size):
            return "listed", {"entries": files + folders, "bytes": size}
        case LinkMade(_, _, _, files, folders, size):
            if files is None or folders is None:
                return "link_made", {}
            return "link_made", {"entries": files + folders, "bytes": size}
        case PolicyTold():
            told = event.as_json()
            return "policy", {name: told[name] for name in POLICY if told[name]}
        case StateChanged(state) if state in _STATES:
            return _STATES[state], {}
        case StateChanged(state) if state in _CUTS:
            return "interrupted", {"reason": state}
        case PeerMet():
            known = "changed" if event.changed else "contact" if event.contact else "new"
            return "authenticated", {"known": known, "digits_before": event.verified}
        case Offered(files, folders, size):
            return "offered", {"entries": files + folders, "bytes": size}
        case Warned(code) if code in _FAILED:
            return "authentication_failed", {"reason": _FAILED[code]}
    return None


class Trail:
    """The entries of one transfer, in order, without holding it up."""

    def __init__(self, audit: AuditLog, role: str, emit: Callable[[Event], None]) -> None:
        self._audit, self._emit = audit, emit
        # Which transfer it is, a recipient learns late: till then this holds its entries together.
        self._always = {"role": role, "run": os.urandom(RUN).hex()}
        self._members: Callable[[], Mapping[str, Any]] = dict  # that every entry has
        self._waiting: deque[Entry] = deque()
        self._writing: asyncio.Task[None] | None = None
        self._noted: Counter[str] = Counter()
        self._last: Entry | None = None
        self._unnoted: str | None = None  # why something is not in the log
        self._closed = False

    def begin(self, members: Callable[[], Mapping[str, Any]]) -> None:
        """`members` gives what every entry has: `transfer_id`, and `peer` once it is known."""
        self._members = members

    def emit(self, event: Event) -> None:
        """Note an event, and pass it on."""
        entry = entry_of(event)
        if entry is not None:
            self.note(*entry)
        self._emit(event)

    def answered(self, question: Question, yes: bool) -> None:
        """What a person decided."""
        name = _ANSWERS.get((question.kind, yes))
        if name is not None:
            self.note(name, {})

    def note(self, name: str, members: Mapping[str, Any]) -> None:
        """One more entry, soon. What is said twice on end is noted once."""
        entry = name, {**self._always, **self._members(), **members}
        if self._closed or entry == self._last or self._noted[name] >= MOST:
            return
        self._last = entry
        self._noted[name] += 1
        self._waiting.append(entry)
        if self._noted[name] == MOST:
            more = {**self._always, **self._members(), "reason": name}
            self._waiting.append(("left_out", more))  # from now on
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        while self._waiting:
            entry = self._waiting.popleft()
            try:
                await in_thread(self._audit.append, *entry)
            except OSError as error:
                self._unnoted = os_detail(error)
            except HandoverError as error:
                self._unnoted = error.detail
            except BaseException:
                self._writing = None  # nobody waits for it for ever
                raise
        self._writing = None

    @property
    def run(self) -> str:
        """What holds the entries of this run together."""
        return str(self._always["run"])

    def close(self) -> None:
        """Nothing more is noted: the transfer has ended."""
        self._closed = True

    async def settle(self) -> str | None:
        """Wait until all is noted; why something could not be."""
        while self._writing is not None:
            await asyncio.shield(self._writing)
        return self._unnoted
