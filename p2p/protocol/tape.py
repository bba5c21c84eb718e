"""The tape: a manifest's files laid end to end, one address space (after BitTorrent's pieces).

`Tape` maps offsets to entries; `Frontier` turns ranges that arrive in any order into one number.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .codec import MAX_INTEGER
from .errors import PeerError

MAX_PENDING = 16_384  # runs beyond the frontier: 512 ranges under way on each of 32 lanes


class Piece(NamedTuple):
    """The part of a range that lies in one entry."""

    entry: int
    offset: int  # in the entry
    length: int


class Tape:
    """Offsets of every entry; entries of size 0 (directories too) take no room."""

    def __init__(self, sizes: Iterable[int]) -> None:
        self._starts = array("Q", [0])
        total = 0
        for size in sizes:
            total += size
            if total > MAX_INTEGER:
                raise PeerError("manifest_sizes_too_large")
            self._starts.append(total)

    @property
    def total(self) -> int:
        """Length of the tape in bytes."""
        return self._starts[-1]

    def start(self, entry: int) -> int:
        """Where an entry begins."""
        return self._starts[entry]

    def end(self, entry: int) -> int:
        """Where it ends."""
        return self._starts[entry + 1]

    def entry_at(self, offset: int) -> int:
        """The entry that owns the byte at `offset`, which is below `total`."""
        return bisect_right(self._starts, offset) - 1

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """The pieces of a range, in order; entries of size 0 are passed over."""
        end = offset + length
        entry = self.entry_at(offset) if length else 0
        while offset < end:
            stop = min(end, self.end(entry))
            if stop > offset:
                yield Piece(entry, offset - self.start(entry), stop - offset)
                offset = stop
            entry += 1

    def portions(self, offset: int, length: int, entries: int) -> Iterator[tuple[int, int]]:
        """A range in portions (start, end) that touch at most so many entries each."""
        end = offset + length
        while offset < end:
            last = min(self.entry_at(offset) + entries, len(self._starts) - 1)
            stop = max(min(end, self._starts[last]), offset + 1)
            yield offset, stop
            offset = stop


class Frontier:
    """How far everything is there, when ranges arrive in any order.

    Ranges that touch are one run, so the runs beyond the frontier are as many as the gaps: what is
    still under way. What is withdrawn takes no room.
    """

    def __init__(self, offset: int = 0) -> None:
        self.offset = offset
        self._starts: list[int] = []  # of runs beyond the frontier, which do not touch, in order
        self._ends: list[int] = []

    def holds(self, start: int, end: int) -> bool:
        """True when the whole range is already there; a partial overlap raises `PeerError`."""
        if end <= self.offset:
            return True
        at = bisect_right(self._starts, start)  # the first run that begins behind `start`
        if at and self._ends[at - 1] >= end:
            return True
        behind = at < len(self._starts) and self._starts[at] < end
        before = at > 0 and self._ends[at - 1] > start
        if start < self.offset or behind or before:
            raise PeerError("ranges_overlap")
        return False

    def advance(self, offset: int) -> None:
        """The range that begins here, or began before, is there up to `offset`, which lies in it;
        `add` takes in the whole."""
        self.offset = max(self.offset, offset)

    def add(self, start: int, end: int) -> None:
        """Take in a range that `holds` said False for."""
        if start <= self.offset:
            self.offset = end
            if self._starts and self._starts[0] == end:
                self.offset = self._ends[0]
                del self._starts[0], self._ends[0]
            return
        at = bisect_left(self._starts, start)
        before = at > 0 and self._ends[at - 1] == start
        behind = at < len(self._starts) and self._starts[at] == end
        if before and behind:
            self._ends[at - 1] = self._ends[at]
            del self._starts[at], self._ends[at]
        elif before:
            self._ends[at - 1] = end
        elif behind:
            self._starts[at] = start
        elif len(self._starts) >= MAX_PENDING:
            raise PeerError("too_many_ranges_out_of_order")
        else:
            self._starts.insert(at, start)
            self._ends.insert(at, end)

    def __len__(self) -> int:
        """How many runs lie beyond the frontier."""
        return len(self._starts)
