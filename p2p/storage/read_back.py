"""Reading back: the digests of what is on the disk, taken along the tape, past the page cache."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from ..protocol.errors import Failure
from ..protocol.seal import Payload
from ..protocol.tape import Tape
from .durable import drop_from_cache, read_at
from .ports import MARK, Marked, Stopped

READ_BACK = 2 * 1024 * 1024  # read at once, while what was read before is hashed
ALIGNMENT = 4096  # of direct reads: the largest block size in use
RECALL_STEP = 16 * 1024 * 1024  # read back at once: no slow disk takes longer than a second


class TapeDigest:
    """SHA-256 of each entry as the tape goes by, and a running digest of the whole so far."""

    def __init__(self) -> None:
        self.digests: dict[int, bytes] = {}  # of the entries that are through
        self.entry = -1  # the one at hand
        self._digest = hashlib.sha256()
        self._chain = hashlib.sha256()  # over the digests of all entries that are through

    def begin(self, entry: int) -> None:
        """An entry begins; what was hashed of another that did not end is forgotten."""
        self.entry, self._digest = entry, hashlib.sha256()

    def update(self, data: Payload) -> None:
        """More of the entry at hand."""
        self._digest.update(data)

    def end(self) -> None:
        """The entry at hand is through."""
        self.digests[self.entry] = self._digest.digest()
        self._chain.update(self._digest.digest())
        self.forget()

    def forget(self) -> None:
        """The entry at hand fails, or is let go."""
        self.entry = -1

    def mark(self) -> bytes:
        """The running digest: of every entry that is through, and of the one at hand so far."""
        chain = self._chain.copy()
        if self.entry >= 0:
            chain.update(self._digest.digest())
        return chain.digest()


class OpenPart(Protocol):
    """Opens the part of an entry for reading; see `Parts.readable`."""

    def __call__(self, entry: int, *, direct: bool) -> int:
        """Its descriptor. Raises `OSError`."""


class ReadBack:
    """Hashes what lies on the disk, along the tape, and remembers how far it came.

    `open_part` opens an entry's part, `is_gone` tells what the sender gave up, `marked` is called
    with each running digest. `is_away` tells whether the disk as a whole does not answer: then
    nothing is read further. One thread at a time.
    """

    def __init__(
        self,
        tape: Tape,
        open_part: OpenPart,
        is_gone: Callable[[int], bool],
        marked: Marked,
        is_away: Callable[[], bool],
    ) -> None:
        self._tape, self._open_part, self._is_gone = tape, open_part, is_gone
        self._marked, self._is_away = marked, is_away
        self.at, self._file = 0, -1
        self._digest = TapeDigest()
        self._unnoted: list[tuple[int, bytes]] = []  # marks
        self.tail = (0, self.mark())
        # Direct reads cost a third of what dropping and refilling the page cache does.
        self._direct = True
        self._buffers = [mmap.mmap(-1, READ_BACK) for _ in range(2)]  # aligned for direct reads
        self._ahead = ThreadPoolExecutor(1, "handover-read")

    def advance(self, upto: int) -> int:
        """Read up to `upto`, in steps that end at each MARK; how far it came. Raises `OSError`."""
        while self.at < upto:
            self._step(min(upto, (self.at // MARK + 1) * MARK))
            if self.at % MARK == 0:
                self._unnoted.append((self.at // MARK - 1, self.tail[1]))
            while self._unnoted:  # also what a full disk did not take before
                self._marked(*self._unnoted[0])
                del self._unnoted[0]
        return self.at

    def recall(self, upto: int, stopped: Stopped) -> None:
        """The same where all marks are noted, and anybody may lose patience."""
        while self.at < upto:
            if stopped():
                raise Failure("cancelled")
            self._step(min(upto, self.at + RECALL_STEP))

    def _step(self, upto: int) -> None:
        for piece in self._tape.pieces(self.at, upto - self.at):
            if self._is_gone(piece.entry):
                continue
            try:
                self._hash(piece.entry, piece.offset, piece.length)
            except OSError as error:  # the entry then has no digest, and fails
                if self._is_away():
                    raise OSError(errno.EIO, os.strerror(errno.EIO)) from error
        self.at = upto
        self.tail = (upto, self.mark())

    @property
    def digests(self) -> dict[int, bytes]:
        """SHA-256 of the entries that are through."""
        return self._digest.digests

    def mark(self) -> bytes:
        """The running digest so far."""
        return self._digest.mark()

    def _hash(self, entry: int, offset: int, length: int) -> None:
        if entry != self._digest.entry:
            self.close()
            if offset:
                return  # it failed before; half a digest is none
            self._file = self._opened(entry)
            self._digest.begin(entry)
        end = offset + length
        try:
            for block in self._blocks(offset, end):
                self._digest.update(block)
        except OSError:
            self.close()
            raise
        if end == self._tape.end(entry) - self._tape.start(entry):
            if os.fstat(self._file).st_size != end:
                self.close()
                raise OSError(errno.EIO, "longer than it was written")
            self._digest.end()
            self.close()

    def _opened(self, entry: int) -> int:
        """A part; where a file system has no direct reads, as tmpfs had none, without them."""
        if self._direct:
            try:
                return self._open_part(entry, direct=True)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._direct = False
        return self._open_part(entry, direct=False)

    def _blocks(self, offset: int, end: int) -> Iterator[memoryview]:
        """What lies between, each block read while the one before is hashed. Raises `OSError`."""
        buffer, other = self._buffers
        start = offset & ~(ALIGNMENT - 1)
        got = self._read(buffer, start, end)
        while True:
            behind = min(start + got, end)
            if behind <= offset:
                raise OSError(errno.EIO, "shorter than it was written")
            following = behind & ~(ALIGNMENT - 1)
            more = behind < end
            ahead = self._ahead.submit(self._read, other, following, end) if more else None
            try:
                yield memoryview(buffer)[offset - start : behind - start]
            finally:
                got = ahead.result() if ahead else 0
            if not more:
                return
            start, offset = following, behind
            buffer, other = other, buffer

    def _read(self, buffer: mmap.mmap, start: int, end: int) -> int:
        """Fill a buffer from the disk itself, not from the memory that was written through; up to
        the block in which `end` lies, for behind a file's end the kernel fills it with zeros."""
        whole = -(-(end - start) // ALIGNMENT) * ALIGNMENT
        space = memoryview(buffer)[:whole]
        if self._direct:
            try:
                return read_at(self._file, space, start)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
            self._direct = False
            direct, self._file = self._file, self._opened(self._digest.entry)
            os.close(direct)
        # What was synced is clean, so this makes the kernel read it from the disk again.
        drop_from_cache(self._file, start, len(space))
        return read_at(self._file, space, start)

    def close(self) -> None:
        """Close what is open; what was hashed so far of the entry at hand is forgotten."""
        file, self._file = self._file, -1
        if file >= 0:
            with contextlib.suppress(OSError):  # it was only read
                os.close(file)
        self._digest.forget()
