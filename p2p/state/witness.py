"""Checkpoints made, and cosigned by another machine.

The owner of a log makes a checkpoint and asks a witness for its cosignature, with proof that the
log has only grown since that witness saw it last. Files go between the two by any way: they name
nobody, and nothing in them is secret.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..protocol.audit import Base
from ..protocol.checkpoint import (
    BadCheckpoint,
    Note,
    Tree,
    check,
    cosign,
    decode_request,
    encode_request,
    proof_ranges,
    sign,
    witness_of,
    witnesses,
)
from ..protocol.sentences import Detail
from .home import Home


def tree_of(home: Home, lines: int | None = None) -> tuple[Tree, str]:
    """The Merkle tree of the log up to a line, or of all of it, and the head there. Raises
    `BadLine`, `Failure`."""
    tree, head = Tree(), ""
    for line in home.audit.walk():
        if lines is not None and line.number > lines:
            break
        if line.base is not None:
            tree = line.base.tree()
        else:
            tree.append(line.data)
        head = line.head
    return tree, head


def make_checkpoint(home: Home) -> Note:
    """Sign what the log is now, and keep it. Raises `BadLine`, `Failure`."""
    identity = home.identity.load().key  # first: a new one is an entry
    tree, _ = tree_of(home)
    known = home.checkpoints.read(tree.size)
    if known is not None and known.checkpoint.root == tree.root():
        return known  # perhaps with cosignatures
    note = sign(identity, tree.size, tree.root())
    home.checkpoints.store(note)
    return note


def make_request(home: Home, since: int | None = None) -> bytes:
    """A checkpoint made now, for a witness that last saw `since` lines; None: as many as any
    witness is known to have seen. Raises `BadCheckpoint`, `BadLine`, `Failure`."""
    since = home.checkpoints.last_witnessed() if since is None else since
    note = make_checkpoint(home)
    size = note.checkpoint.size
    if since > size:
        raise BadCheckpoint(Detail("checkpoint_inconsistent"))
    ranges = proof_ranges(since, size) if since else []
    return encode_request(since, _roots_of(home, ranges, size), note)


def _roots_of(home: Home, ranges: Sequence[tuple[int, int]], size: int) -> list[bytes]:
    """The roots over these ranges of the first lines of the log, in their order; no two ranges
    share a line."""
    trees = {span: Tree() for span in ranges}
    coming = sorted(ranges, reverse=True)
    for line in home.audit.walk():
        if line.base is not None:
            trees = {span: _inside(line.base, *span) for span in ranges}
            continue
        while coming and coming[-1][1] < line.number:
            coming.pop()
        if line.number > size or not coming:
            break
        if coming[-1][0] < line.number:
            trees[coming[-1]].append(line.data)
    for (begin, end), tree in trees.items():
        if tree.size != end - begin:
            raise BadCheckpoint(Detail("checkpoint_pruned"))
    return [trees[span].root() for span in ranges]


def _inside(base: Base, begin: int, end: int) -> Tree:
    """What a base has of a range of lines: those of its subtrees that lie in it."""
    found = [one for one in base.tree().subtrees() if begin <= one[0] and one[1] <= end]
    return Tree(sum(last - first for first, last, _ in found), [node for _, _, node in found])


def cosign_request(home: Home, data: bytes, time: int) -> tuple[Note, bytes, bool]:
    """Cosign what another machine asks for, at `time` (seconds of POSIX), if its log has only
    grown since it was seen last: the note, the key whose log it is, and whether it was never seen
    before. Raises `BadCheckpoint`, `Failure`."""
    old, proof, note = decode_request(data)
    owner = check(note)
    identity = home.identity.load().key
    last = home.witnessed.last(note.checkpoint.origin)
    known = last.size if last is not None else 0
    if old != known and last != note.checkpoint:
        raise BadCheckpoint(Detail("checkpoint_since", size=str(known)))
    # What was seen is on the disk before it is signed: a crash costs a signature, and never two.
    home.witnessed.store(note, () if last == note.checkpoint else proof)
    return cosign(identity, note.only({note.checkpoint.origin}), time), owner, last is None


def keep_cosigned(home: Home, note: Note, *, trust: bool) -> tuple[list[bytes], list[bytes]]:
    """Keep a checkpoint of the own log that came back from a witness: the keys that cosigned it and
    count, and those that are not known to be a witness's. With `trust` they count from now on, as
    those of contacts do. What nobody signed who counts is not kept. Raises `BadCheckpoint`,
    `BadLine`, `Failure`."""
    check(note)
    said = note.checkpoint
    tree, _ = tree_of(home, said.size)
    if (tree.size, tree.root()) != (said.size, said.root):
        raise BadCheckpoint(Detail("checkpoint_differs"))
    keys = witnesses(note)
    if not keys:
        raise BadCheckpoint(Detail("checkpoint_unwitnessed"))
    known = {*home.checkpoints.witnesses()}
    contacts = {one.identity for one in home.contacts.all().values()}
    for key in keys:
        if key not in known and (trust or key in contacts):
            home.checkpoints.trust(key)
            known.add(key)
    counting = [key for key in keys if key in known]
    names = {said.origin, *map(witness_of, counting)}
    kept = home.checkpoints.read(said.size) or note.only(names)
    for name, data in note.only(names).signatures:
        kept = kept.with_signature(name, data)
    if counting:
        home.checkpoints.store(kept)
    return counting, [key for key in keys if key not in known]
