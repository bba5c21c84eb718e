"""The audit log: JSON Lines, each entry carrying the hash of the line before (RFC 9162's idea).

Pure: `entry` makes the next line, `walk` goes through a log line by line. A changed, removed or
inserted line breaks the chain at that place; a log cut off at its end is caught by the heads that
receipts carry. A line torn by a power cut is closed by a `recovered` entry and accepted as such.

A log whose oldest entries were pruned begins with a *base*: how many lines there were, the hash of
the last of them, their Merkle tree, and a signed checkpoint of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from .checkpoint import MAX_NOTE, BadCheckpoint, Note, Tree, check, decode, sign
from .codec import (
    MAX_INTEGER,
    Json,
    base64url,
    decode_json,
    encode_base64url,
    encode_json,
    integer,
    list_of,
    members,
    one_of,
    read_as,
    sha256,
    text,
)
from .errors import PeerError
from .sentences import Detail

GENESIS = "0" * 64
MAX_LINE = 65536
RECOVERED = "recovered"
BASE = "base"  # stands where a line has its `event`

_base = members(
    {
        "event": one_of(BASE),
        "lines": integer(1, MAX_INTEGER),
        "head": text(64),
        "tree": list_of(base64url(32), 64),
        "checkpoint": text(MAX_NOTE),
        "signature": base64url(64),
    }
)
LABEL_BASE = b"handover/1 base"


class BadLine(ValueError):
    """The first line that does not fit, counted from 1, and why."""

    def __init__(self, number: int, reason: Detail) -> None:
        self.number, self.reason = number, reason
        super().__init__(f"line {number}: {reason}")


class Base(NamedTuple):
    """What stands in the place of lines that were pruned; its tree is that of its checkpoint."""

    lines: int
    head: str  # hash of the last of them, hex
    nodes: tuple[bytes, ...]  # of their tree, as `Tree` has them
    note: Note
    owner: bytes  # the key that signed both the note and what is said here
    signature: bytes

    def encode(self) -> bytes:
        """The first line of the log, with its newline."""
        fields: dict[str, Json] = {
            "event": BASE,
            "lines": self.lines,
            "head": self.head,
            "tree": [encode_base64url(node) for node in self.nodes],
            "checkpoint": self.note.encode().decode(),
            "signature": encode_base64url(self.signature),
        }
        return encode_json(fields) + b"\n"

    def tree(self) -> Tree:
        """Their Merkle tree, to grow."""
        return Tree(self.lines, self.nodes)


class Line(NamedTuple):
    """A line that fits: its number from 1, its hash, its members, or None of a torn one, and its
    bytes. Of a base: the number and hash of the last line that it stands for."""

    number: int
    head: str
    fields: dict[str, Json] | None
    data: bytes = b""
    base: Base | None = None


class Verified(NamedTuple):
    """A log that holds: how many lines, its head (hex SHA-256 of the last line), and how many of
    the lines were pruned."""

    lines: int
    head: str
    pruned: int = 0


def make_base(identity: SigningKey, lines: int, head: str, tree: Tree) -> Base:
    """What is to stand for so many lines, signed by whose log it is."""
    note, nodes = sign(identity, lines, tree.root()), tuple(tree.nodes)
    signature = identity.sign(_signed_of_base(lines, head, tree.root())).signature
    return Base(lines, head, nodes, note, bytes(identity.verify_key), signature)


def _signed_of_base(lines: int, head: str, root: bytes) -> bytes:
    fields: dict[str, Json] = {"lines": lines, "head": head, "root": encode_base64url(root)}
    return LABEL_BASE + encode_json(fields)


def line_hash(line: bytes) -> str:
    """The hash of a line without its newline, as hex."""
    return sha256(line).hex()


def entry(previous: str, number: int, time: str, event: str, members: Mapping[str, Json]) -> bytes:
    """The next line, with its newline. `number` counts from 1; `time` is RFC 3339."""
    fields = {**members, "seq": number, "time": time, "event": event, "prev": previous}
    return encode_json(fields) + b"\n"


def verify(lines: Iterable[bytes]) -> Verified:
    """Check the chain from the first line. Raises `BadLine` with the first bad one."""
    verified = Verified(0, GENESIS)
    for line in walk(lines):
        pruned = line.number if line.base is not None else verified.pruned
        verified = Verified(line.number, line.head, pruned)
    return verified


def walk(lines: Iterable[bytes]) -> Iterator[Line]:
    """Each line, once it is known to follow the one before. Raises `BadLine` at the first bad one;
    what is longer than a line may come in parts."""
    head, number, torn = GENESIS, 0, False
    for line in lines:
        whole = line.endswith(b"\n")
        line = line.removesuffix(b"\n")
        if not number and (base := read_base(line)):
            head, number = base.head, base.lines
            yield Line(number, head, None, line, base)
            continue
        number += 1
        if len(line) > MAX_LINE:
            raise BadLine(number, Detail("no_log_entry"))
        fields = _fields(line) if whole else None
        if torn and (fields is None or fields["event"] != RECOVERED):
            raise BadLine(number - 1, Detail("no_log_entry"))
        if fields is None:
            torn = True
        elif fields["prev"] != head:
            raise BadLine(number, Detail("line_before_changed"))
        elif fields["seq"] != number:
            raise BadLine(number, Detail("out_of_sequence"))
        else:
            torn = False
        head = line_hash(line)
        yield Line(number, head, fields, line)
    if torn:
        raise BadLine(number, Detail("line_cut_off"))


def read_base(line: bytes) -> Base | None:
    """What a first line stands for; None where it is an ordinary one, or says what is not so, or
    is not signed by the key that it names."""
    if not line.startswith(b'{"checkpoint":'):  # names are sorted: no entry begins so
        return None
    try:
        fields = read_as(_base, decode_json(line, MAX_LINE), "base")
        note = decode(fields["checkpoint"].encode())
        said, nodes = note.checkpoint, tuple(fields["tree"])
        base = Base(fields["lines"], fields["head"], nodes, note, check(note), fields["signature"])
        tree = base.tree()
        message = _signed_of_base(base.lines, base.head, tree.root())
        VerifyKey(base.owner).verify(message, base.signature)
    except (PeerError, BadCheckpoint, BadSignatureError, ValueError):
        return None
    return base if (said.size, said.root) == (tree.size, tree.root()) else None


def sequence(line: bytes) -> int | None:
    """The number that a line gives itself, or None when it is no entry."""
    fields = _fields(line)
    number = fields["seq"] if fields else None
    return number if type(number) is int else None


def _fields(line: bytes) -> dict[str, Json] | None:
    """The members of a line, or None when it is no entry."""
    try:
        fields = decode_json(line, MAX_LINE)
    except PeerError:
        return None
    fine = isinstance(fields, dict) and {"seq", "time", "event", "prev"} <= fields.keys()
    return fields if fine else None
