"""Removing what is older than it has to be kept: the oldest entries of the log, and the receipts
and annexes of their transfers. A base with a signed checkpoint stays in their place, and an entry
that says what was removed, so that what is left can be checked as before."""

from __future__ import annotations

from typing import NamedTuple

from ..protocol.audit import Base, Line
from ..protocol.checkpoint import sign
from ..protocol.errors import Failure
from ..protocol.receipt import Receipt
from ..protocol.sentences import Detail
from .evidence import ENDS, anchors_of, check_log, own_key
from .home import Home
from .journal import Journals
from .witness import tree_of

PRUNED = "pruned"


class Old(NamedTuple):
    """What is older than some day: up to which line the log, how many lines that are, and of which
    transfers the receipts."""

    until: int
    lines: int
    transfers: tuple[bytes, ...]


def find_old(home: Home, before: str) -> Old:
    """What can be removed of what was noted before some moment (RFC 3339 in UTC). What a receipt
    that stays refers to stays too, and what one may refer to that is still to be signed. Raises
    `BadLine`, `Failure`; also where the log and the receipts do not agree, for nobody is to tidy
    that away."""
    began = [journal.record.began for journal in Journals(home)]
    before = min([before, *filter(None, began)])
    if check_log(home).misfits:
        raise Failure("not_readable", Detail("log_misfits"))
    receipts = [found for _, found in home.receipts.all() if isinstance(found, Receipt)]
    anchors = [anchors_of(home, "", one, own_key(home)) for one in receipts]
    wanted = {head for one in anchors for head in one.heads}
    ended: dict[str, int] = {}
    places: dict[str, int] = {}
    begins = until = 0
    older = True
    for line in home.audit.walk():
        if line.base is not None:
            begins = until = line.number
        older = older and _is_before(line, before)
        until = line.number if older else until
        if line.head in wanted:
            places[line.head] = line.number
        if line.fields and line.fields["event"] in ENDS:
            ended[str(line.fields.get("transfer_id"))] = line.number
    gone, needed = [], [until]
    for receipt, anchor in zip(receipts, anchors, strict=True):
        if 0 < ended.get(anchor.transfer, 0) <= until and not anchor.open:
            gone.append(receipt.payload["transfer_id"])
        else:
            needed += [places[head] for head in anchor.heads if head in places]
    until = min(needed)
    return Old(until, max(0, until - begins), tuple(gone))


def _is_before(line: Line, before: str) -> bool:
    """Whether a line was noted before a moment; what tells no time is as old as its neighbours."""
    time = line.fields["time"] if line.fields else ""
    return not isinstance(time, str) or time < before


def prune(home: Home, before: str) -> Old:
    """Remove what `find_old` finds. A crash on the way leaves what can be checked, and be pruned
    again. Raises the same, and `OSError`."""
    old = find_old(home, before)
    if not old.lines and not old.transfers:
        return old
    members = {"before": before, "lines": old.lines, "receipts": len(old.transfers)}
    home.audit.append(PRUNED, members)
    for transfer in old.transfers:
        home.receipts.remove(transfer)
    if old.lines:
        base = _base(home, old.until)
        home.audit.prune(base)
        home.checkpoints.forget_before(base.lines)
    return old


def _base(home: Home, lines: int) -> Base:
    """What is to stand for the lines up to this one."""
    tree, head = tree_of(home, lines)
    note = sign(home.identity.load().key, lines, tree.root())
    return Base(lines, head, tuple(tree.nodes), note)
