"""The audit log held against the receipts: each names the head that the log had before it.

Whoever cuts the log off, or writes another one, has to leave that head out. A receipt is on the
disk before its entry is in the log, and a crash may come between: but then the journal is still
there.
"""

from __future__ import annotations

from typing import NamedTuple

from ..protocol.audit import GENESIS
from ..protocol.codec import encode_base64url
from ..protocol.receipt import ROLES, Receipt
from ..protocol.sentences import Detail
from .home import Home
from .journal import Journals

ENDS = ("transfer", "erased")  # entries that tell how a transfer ended


class LogCheck(NamedTuple):
    """A log whose chain holds: how many lines, and its head; how many receipts fit it, and up to
    which line nothing can have been changed since; and what does not fit."""

    lines: int
    head: str
    receipts: int
    fixed: int
    misfits: tuple[tuple[str, Detail], ...]  # (file name of a receipt, what is wrong)


class _Anchor(NamedTuple):
    name: str
    transfer: str
    heads: tuple[str, ...]
    ours: bool  # each of the heads is this machine's; else one of them may be, by an earlier key
    open: bool  # its entry may still be to come


def check_log(home: Home) -> LogCheck:
    """Hold the audit log against every receipt of this machine. Raises `BadLine` where the chain
    does not hold, and `Failure`."""
    anchors, misfits = [], []
    # The receipts first: what is on the disk now is in the log by then, or its journal is there.
    identity = home.identity.existing()
    for name, found in home.receipts.all():
        if isinstance(found, Receipt):
            anchors.append(_anchor(home, name, found, identity.public if identity else b""))
        else:
            misfits.append((name, found))
    wanted = {head for one in anchors for head in one.heads}
    entered = {one.transfer: 0 for one in anchors}  # the last line that tells of a transfer
    places, lines, last = {GENESIS: 0}, 0, GENESIS
    for lines, last, fields in home.audit.walk():
        if last in wanted:
            places[last] = lines
        ended = fields is not None and fields["event"] in ENDS
        transfer = fields.get("transfer_id") if fields and ended else None
        if isinstance(transfer, str) and transfer in entered:
            entered[transfer] = lines
    fixed = fitting = 0
    for one in anchors:
        there = [places[head] for head in one.heads if head in places]
        if not there or (one.ours and len(there) < len(one.heads)):
            misfits.append((one.name, Detail("head_missing" if one.ours else "heads_missing")))
        elif entered[one.transfer] <= max(there) and not one.open:
            misfits.append((one.name, Detail("entry_missing")))
        else:
            fixed, fitting = max(fixed, *there), fitting + 1
    return LogCheck(lines, last, fitting, fixed, tuple(sorted(misfits)))


def _anchor(home: Home, name: str, receipt: Receipt, own: bytes) -> _Anchor:
    parties = [receipt.payload[role] for role in ROLES]
    ours = [one for one in parties if one["jwk"]["x"] == own]
    heads = tuple(one["audit_head"] for one in ours or parties)
    transfer = receipt.payload["transfer_id"]
    there = Journals(home).has(transfer)
    return _Anchor(name, encode_base64url(transfer), heads, bool(ours), there)
