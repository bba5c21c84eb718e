"""Checkpoints of the audit log: its Merkle tree at some size, signed (C2SP tlog-checkpoint).

The leaves are the log's lines without their newlines, in an RFC 9162 tree beside the chain. A
checkpoint says how many lines there are and the root over them; a witness, which keeps the last one
it saw, adds a cosignature once it was shown that the new tree begins with the old one. So whoever
rewrites the log has to convince another machine. Pure: no clock, no disk.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from .codec import MAX_INTEGER, decode_base64url, encode_base64url, sha256
from .sentences import Detail

MAX_NOTE = 64 * 1024
MAX_SIGNATURES = 64  # lines of a note
MAX_PROOF = 64  # nodes
LOG_KEY, WITNESS_KEY = b"\x01", b"\x04"  # types of signatures (C2SP signed-note)
KEY_ID, TIME, IDENTITY = 4, 8, 32  # bytes
LOG, WITNESS = "handover-audit/", "handover-witness/"  # names of keys begin so
DASH = "\u2014"
_SIZE = re.compile(r"0|[1-9][0-9]{0,15}")
_NAME = re.compile(r"[^\s+]{1,256}")


class BadCheckpoint(ValueError):
    """It does not hold, and why."""

    def __init__(self, reason: Detail) -> None:
        self.reason = reason
        super().__init__(str(reason))


# --- the tree ------------------------------------------------------------------------------------


class Tree:
    """A Merkle tree (RFC 9162 2.1.1) that grows leaf by leaf, as the roots of its largest whole
    subtrees: its memory does not grow with it."""

    def __init__(self, size: int = 0, nodes: Iterable[bytes] = ()) -> None:
        """`nodes`: the roots of these subtrees, the largest first. Raises `ValueError`."""
        self.size, self.nodes = size, list(nodes)
        if len(self.nodes) != size.bit_count():
            raise ValueError("not the subtrees of a tree of this size")

    def append(self, leaf: bytes) -> None:
        """Add a leaf: the bytes of a line."""
        node, size = sha256(b"\x00" + leaf), self.size
        while size & 1:
            node, size = sha256(b"\x01" + self.nodes.pop() + node), size >> 1
        self.nodes.append(node)
        self.size += 1

    def subtrees(self) -> Iterator[tuple[int, int, bytes]]:
        """Its whole subtrees: from one leaf, before another, and the root."""
        begin = 0
        for power, node in zip(_powers(self.size), self.nodes, strict=True):
            yield begin, begin + power, node
            begin += power

    def root(self) -> bytes:
        """Its root, 32 bytes."""
        if not self.nodes:
            return sha256(b"")
        *left, root = self.nodes
        for node in reversed(left):
            root = sha256(b"\x01" + node + root)
        return root


def _powers(size: int) -> list[int]:
    """The powers of two of which a number is the sum, the largest first."""
    return [1 << bit for bit in reversed(range(size.bit_length())) if size >> bit & 1]


def proof_ranges(old: int, new: int) -> list[tuple[int, int]]:
    """Of which leaves, from one and before the other, a consistency proof has the subtrees, in its
    order (RFC 9162 2.1.4.1). `old` is from 1 to `new`."""

    def within(old: int, begin: int, end: int, whole: bool) -> list[tuple[int, int]]:
        if old == end - begin:
            return [] if whole else [(begin, end)]
        middle = 1 << (end - begin - 1).bit_length() - 1
        if old <= middle:
            return [*within(old, begin, begin + middle, whole), (begin + middle, end)]
        return [*within(old - middle, begin + middle, end, False), (begin, begin + middle)]

    return within(old, 0, new, True)


def check_consistency(
    old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Raises `BadCheckpoint` unless the tree of `new` leaves begins with that of `old` (RFC 9162
    2.1.4.2)."""
    fits = old <= new
    if fits and old == 0:
        fits = not proof
    elif fits and old == new:
        fits = not proof and old_root == new_root
    elif fits:
        fits = _leads(old, old_root, new, new_root, proof)
    if not fits:
        raise BadCheckpoint(Detail("checkpoint_inconsistent"))


def _leads(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    nodes = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not nodes:
        return False
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    before = after = nodes[0]
    for node in nodes[1:]:
        if not last:
            return False
        if place & 1 or place == last:
            before, after = sha256(b"\x01" + node + before), sha256(b"\x01" + node + after)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            after = sha256(b"\x01" + after + node)
        place, last = place >> 1, last >> 1
    return not last and (before, after) == (old_root, new_root)


# --- the note ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checkpoint:
    """What a log was at some size."""

    origin: str  # which log: `origin_of` its owner's key
    size: int  # lines
    root: bytes  # over them, 32 bytes

    def text(self) -> bytes:
        """What is signed."""
        root = base64.b64encode(self.root).decode()
        return f"{self.origin}\n{self.size}\n{root}\n".encode()


@dataclass(frozen=True)
class Note:
    """A checkpoint and the signatures under it, none of which is checked yet."""

    checkpoint: Checkpoint
    signatures: tuple[tuple[str, bytes], ...]  # (name of the key, its ID and the signature)

    def encode(self) -> bytes:
        """As it is written to a file."""
        lines = [
            f"{DASH} {name} {base64.b64encode(data).decode()}\n" for name, data in self.signatures
        ]
        return self.checkpoint.text() + b"\n" + "".join(lines).encode()

    def only(self, names: Collection[str]) -> Note:
        """Without the signatures of other keys."""
        kept = tuple(one for one in self.signatures if one[0] in names)
        return Note(self.checkpoint, kept)

    def with_signature(self, name: str, data: bytes) -> Note:
        """One more signature; another of the same key gives way."""
        key = name, data[:KEY_ID]
        kept = [one for one in self.signatures if (one[0], one[1][:KEY_ID]) != key]
        return Note(self.checkpoint, (*kept, (name, data)))


def origin_of(identity: bytes) -> str:
    """How the log of a key's owner is called, and the key that signs its checkpoints: so each can
    be checked by itself, and whose key it is is another question."""
    return f"{LOG}{encode_base64url(identity)}"


def witness_of(identity: bytes) -> str:
    """How the key of a witness is called."""
    return f"{WITNESS}{encode_base64url(identity)}"


def _named(name: str, kind: str) -> bytes | None:
    """The public key that a name of this kind has in it."""
    try:
        identity = decode_base64url(name.removeprefix(kind))
    except ValueError:
        return None
    return identity if name.startswith(kind) and len(identity) == IDENTITY else None


def _key_id(name: str, kind: bytes, identity: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + kind + identity)[:KEY_ID]


def sign(identity: SigningKey, size: int, root: bytes) -> Note:
    """A checkpoint of the own log, signed."""
    public = bytes(identity.verify_key)
    checkpoint = Checkpoint(origin_of(public), size, root)
    name, signature = checkpoint.origin, identity.sign(checkpoint.text()).signature
    return Note(checkpoint, ((name, _key_id(name, LOG_KEY, public) + signature),))


def check(note: Note) -> bytes:
    """The key whose log it is, which has signed it. Raises `BadCheckpoint`."""
    origin = note.checkpoint.origin
    identity = _named(origin, LOG)
    key_id = _key_id(origin, LOG_KEY, identity or b"")
    for said, data in note.signatures:
        if identity and (said, data[:KEY_ID]) == (origin, key_id):
            _check(identity, note.checkpoint.text(), data[KEY_ID:])
            return identity
    raise BadCheckpoint(Detail("checkpoint_unsigned"))


def cosign(identity: SigningKey, note: Note, time: int) -> Note:
    """The note with a witness's cosignature: that this tree is the largest it has seen of this log
    at `time` (seconds of POSIX), and begins with every earlier one (C2SP tlog-cosignature)."""
    public = bytes(identity.verify_key)
    name = witness_of(public)
    signature = identity.sign(_cosigned(note.checkpoint, time)).signature
    data = _key_id(name, WITNESS_KEY, public) + time.to_bytes(TIME, "big") + signature
    return note.with_signature(name, data)


def witnesses(note: Note) -> dict[bytes, int]:
    """The keys that cosigned it, and when, in seconds of POSIX. Anyone can make a key: whether one
    counts is another question. Raises `BadCheckpoint` for a cosignature that does not hold."""
    found = {}
    for name, data in note.signatures:
        identity = _named(name, WITNESS)
        if identity and data[:KEY_ID] == _key_id(name, WITNESS_KEY, identity):
            time = int.from_bytes(data[KEY_ID : KEY_ID + TIME], "big")
            _check(identity, _cosigned(note.checkpoint, time), data[KEY_ID + TIME :])
            found[identity] = time
    return found


def _cosigned(checkpoint: Checkpoint, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n".encode() + checkpoint.text()


def _check(identity: bytes, message: bytes, signature: bytes) -> None:
    try:
        VerifyKey(identity).verify(message, signature)
    except (BadSignatureError, ValueError):
        raise BadCheckpoint(Detail("signature_mismatch")) from None


def decode(data: bytes) -> Note:
    """Read a note, and check nothing of its signatures. Raises `BadCheckpoint`."""
    text, separator, below = _text(data).rpartition("\n\n")
    lines, signed = text.split("\n"), below.split("\n")
    if not separator or len(lines) != 3 or signed.pop() or not 0 < len(signed) <= MAX_SIGNATURES:
        raise BadCheckpoint(Detail("no_checkpoint"))
    origin, size, root = lines
    if not _NAME.fullmatch(origin) or not _SIZE.fullmatch(size) or int(size) > MAX_INTEGER:
        raise BadCheckpoint(Detail("no_checkpoint"))
    signatures = []
    for line in signed:
        mark, *rest = line.split(" ")
        if mark != DASH or len(rest) != 2 or not _NAME.fullmatch(rest[0]):
            raise BadCheckpoint(Detail("no_checkpoint"))
        signatures.append((rest[0], _bytes(rest[1])))
        if len(signatures[-1][1]) <= KEY_ID:
            raise BadCheckpoint(Detail("no_checkpoint"))
    return Note(Checkpoint(origin, int(size), _bytes(root, 32)), tuple(signatures))


# --- what a witness is asked ---------------------------------------------------------------------


def encode_request(old: int, proof: Sequence[bytes], note: Note) -> bytes:
    """Ask a witness that last saw `old` lines to cosign (the body of C2SP tlog-witness)."""
    nodes = "".join(f"{base64.b64encode(node).decode()}\n" for node in proof)
    return f"old {old}\n{nodes}\n".encode() + note.encode()


def decode_request(data: bytes) -> tuple[int, tuple[bytes, ...], Note]:
    """(lines that the witness last saw, consistency proof, checkpoint). Raises `BadCheckpoint`."""
    head, separator, _ = _text(data).partition("\n\n")
    first, *nodes = head.split("\n")
    word, _, old = first.partition(" ")
    if word != "old" or not separator or not _SIZE.fullmatch(old) or len(nodes) > MAX_PROOF:
        raise BadCheckpoint(Detail("no_request"))
    proof = tuple(_bytes(node, 32) for node in nodes)
    return int(old), proof, decode(data[len(head.encode()) + 2 :])


def _text(data: bytes) -> str:
    """Valid UTF-8 without control characters but newlines. Raises `BadCheckpoint`."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\x00"
    if len(data) > MAX_NOTE or any(one < " " and one != "\n" for one in text):
        raise BadCheckpoint(Detail("no_checkpoint"))
    return text


def _bytes(text: str, length: int | None = None) -> bytes:
    """Of standard base64 (RFC 4648 4), of one spelling only. Raises `BadCheckpoint`."""
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if base64.b64encode(found).decode() != text or length not in (None, len(found)):
        raise BadCheckpoint(Detail("no_checkpoint"))
    return found
