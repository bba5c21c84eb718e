"""The audit log held against the receipts: each names the head that the log had before it.

Whoever cuts the log off, or writes another one, has to leave that head out. A receipt is on the
disk before its entry is in the log, and a crash may come between: but then the journal is still
there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from ..protocol.audit import GENESIS
from ..protocol.checkpoint import BadCheckpoint, Note, Tree, check
from ..protocol.codec import encode_base64url
from ..protocol.receipt import ROLES, Receipt
from ..protocol.sentences import Detail
from .audit import FILE
from .checkpoints import CHECKPOINTS, cosigned_by
from .home import Home
from .journal import Journals
from .receipts import RECEIPTS

ENDS = ("transfer", "erased")  # entries that tell how a transfer ended
PRUNED = "pruned"  # the entry of what was removed


class LogCheck(NamedTuple):
    """A log whose chain holds: how many lines, and its head; how many receipts fit it, and up to
    which line nothing can have been changed since; what does not fit; how many of its lines were
    pruned; and of its checkpoints how many fit, and up to which line one was cosigned by a witness
    that counts."""

    lines: int
    head: str
    receipts: int
    fixed: int
    misfits: tuple[tuple[str, Detail], ...]  # (file name of a receipt or checkpoint, what is wrong)
    pruned: int = 0
    checkpoints: int = 0
    witnessed: int = 0


class Anchor(NamedTuple):
    """What a receipt says of this machine's log."""

    name: str
    transfer: str
    heads: tuple[str, ...]
    ours: bool  # each of the heads is this machine's; else one of them may be, by an earlier key
    open: bool  # its entry may still be to come


def check_log(home: Home) -> LogCheck:
    """Hold the audit log against every receipt of this machine. Raises `BadLine` where the chain
    does not hold, and `Failure`."""
    anchors, misfits = [], []
    # These first: what is on the disk now is in the log by then, or its journal is there.
    own, parties = own_key(home), set[bytes]()
    for name, found in home.receipts.all():
        if isinstance(found, Receipt):
            anchors.append(anchors_of(home, name, found, own))
            signers = {found.sender, found.recipient}
            parties |= set() if own in signers else signers  # one of them may be an earlier key
        else:
            misfits.append((name, found))
    checkpoints, roots = list(home.checkpoints.all()), dict[int, bytes]()
    sizes = {one.checkpoint.size for _, one in checkpoints if isinstance(one, Note)}
    wanted = {head for one in anchors for head in one.heads}
    entered = {one.transfer: 0 for one in anchors}  # the last line that tells of a transfer
    places, lines, last = {GENESIS: 0}, 0, GENESIS
    tree, pruned, base_owner, told = Tree(), 0, b"", False
    for lines, last, fields, data, base in home.audit.walk():
        if base is not None:
            places, pruned, tree, base_owner = {}, lines, base.tree(), base.owner
        else:
            tree.append(data)
        if last in wanted:
            places[last] = lines
        if lines in sizes:
            roots[lines] = tree.root()
        told = told or (fields is not None and fields["event"] == PRUNED)
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
    held, keys = 0, home.checkpoints.witnesses()
    seen = 0
    for name, note in checkpoints:
        if isinstance(note, Note) and note.checkpoint.size < pruned:
            continue  # of lines that are no more
        wrong = note if isinstance(note, Detail) else _misfit(note, roots)
        if wrong is not None:
            misfits.append((name, wrong))
        elif isinstance(note, Note):
            held += 1
            if cosigned_by(note, keys):
                seen = max(seen, note.checkpoint.size)
    if pruned and not (told and base_owner in {own, *parties}):
        misfits.append((FILE, Detail("base_foreign")))
    # What is gone by now was pruned meanwhile.
    folders = (RECEIPTS, CHECKPOINTS, "")
    wrongs = tuple(
        sorted(
            (name, why)
            for name, why in misfits
            if any(os.path.lexists(home.path / folder / name) for folder in folders)
        )
    )
    return LogCheck(lines, last, fitting, fixed, wrongs, pruned, held, seen)


def _misfit(note: Note, roots: Mapping[int, bytes]) -> Detail | None:
    """What is wrong with a checkpoint of this log, if anything is. It may be by an earlier key of
    this machine."""
    try:
        check(note)
    except BadCheckpoint as bad:
        return bad.reason
    said = note.checkpoint
    return None if roots.get(said.size) == said.root else Detail("checkpoint_differs")


def own_key(home: Home) -> bytes:
    """This machine's public key, or b"". Raises `Failure`."""
    identity = home.identity.existing()
    return identity.public if identity else b""


def anchors_of(home: Home, name: str, receipt: Receipt, own: bytes) -> Anchor:
    """What a receipt says of this machine's log. Raises `Failure`."""
    parties = [receipt.payload[role] for role in ROLES]
    ours = [one for one in parties if one["jwk"]["x"] == own]
    heads = tuple(one["audit_head"] for one in ours or parties)
    transfer = receipt.payload["transfer_id"]
    there = Journals(home).has(transfer)
    return Anchor(name, encode_base64url(transfer), heads, bool(ours), there)
