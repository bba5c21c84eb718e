"""The tape as it is read from files: in order, hashed on the way, holes found, changes noticed."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from functools import partial

from ..compression import SAMPLE, STORED, Compression, Method, Series, choose
from ..protocol.errors import Failure
from ..protocol.manifest import CHANGED, UNREADABLE
from ..protocol.sentences import os_detail
from ..protocol.tape import Tape
from .durable import (
    CLOSE_ON_EXEC,
    NO_FOLLOW,
    NON_BLOCKING,
    expose_writes,
    next_data,
    next_hole,
    read_at,
)
from .listing import UNREAD, Listing, SourceFile, is_alike, on_device
from .ports import Block, Stopped, never
from .read_back import READ_BACK

# Without O_NONBLOCK, a file that became a FIFO would hang here.
OPEN = os.O_RDONLY | NON_BLOCKING | NO_FOLLOW | CLOSE_ON_EXEC
MIN_HOLE = 64 * 1024  # shorter holes are read as zeros
MAX_HOLE = 256 * 1024 * 1024  # hashed in one go: a sixth of a second
SAMPLES, MIN_SAMPLED = 4, 256 * 1024  # of a file that may be compressed; smaller ones are tried
MAX_WITHDRAWN = 256  # in one block: what one message says
_ZEROS = bytes(READ_BACK)
SKIP_STEP = 1024 * 1024  # read and hashed at once, where nothing is sent


class FolderSource:
    """`ports.Source` over files. Blocks come with `headroom` bytes before the payload."""

    def __init__(self, listing: Listing, tape: Tape, headroom: int) -> None:
        self._headroom = headroom
        self._sources, self._tape = listing.sources, tape
        self._paths = [entry.path for entry in listing.entries]
        self._entry = 0
        self._file = -1
        self._at = 0  # in the open file
        self._digest = hashlib.sha256()
        self._compression: Compression | None = None  # of the open file, once it was asked for
        self._series = Series()
        self._opened_again = (-1, 0)  # the last entry, and where in it

    def read(self, offset: int, length: int, *, compress: bool = False) -> Block:
        headroom = self._headroom
        message, space = bytearray(headroom), memoryview(b"")
        got = hole = 0
        finished: list[tuple[int, bytes]] = []
        withdrawn: list[tuple[int, int]] = []
        found: list[tuple[Compression, int]] = []
        # Once one is withdrawn, others that cannot be read either, but nothing that lies behind it.
        while self._entry < len(self._sources) and not hole and len(withdrawn) < MAX_WITHDRAWN:
            source = self._sources[self._entry]
            if source is None:
                self._entry += 1
                continue
            if source == UNREAD:
                withdrawn.append((self._entry, UNREADABLE))
                self._close()
                continue
            assert isinstance(source, SourceFile)
            try:
                if self._file < 0:
                    self._open(source)
                if self._at < source.size:
                    if got == length or withdrawn:
                        break
                    data_at, data_end = self._next_data(source)
                    if data_at > self._at:
                        if got:
                            break
                        hole = min(data_at - self._at, MAX_HOLE)
                        self._hash_zeros(hole)
                        self._at += hole
                    else:
                        if compress:
                            compression = self._choose(source)
                            found.append((compression, compression.phase(self._at)))
                        if not got:
                            message = bytearray(headroom + length)
                            space = memoryview(message)[headroom:]
                        count = self._read(space[got : got + data_end - self._at])
                        got += count
                        self._at += count
                if self._at == source.size:
                    self._check_end(source)
                    finished.append((self._entry, self._digest.digest()))
                    self._close()
            except _Changed:
                withdrawn.append((self._entry, CHANGED))
                self._close()
            except OSError as error:
                if self._open_again(source):
                    continue
                self._check_away(source, error)
                withdrawn.append((self._entry, UNREADABLE))
                self._close()
        if got < length:
            message = message[: headroom + got]
        return Block(
            offset,
            hole or got,
            bool(hole),
            message,
            headroom,
            tuple(finished),
            tuple(withdrawn),
            *_together(found),
        )

    def _choose(self, source: SourceFile) -> Compression:
        """How to compress the open file; small ones are just tried."""
        if self._compression is None:
            if source.size < MIN_SAMPLED:
                self._compression = Compression(Method.COMPRESSED)
            else:
                folder = os.path.dirname(self._paths[self._entry])
                look = partial(self._look, source.size)
                self._compression = self._series.choose(folder, source.size, look)
        return self._compression

    def _look(self, size: int) -> Compression:
        """The same from a few samples of it."""
        count = min(SAMPLES, size // MIN_SAMPLED)
        step = size // (count + 1) & ~1
        at = [step * (index + 1) for index in range(count)]
        return choose([(i, self._sample(i)) for i in at])

    def _sample(self, offset: int) -> bytes:
        sample = bytearray(SAMPLE)
        return bytes(sample[: read_at(self._file, memoryview(sample), offset)])

    def skip(self, offset: int, known: Callable[[int], bool], stopped: Stopped = never) -> Block:
        finished: list[tuple[int, bytes]] = []
        withdrawn: list[tuple[int, int]] = []
        while self._entry < len(self._sources) and self._tape.start(self._entry) < offset:
            source, end = self._sources[self._entry], self._tape.end(self._entry)
            if source is None or (end <= offset and known(self._entry)):
                self._entry += 1
                continue
            if source == UNREAD:
                withdrawn.append((self._entry, UNREADABLE))
                self._close()
                continue
            assert isinstance(source, SourceFile)
            try:
                self._open(source)
                stop = min(end, offset) - self._tape.start(self._entry)
                self._hash_upto(source, stop, stopped)
                if end > offset:
                    break
                self._check_end(source)
                finished.append((self._entry, self._digest.digest()))
            except _Changed:
                withdrawn.append((self._entry, CHANGED))
            except OSError as error:
                self._check_away(source, error)
                withdrawn.append((self._entry, UNREADABLE))
            self._close()
        return Block(offset, 0, False, bytearray(), 0, tuple(finished), tuple(withdrawn))

    def _hash_upto(self, source: SourceFile, stop: int, stopped: Stopped) -> None:
        while self._at < stop:
            if stopped():
                raise Failure("cancelled")
            data_at, data_end = self._next_data(source)
            if data_at > self._at:
                hole = min(data_at - self._at, stop - self._at, MAX_HOLE)
                self._hash_zeros(hole)
                self._at += hole
            else:
                step = min(data_end, stop, self._at + SKIP_STEP) - self._at
                self._at += self._read(memoryview(bytearray(step)))

    def close(self) -> None:
        """Close what is open."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open(self, source: SourceFile) -> None:
        self._file = os.open(source.path, OPEN)
        self._at, self._digest, self._compression = 0, hashlib.sha256(), None
        expose_writes(self._file)
        self._check(source)

    def _check(self, source: SourceFile) -> None:
        info = os.fstat(self._file)
        if not stat.S_ISREG(info.st_mode) or not is_alike(on_device(source, info), info):
            raise _Changed

    def _open_again(self, source: SourceFile) -> bool:
        """Whether the open file can be read by a new descriptor: a share was away, or the program
        that serves it was killed. Once at each place in it."""
        here = self._entry, self._at
        if self._file < 0 or here == self._opened_again:
            return False
        self._opened_again = here
        try:
            again = os.open(source.path, OPEN)
        except OSError:
            return False
        os.close(self._file)
        self._file = again
        expose_writes(again)
        return True

    def _check_away(self, source: SourceFile, error: OSError) -> None:
        """Raises `Failure` where it is not this file alone that cannot be read: all of it will come
        back; and `OSError` where there are too few descriptors."""
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise error
        if is_away(source, self._paths[self._entry]):
            raise Failure("source_away", os_detail(error, "unreadable")) from None

    def _check_end(self, source: SourceFile) -> None:
        """At its end: whether it is what was listed. The system may say that a file is empty and
        give content all the same (in /proc); that is never read as an empty file."""
        self._check(source)
        touched = os.fstat(self._file).st_ctime_ns != source.changed_ns
        # By the open file: its name may be gone, or another's.
        if touched and not _reads_as(self._file, source, self._digest.digest(), never):
            raise _Changed
        if not source.size and read_at(self._file, memoryview(bytearray(1)), 0):
            raise OSError(errno.EINVAL, "a file without a size")

    def changed(self, result: Callable[[int], tuple[int, bytes]], stopped: Stopped) -> list[int]:
        found = []
        for index, source in enumerate(self._sources):
            status, digest = result(index)
            if not isinstance(source, SourceFile) or status:
                continue
            try:
                info = os.lstat(source.path)
            except OSError:
                continue  # it is gone, or away: what was read is what was listed
            if (info.st_dev, info.st_ino) != (source.device, source.inode):
                continue  # likewise: this is another file
            touched = info.st_ctime_ns != source.changed_ns
            if touched and not _is_still(source, digest, stopped):
                found.append(index)
        return found

    def _next_data(self, source: SourceFile) -> tuple[int, int]:
        """Where data begins, at or after here, and where it ends."""
        if not source.sparse:
            return self._at, source.size
        data = next_data(self._file, self._at)
        begin = source.size if data is None else min(data, source.size)
        if begin - self._at >= MIN_HOLE:
            return begin, begin
        if begin < source.size:
            return self._at, min(next_hole(self._file, begin, source.size), source.size)
        return self._at, source.size

    def _read(self, space: memoryview) -> int:
        count = read_at(self._file, space, self._at)
        if not count:
            raise _Changed  # it shrank
        self._digest.update(space[:count])
        return count

    def _hash_zeros(self, length: int) -> None:
        while length:
            step = min(length, len(_ZEROS))
            self._digest.update(_ZEROS[:step] if step < len(_ZEROS) else _ZEROS)
            length -= step

    def _close(self) -> None:
        self.close()
        self._entry += 1


def is_away(source: SourceFile, path: str) -> bool:
    """Whether all that was named on the command line cannot be read for now, and not this file
    alone, which is `path` as an entry: what is named is gone with its file system, or does not
    answer."""
    root = source.path
    for _ in range(path.count("/")):
        root = os.path.dirname(root)
    try:
        if root != source.path:
            with os.scandir(root):
                return False
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError:
        return True
    try:
        while not os.path.lexists(root := os.path.dirname(root)):
            pass
        return os.stat(root).st_dev != source.device
    except OSError:
        return True


def _together(found: list[tuple[Compression, int]]) -> tuple[Compression, int]:
    """How to compress a range of several files: filtered only if all of them would be."""
    kinds = {compression.method for compression, _ in found}
    if not kinds or kinds == {Method.STORED}:
        return STORED, 0
    return found[0] if kinds == {Method.FILTERED} else (Compression(Method.COMPRESSED), 0)


def _reads_as(file: int, source: SourceFile, digest: bytes, stopped: Stopped) -> bool:
    """Whether all of an open file has this SHA-256, at one moment: somebody touched it, and may
    have edited it in place. Raises `OSError`, and `Failure` when it is stopped."""
    before, hashed, at = os.fstat(file), hashlib.sha256(), 0
    space = memoryview(bytearray(READ_BACK))
    while count := read_at(file, space, at):
        if stopped():
            raise Failure("cancelled")
        hashed.update(space[:count])
        at += count
    after = os.fstat(file)
    still = (before.st_mtime_ns, before.st_ctime_ns) == (after.st_mtime_ns, after.st_ctime_ns)
    return still and is_alike(source, after) and hashed.digest() == digest


def _is_still(source: SourceFile, digest: bytes, stopped: Stopped) -> bool:
    """The same of the file at its path, as far as it can be read."""
    try:
        file = os.open(source.path, OPEN)
    except OSError:
        return False
    try:
        return _reads_as(file, source, digest, stopped)
    except OSError:
        return False
    finally:
        os.close(file)


class _Changed(Exception):
    """The file is not what was listed."""
