"""Removing what is older than it has to be kept: the oldest entries of the log, and the receipts
and annexes of their transfers. A base with a signed checkpoint stays in their place, and an entry
that says what was removed, so that what is left can be checked as before."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..protocol.audit import GENESIS, Line, make_base
from ..protocol.codec import decode_base64url
from ..protocol.errors import Failure
from ..protocol.receipt import Receipt
from ..protocol.sentences import Detail
from ..storage.durable import locked
from .evidence import PRUNED, anchors_of, check_log, own_key
from .history import EXPORTED
from .home import Home
from .journal import Journals
from .witness import tree_of

_ID = re.compile(r"[A-Za-z0-9_-]{22}")  # of a transfer, base64url


class Old(NamedTuple):
    """What is older than some day: up to which line the log, how many lines that are, and of which
    transfers the receipts."""

    until: int
    lines: int
    transfers: tuple[bytes, ...]
    waits_for: str = ""  # a syslog server that keeps the rest back, for it has not read it yet


def find_old(home: Home, before: str) -> Old:
    """What can be removed of what was noted before some moment (RFC 3339 in UTC). What a receipt
    that stays refers to stays too, and what one may refer to that is still to be signed, all of a
    transfer that goes on beyond, what no witness that counts has seen, and what a syslog server was
    not sent yet. Raises `BadLine`,
    `Failure`; also where the log and the receipts do not agree, for nobody is to tidy that away."""
    began = [journal.record.began for journal in Journals(home)]  # "" of one that is damaged
    before = min([before, *began])
    if check_log(home).misfits:
        raise Failure("not_readable", Detail("log_misfits"))
    receipts = [found for _, found in home.receipts.all() if isinstance(found, Receipt)]
    anchors = [anchors_of(home, "", one, own_key(home)) for one in receipts]
    wanted = {head for one in anchors for head in one.heads}
    spans, places = _Spans(), {GENESIS: 0}
    servers = home.forwarded.servers()
    read = {place.head: 0 for place in servers.values()}  # up to which line, where the log has it
    begins = until = 0
    older = True
    for line in home.audit.walk():
        if line.base is not None:
            begins = until = line.number
        older = older and _is_before(line, before)
        until = line.number if older else until
        if line.head in read:
            read[line.head] = line.number
        if line.head in wanted:
            places[line.head] = line.number
        if line.fields:
            spans.hear(line.number, line.fields)
    provable = home.checkpoints.provable()
    until = until if provable is None else max(begins, min(until, provable))
    waits_for = ""
    for name, place in servers.items():
        if read[place.head] < until:
            until, waits_for = max(begins, read[place.head]), name
    while True:
        kept = [one for one in anchors if not 0 < spans.last.get(one.transfer, 0) <= until]
        needed = [places[head] for one in kept for head in one.heads if head in places]
        lowest = spans.without_halves(min([until, *needed]))
        if lowest == until:
            break
        until = lowest
    lines = max(0, until - begins)
    if not lines:
        return Old(begins, 0, (), waits_for)
    transfers = tuple(decode_base64url(one) for one in spans.ended(until))
    return Old(until, lines, transfers, waits_for)


class _Spans:
    """From which line to which the log tells of each transfer."""

    def __init__(self) -> None:
        self.first: dict[str, int] = {}
        self.last: dict[str, int] = {}
        self._early: dict[str, int] = {}  # run -> its first line, before its transfer is known

    def hear(self, number: int, fields: Mapping[str, Any]) -> None:
        """One more entry."""
        transfer, run = fields.get("transfer_id"), fields.get("run")
        if not isinstance(transfer, str):
            if isinstance(run, str):
                self._early.setdefault(run, number)
        elif fields["event"] != EXPORTED:  # which may be years later
            began = self._early.pop(run, number) if isinstance(run, str) else number
            self.first.setdefault(transfer, began)
            self.last[transfer] = number

    def without_halves(self, until: int) -> int:
        """The last line up to which no transfer is told in part."""
        for one, first in sorted(self.first.items(), key=lambda span: -span[1]):
            if first <= until < self.last[one]:
                until = first - 1
        return until

    def ended(self, until: int) -> list[str]:
        """Of which transfers no entry comes after a line; those whose ID is one."""
        return [one for one, last in self.last.items() if last <= until and _ID.fullmatch(one)]


def _is_before(line: Line, before: str) -> bool:
    """Whether a line was noted before a moment; what tells no time is as old as its neighbours."""
    time = line.fields["time"] if line.fields else ""
    return not isinstance(time, str) or time < before


def prune(home: Home, before: str) -> Old:
    """Remove what `find_old` finds. A crash on the way leaves what can be checked, and be pruned
    again. Raises the same, and `OSError`."""
    with locked(home.path / ".pruning"):  # two at once would each count on the other's lines
        old = find_old(home, before)
        if old.lines:
            members = {"before": before, "lines": old.lines, "transfers": len(old.transfers)}
            home.audit.append(PRUNED, members)
            for transfer in old.transfers:
                home.receipts.remove(transfer)
            tree, head = tree_of(home, old.until)
            home.audit.prune(make_base(home.identity.load().key, old.until, head, tree))
            home.checkpoints.forget_before(old.until)
    return old
