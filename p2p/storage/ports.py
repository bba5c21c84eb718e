"""The contracts of storage: where the tape is read from, and where it arrives.

Everything here blocks and runs in threads. The comments are the contract; `tests/storage/` holds
one conformance suite that every implementation passes: folders and memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..compression import STORED, Compression
from ..protocol.manifest import Results
from ..protocol.seal import Payload

MARK = 64 * 1024 * 1024  # of tape: how often the running digest of what was read back is noted
Stopped = Callable[[], bool]  # looked at every moment; once it is true, the call ends early
Marked = Callable[[int, bytes], None]  # number of a MARK, and the running digest there


def never() -> bool:
    """For what nobody stops."""
    return False


@dataclass(frozen=True)
class Block:
    """What reading gave: a stretch of tape (perhaps empty), and what became of entries."""

    offset: int
    length: int
    hole: bool
    message: bytearray  # `headroom` bytes, for what seals it in place, and then the payload
    headroom: int
    finished: tuple[tuple[int, bytes], ...] = ()  # (entry, SHA-256)
    withdrawn: tuple[tuple[int, int], ...] = ()  # (entry, status)
    compression: Compression = STORED  # how its bytes are best compressed, ...
    phase: int = 0  # ... see `compression.compress`

    @property
    def payload(self) -> memoryview:
        """The bytes of the stretch; none of a hole."""
        return memoryview(self.message)[self.headroom :]


class Source(Protocol):
    """Reads the tape from its entries, in order, hashing as it goes. One thread at a time."""

    def read(self, offset: int, length: int, *, compress: bool = False) -> Block:
        """The next stretch, at most `length` bytes or one hole; then whatever ends there. With
        `compress` also how to compress it.

        An entry that is not as it was listed, or shrinks or changes under way, is withdrawn: the
        block says so, and the next one begins behind it. Never raises for one entry.
        """

    def skip(self, offset: int, known: Callable[[int], bool], stopped: Stopped = never) -> Block:
        """Begin at `offset`: the recipient has everything before it. On a fresh source only.

        What ends before is read and hashed all the same, unless it is `known`; so is the beginning
        of the entry in which `offset` lies. `stopped` ends it early. Raises `Failure` then.
        """

    def changed(self, result: Callable[[int], tuple[int, bytes]], stopped: Stopped) -> list[int]:
        """Entries that were delivered and are another now, so that what was read of them may be of
        no one version. Looked at when all is read. `result` gives an entry's status and SHA-256.
        `stopped` ends it early. Raises `Failure` then.
        """

    def close(self) -> None:
        """Close what is open."""


class Destination(Protocol):
    """Where a transfer arrives. It is written, synced and read back by three threads at once; each
    method says what it needs. Nothing gets its final name before it is whole, synced and verified.
    """

    @property
    def placed(self) -> Mapping[int, str]:
        """Entry -> its path below the destination, once it has its place."""

    @property
    def where(self) -> str:
        """Where the parts lie, for a person."""

    @property
    def refused(self) -> bool:
        """Whether the file system refused times or permissions, which cost no file its place."""

    @property
    def doubtful(self) -> bool:
        """Whether what lies there has to be rechecked: the disk was away, or reading failed."""

    def is_there(self) -> bool:
        """Whether parts of an earlier process lie there."""

    # --- before

    def check_space(self) -> None:
        """Raises `Failure` (no_space, not_writable) before anything is accepted."""

    def prepare(self, *, again: bool = False) -> None:
        """Be ready for ranges; `again`: an earlier process may have been. Raises `Failure`."""

    def recheck(
        self, tail: int, tail_mark: bytes, marks: Sequence[bytes], stopped: Stopped = never
    ) -> int:
        """Read back what an earlier process left, up to `tail`; how far it is as it was noted.

        `marks` are the running digests at every MARK, `tail_mark` the one at `tail`. What lies
        beyond is cut off. `stopped` ends it early. Raises `Failure` then, and `OSError`.
        """

    def begin(self, offset: int) -> None:
        """A session begins at `offset`: what was withdrawn beyond it is open again."""

    def takes_data(self) -> bool:
        """Whether there is space again for some of what is to come, and it can be written. Between
        sessions. Raises `Failure` (parts_foreign)."""

    # --- while it comes in

    def write(self, offset: int, payload: Payload) -> None:
        """Write a range. One thread at a time. Raises `OSError`."""

    def hole(self, offset: int, length: int) -> None:
        """A stretch of zeros. With `write`, one thread at a time. Raises `OSError`."""

    def withdraw(self, entry: int) -> None:
        """The sender gave it up: its part is worth nothing. From any thread."""

    @property
    def gone(self) -> list[int]:
        """Entries that the sender gave up, in order."""

    def sync(self, frontier: int) -> None:
        """Bring all that is written so far to the disk for good. Everything before `frontier` was
        written before this call. Raises `OSError`: then nothing is certain that was not before."""

    def read_back(self, upto: int) -> int:
        """Read back from the disk and hash, up to `upto` at most, which is synced; how far it came.

        One thread at a time. Raises `OSError`.
        """

    @property
    def tail(self) -> tuple[int, bytes]:
        """How far it was read back, and the running digest there."""

    # --- the end

    def compare(self, claimed: Results) -> Results:
        """The sender's digests held against what was read back."""

    def choose_names(self) -> dict[str, str]:
        """Top names that are taken already, each with the free one it gets instead."""

    def place(
        self,
        results: Results,
        renamed: dict[str, str],
        note: Callable[[], None] = lambda: None,
        *,
        again: bool = False,
    ) -> None:
        """Give what is delivered its final names; `again` after a crash, as often as need be.

        `renamed` is from `choose_names`; when another program takes a name in between it changes,
        and `note` is called before the new one is used. What has no place is failed in `results`.
        Raises `OSError` when no space is left.
        """

    def finish(self, results: Results) -> None:
        """Everything that could be is in its place: what only helped is removed."""

    def discard(self) -> None:
        """Remove everything that arrived and has no final name."""

    def close(self) -> None:
        """Close what is open; what arrived stays, for `prepare(again=True)`."""
