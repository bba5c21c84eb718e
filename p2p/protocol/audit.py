"""The audit log: JSON Lines, each entry carrying the hash of the line before (RFC 9162's idea).

Pure: `entry` makes the next line, `walk` goes through a log line by line. A changed, removed or
inserted line breaks the chain at that place; a log cut off at its end is caught by the heads that
receipts carry. A line torn by a power cut is closed by a `recovered` entry and accepted as such.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from .codec import Json, decode_json, encode_json, sha256
from .errors import PeerError
from .sentences import Detail

GENESIS = "0" * 64
MAX_LINE = 65536
RECOVERED = "recovered"


class BadLine(ValueError):
    """The first line that does not fit, counted from 1, and why."""

    def __init__(self, number: int, reason: Detail) -> None:
        self.number, self.reason = number, reason
        super().__init__(f"line {number}: {reason}")


class Line(NamedTuple):
    """A line that fits: its number from 1, its hash, and its members, or None of a torn one."""

    number: int
    head: str
    fields: dict[str, Json] | None


class Verified(NamedTuple):
    """A log that holds: how many lines, and its head (hex SHA-256 of the last line)."""

    lines: int
    head: str


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
        verified = Verified(line.number, line.head)
    return verified


def walk(lines: Iterable[bytes]) -> Iterator[Line]:
    """Each line, once it is known to follow the one before. Raises `BadLine` at the first bad one;
    what is longer than a line may come in parts."""
    head, number, torn = GENESIS, 0, False
    for line in lines:
        number += 1
        whole = line.endswith(b"\n")
        line = line.removesuffix(b"\n")
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
        yield Line(number, head, fields)
    if torn:
        raise BadLine(number, Detail("line_cut_off"))


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
