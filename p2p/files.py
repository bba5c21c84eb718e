"""Disk I/O: reading what is sent, and writing, syncing, reading back and placing what arrives.

Everything here blocks and runs in threads. A `Source` is read by one thread at a time. A
`Destination` is written, synced and read back by three at once; each method says what it needs.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from .press import SAMPLE, STORED, Kind, Pressing, choose
from .protocol.codec import MAX_INTEGER
from .protocol.errors import Failure
from .protocol.manifest import (
    CHANGED,
    MAX_ENTRIES,
    NOT_PLACED,
    NOT_WRITTEN,
    UNREADABLE,
    Entry,
    Manifest,
    Results,
)
from .protocol.paths import (
    MAX_SEGMENT,
    MAX_SEGMENTS,
    UnsafePath,
    check_path,
    collisions,
    escape_segment,
    shown,
)
from .protocol.seal import OVERHEAD, Payload
from .protocol.tape import Tape

MIN_HOLE = 64 * 1024  # shorter holes are read as zeros
MAX_HOLE = 256 * 1024 * 1024  # hashed in one go: a sixth of a second
READ_BACK = 2 * 1024 * 1024  # read at once, while what was read before is hashed
ALIGNMENT = 4096  # of direct reads: the largest block size in use
MAX_OPEN = 256  # part files open at once; the usual limit of a process is 1,024
SYNC_THREADS = 8  # small files: fsyncs one by one cost twice as much
MIN_RESERVE, RESERVE_SHARE = 1024**3, 20  # leave 1 GiB or a twentieth free, whichever is less
CHECK_ROOM_BYTES = 1024**3  # how often the reserve is looked at while writing
MAX_NAMES = 1000  # `name (1)` to `name (999)`
MARK = 64 * 1024 * 1024  # of tape: how often the running digest of what was read back is noted
ROOM_TO_GO_ON = 64 * 1024 * 1024  # or what is missing, if that is less
# Errors that a person can end while a transfer waits: room, quota, a file system that went away.
PASSING = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EIO,
    errno.ENXIO,
    errno.ENODEV,
    errno.ESTALE,
}

SAMPLES, MIN_SAMPLED = 4, 256 * 1024  # of a file that may be compressed; smaller ones are tried
_ZEROS = bytes(READ_BACK)
SKIP_STEP = 1024 * 1024  # read and hashed at once, where nothing is sent
RECALL_STEP = 16 * 1024 * 1024  # read back at once: no slow disk takes longer than a second
EMPTY_DIGEST = hashlib.sha256().digest()


# --- what is sent ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SourceFile:
    """An entry's place on this disk, and what it looked like when it was listed."""

    path: str
    device: int
    inode: int
    size: int
    modified_ns: int
    sparse: bool


def find_again(source: SourceFile) -> SourceFile | None:
    """A source after a restart; None when it is not what it was. (Devices get new numbers.)"""
    try:
        info = os.stat(source.path)
    except (OSError, ValueError):
        return None
    found = _described(source, info)
    same = stat.S_ISREG(info.st_mode) and found == replace(source, device=found.device)
    return found if same else None


def _described(source: SourceFile, info: os.stat_result) -> SourceFile:
    """The source as it is now."""
    return SourceFile(
        source.path, info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, source.sparse
    )


@dataclass(frozen=True)
class Listing:
    """What a walk found: entries and, beside each, its source (None for a directory)."""

    entries: tuple[Entry, ...]
    sources: tuple[SourceFile | None, ...]


Warn = Callable[[str, str], None]
Stopped = Callable[[], bool]  # looked at every moment; once it is true, the call ends early


def _never() -> bool:
    return False


def check_paths(paths: Sequence[str]) -> dict[str, str]:
    """Base name -> path of what was named on the command line. Raises `Failure`; quick."""
    named: dict[str, str] = {}
    if not paths:
        raise Failure("nothing_to_send", "no file or folder was named")
    for path in paths:
        name = os.path.basename(os.path.abspath(path))
        if not os.path.lexists(path):
            raise Failure("nothing_to_send", f"{shown(path)} does not exist")
        if not name:
            raise Failure("nothing_to_send", f"{shown(path)} has no name of its own")
        if name in named:
            raise Failure("same_name", shown(name))
        named[name] = path
    return named


def walk(paths: Sequence[str], *, follow: bool, warn: Warn, stopped: Stopped = _never) -> Listing:
    """List files and folders as entries, in a stable order, folders before what is in them.

    What cannot be sent is left out and told to `warn(path, why)`. Links are followed only with
    `follow` and only inside the root they lie in. `stopped` ends it early. Raises `Failure`.
    """
    entries: list[Entry] = []
    sources: list[SourceFile | None] = []

    def add(path: str, name: str, root: str, above: frozenset[tuple[int, int]]) -> None:
        try:
            info = os.lstat(path)
            if stat.S_ISLNK(info.st_mode):
                if above and not follow:
                    return warn(path, "a symbolic link, not followed")
                if above and not _inside(path, root):
                    return warn(path, "a symbolic link that leads out of the folder")
                info = os.stat(path)
        except OSError as error:
            return warn(path, _words(error))
        if stopped():
            raise Failure("cancelled")
        modified = info.st_mtime_ns // 1000
        if abs(modified) > MAX_INTEGER:
            warn(path, "its modified time is out of range and left out")
            modified = 0
        if stat.S_ISREG(info.st_mode):
            held = info.st_blocks * 512
            sparse = held < info.st_size
            data = held if sparse else None
            entries.append(Entry(name, "file", info.st_size, modified, data))
            sources.append(
                SourceFile(path, info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, sparse)
            )
        elif stat.S_ISDIR(info.st_mode):
            here = (info.st_dev, info.st_ino)
            if here in above:
                return warn(path, "a symbolic link to a folder it lies in")
            if name.count("/") >= MAX_SEGMENTS:
                raise Failure("name_refused", f"{shown(name)} (too deep)")
            entries.append(Entry(name, "directory", 0, modified))
            sources.append(None)
            try:
                with os.scandir(path) as found:
                    children = sorted(child.name for child in found)
            except OSError as error:
                return warn(path, _words(error))
            for child in children:
                safe = _safe(child, os.path.join(path, child), warn)
                if safe is not None:
                    add(os.path.join(path, child), f"{name}/{safe}", root, above | {here})
        else:
            warn(path, "not a file or folder")
        if len(entries) > MAX_ENTRIES:
            raise Failure("too_many_entries")
        return None

    for name, path in check_paths(paths).items():
        safe = _safe(name, path, warn)
        if safe is None:
            raise Failure("name_refused", shown(name))
        add(path, safe, os.path.realpath(path), frozenset())
    if not entries:
        raise Failure("nothing_to_send", "none of it can be read")
    for entry in entries:
        try:
            check_path(entry.path)
        except UnsafePath as reason:
            raise Failure("name_refused", f"{shown(entry.path)} ({reason})") from None
    pairs = collisions((entry.path, entry.kind == "directory") for entry in entries)
    if pairs:
        raise Failure("name_collision", f"{shown(pairs[0][0])} and {shown(pairs[0][1])}")
    return Listing(tuple(entries), tuple(sources))


def _safe(name: str, path: str, warn: Warn) -> str | None:
    try:
        safe = escape_segment(name)
    except UnsafePath as reason:
        warn(path, str(reason))
        return None
    if safe != name:
        warn(path, f"sent under the name {shown(safe)}")
    return safe


def _inside(path: str, root: str) -> bool:
    target = os.path.realpath(path)
    return target == root or target.startswith(root.rstrip(os.sep) + os.sep)


def _words(error: OSError) -> str:
    return (error.strerror or "it cannot be read").lower()


@dataclass(frozen=True)
class Block:
    """What reading gave: a stretch of tape (perhaps empty), and what became of entries."""

    offset: int
    length: int
    hole: bool
    message: bytearray  # OVERHEAD bytes of room, to be sealed in place, and the payload
    finished: tuple[tuple[int, bytes], ...]  # (entry, SHA-256)
    withdrawn: tuple[tuple[int, int], ...]  # (entry, status)
    pressing: Pressing = STORED  # how its bytes are best compressed, ...
    phase: int = 0  # ... see `press`

    @property
    def payload(self) -> memoryview:
        """The bytes of the stretch; none of a hole."""
        return memoryview(self.message)[OVERHEAD:]


class Source:
    """Reads the tape from its files, in order, hashing as it goes."""

    def __init__(self, listing: Listing, tape: Tape) -> None:
        self._sources, self._tape = listing.sources, tape
        self._entry = 0
        self._file = -1
        self._at = 0  # in the open file
        self._digest = hashlib.sha256()
        self._pressing: Pressing | None = None  # of the open file, once it was asked for

    def read(self, offset: int, length: int, *, press: bool = False) -> Block:
        """The next stretch, at most `length` bytes or one hole; then whatever ends there. With
        `press` also how to compress it.

        A file that is not as it was listed, or shrinks or changes under way, is withdrawn.
        """
        message, room = bytearray(OVERHEAD), memoryview(b"")
        got = hole = 0
        finished: list[tuple[int, bytes]] = []
        withdrawn: list[tuple[int, int]] = []
        pressings: list[tuple[Pressing, int]] = []
        while self._entry < len(self._sources) and not hole:
            source = self._sources[self._entry]
            if source is None:
                self._entry += 1
                continue
            try:
                if self._file < 0:
                    self._open(source)
                if self._at < source.size:
                    if got == length:
                        break
                    data_at, data_end = self._next_data(source)
                    if data_at > self._at:
                        if got:
                            break
                        hole = min(data_at - self._at, MAX_HOLE)
                        self._hash_zeros(hole)
                        self._at += hole
                    else:
                        if press:
                            pressing = self._choose(source)
                            pressings.append((pressing, pressing.phase(self._at)))
                        if not got:
                            message = bytearray(OVERHEAD + length)
                            room = memoryview(message)[OVERHEAD:]
                        count = self._read(room[got : got + data_end - self._at])
                        got += count
                        self._at += count
                if self._at == source.size:
                    self._check(source)
                    finished.append((self._entry, self._digest.digest()))
                    self._close()
            except _Changed:
                withdrawn.append((self._entry, CHANGED))
                self._close()
                break
            except OSError:
                withdrawn.append((self._entry, UNREADABLE))
                self._close()
                break
        if got < length:
            message = message[: OVERHEAD + got]
        return Block(
            offset,
            hole or got,
            bool(hole),
            message,
            tuple(finished),
            tuple(withdrawn),
            *_together(pressings),
        )

    def _choose(self, source: SourceFile) -> Pressing:
        """How to compress the open file, from a few samples of it; small ones are just tried."""
        if self._pressing is None:
            if source.size < MIN_SAMPLED:
                self._pressing = Pressing(Kind.COMPRESSED)
            else:
                count = min(SAMPLES, source.size // MIN_SAMPLED)
                step = source.size // (count + 1) & ~1
                at = [step * (index + 1) for index in range(count)]
                self._pressing = choose([(i, os.pread(self._file, SAMPLE, i)) for i in at])
        return self._pressing

    def skip(self, offset: int, known: Callable[[int], bool], stopped: Stopped = _never) -> Block:
        """Begin at `offset`: the recipient has everything before it. On a fresh source only.

        What ends before is read and hashed all the same, unless it is `known`; so is the beginning
        of the file in which `offset` lies. `stopped` ends it early. Raises `Failure` then.
        """
        finished: list[tuple[int, bytes]] = []
        withdrawn: list[tuple[int, int]] = []
        while self._entry < len(self._sources) and self._tape.start(self._entry) < offset:
            source, end = self._sources[self._entry], self._tape.end(self._entry)
            if source is None or (end <= offset and known(self._entry)):
                self._entry += 1
                continue
            try:
                self._open(source)
                stop = min(end, offset) - self._tape.start(self._entry)
                self._hash_upto(source, stop, stopped)
                if end > offset:
                    break
                self._check(source)
                finished.append((self._entry, self._digest.digest()))
            except _Changed:
                withdrawn.append((self._entry, CHANGED))
            except OSError:
                withdrawn.append((self._entry, UNREADABLE))
            self._close()
        return Block(offset, 0, False, bytearray(), tuple(finished), tuple(withdrawn))

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
        # Without O_NONBLOCK, a file that became a FIFO would hang here.
        self._file = os.open(source.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._at, self._digest, self._pressing = 0, hashlib.sha256(), None
        self._check(source)

    def _check(self, source: SourceFile) -> None:
        info = os.fstat(self._file)
        if not stat.S_ISREG(info.st_mode) or source != _described(source, info):
            raise _Changed

    def _next_data(self, source: SourceFile) -> tuple[int, int]:
        """Where data begins, at or after here, and where it ends."""
        if not source.sparse:
            return self._at, source.size
        try:
            begin = os.lseek(self._file, self._at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            begin = source.size  # only a hole is left
        begin = min(begin, source.size)
        if begin - self._at >= MIN_HOLE:
            return begin, begin
        end = os.lseek(self._file, begin, os.SEEK_HOLE) if begin < source.size else source.size
        return self._at, min(end, source.size)

    def _read(self, room: memoryview) -> int:
        count = os.preadv(self._file, [room], self._at)
        if not count:
            raise _Changed  # it shrank
        self._digest.update(room[:count])
        return count

    def _hash_zeros(self, length: int) -> None:
        while length:
            step = min(length, len(_ZEROS))
            self._digest.update(_ZEROS[:step] if step < len(_ZEROS) else _ZEROS)
            length -= step

    def _close(self) -> None:
        self.close()
        self._entry += 1


def _together(pressings: list[tuple[Pressing, int]]) -> tuple[Pressing, int]:
    """How to compress a range of several files: filtered only if all of them would be."""
    kinds = {pressing.kind for pressing, _ in pressings}
    if not kinds or kinds == {Kind.STORED}:
        return STORED, 0
    return pressings[0] if kinds == {Kind.FILTERED} else (Pressing(Kind.COMPRESSED), 0)


class _Changed(Exception):
    """The file is not what was listed."""


# --- what arrives ------------------------------------------------------------------------------


def disk_failure(error: OSError) -> Failure:
    """What a failing disk means for the transfer: it waits, or it ends."""
    words = "no room is left" if error.errno in (errno.ENOSPC, errno.EDQUOT) else _words(error)
    return Failure("disk_paused" if error.errno in PASSING else "disk_error", words)


def staging(directory: Path, transfer: bytes) -> Path:
    """Where the parts of a transfer into `directory` lie."""
    return directory / f".handover-{transfer.hex()[:16]}.part"


class Destination:
    """Where a transfer arrives: a staging folder beside the final place, part files by number.

    Nothing gets its final name before it is whole, synced and verified, and no text of the peer's
    names anything before `place` walks it, segment by segment, without following links.
    """

    def __init__(
        self,
        directory: Path,
        manifest: Manifest,
        tape: Tape,
        transfer: bytes,
        marked: Callable[[int, bytes], None] = lambda index, mark: None,
    ) -> None:
        self.directory, self._manifest, self._tape = directory, manifest, tape
        self._marked = marked  # called with each running digest, in the thread that reads back
        self.staging = staging(directory, transfer)
        self.placed: dict[int, str] = {}  # entry -> its path below `directory`
        self.digests: dict[int, bytes] = {}
        self._open: dict[int, int] = {}  # entry -> file descriptor
        self._dirty: set[int] = set()
        self._writing = -1  # the entry under the writer's hands: dirty only after, never closed
        self._unchecked = 0  # bytes written since the free space was looked at
        self._staged = False
        self._lock = threading.Lock()  # of the two above
        self._sync_lock = threading.Lock()  # one sync at a time; only a sync closes files
        self._gone: set[int] = set()
        self._root_fd = self._staging_fd = -1
        self._read_back = _ReadBack(self, marked)
        self._mask = os.umask(0o077)
        os.umask(self._mask)

    # --- before

    def check_room(self) -> None:
        """Raises `Failure` (no_space, not_writable) before anything is accepted."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            free, reserve = self._room()
            room = os.statvfs(self.directory)
        except OSError as error:
            raise Failure("not_writable", _words(error)) from None
        if not os.access(self.directory, os.W_OK | os.X_OK):
            raise Failure("not_writable", "permission denied")
        needed = self._manifest.room()
        if needed > free - reserve:
            text = f"{needed / 1e9:.1f} GB needed, {max(free - reserve, 0) / 1e9:.1f} GB free"
            raise Failure("no_space", text)
        if room.f_files and len(self._manifest.entries) > room.f_favail:
            raise Failure("no_space", "too many files for this disk")

    def _room(self) -> tuple[int, int]:
        """Bytes that are free, and bytes that are to stay so."""
        room = os.statvfs(self.directory)
        reserve = min(MIN_RESERVE, room.f_blocks * room.f_frsize // RESERVE_SHARE)
        return room.f_bavail * room.f_frsize, reserve

    def prepare(self, *, again: bool = False) -> None:
        """Make the staging folder, readable by nobody else; `again`: an earlier process may have.

        Raises `Failure`.
        """
        try:
            # From here on by descriptor: whoever moves or links the folder moves nothing of ours.
            self._root_fd = os.open(self.directory, os.O_DIRECTORY)
            with contextlib.suppress(*([FileExistsError] if again else [])):
                os.mkdir(self.staging.name, 0o700, dir_fd=self._root_fd)
            self._staged = True
            self._staging_fd = os.open(
                self.staging.name, os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=self._root_fd
            )
        except OSError as error:
            raise Failure("not_writable", _words(error)) from None

    def recheck(
        self, tail: int, tail_mark: bytes, marks: Sequence[bytes], stopped: Stopped = _never
    ) -> int:
        """Read back what an earlier process left, up to `tail`; how far it is as it was noted.

        `marks` are the running digests at every MARK, `tail_mark` the one at `tail`. What lies
        beyond is cut off. `stopped` ends it early. Raises `Failure` then, and `OSError`.
        """
        self._start_over()  # an earlier try may have been cut off
        good = 0
        for index, mark in enumerate(marks[: tail // MARK]):
            self._read_back.recall((index + 1) * MARK, stopped)
            if self._read_back.mark() != mark:
                break
            good = (index + 1) * MARK
        else:
            if good == tail // MARK * MARK:
                self._read_back.recall(tail, stopped)
                good = tail if self._read_back.mark() == tail_mark else good
        if self._read_back.at > good:
            self._start_over()
            self._read_back.recall(good, stopped)
        self._cut_off(good)
        return good

    def _start_over(self) -> None:
        self.digests.clear()
        self._read_back.close()
        self._read_back = _ReadBack(self, self._marked)

    def _cut_off(self, offset: int) -> None:
        """Shorten the parts to what lies before `offset`. All else comes again, and where it comes
        as a hole nothing is written, so there have to be zeros."""
        for name in filter(str.isdigit, os.listdir(self._staging_fd)):
            entry = int(name)
            if self._tape.end(entry) > offset:
                file = os.open(name, os.O_WRONLY | os.O_NOFOLLOW, dir_fd=self._staging_fd)
                try:
                    os.ftruncate(file, max(0, offset - self._tape.start(entry)))
                finally:
                    os.close(file)

    @property
    def gone(self) -> list[int]:
        """Entries that the sender gave up."""
        return sorted(self._gone)

    def begin(self, offset: int) -> None:
        """A session begins at `offset`: what was withdrawn beyond it is open again."""
        self._gone = {entry for entry in self._gone if self._tape.end(entry) <= offset}

    def usable(self) -> bool:
        """Whether there is room again for some of what is to come, and the disk takes data."""
        probe = f"probe-{os.getpid()}"
        try:
            free, reserve = self._room()
            with os.scandir(self._staging_fd) as parts:
                held = sum(part.stat(follow_symlinks=False).st_blocks * 512 for part in parts)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
            file = os.open(probe, flags, 0o600, dir_fd=self._staging_fd)
            try:
                os.pwrite(file, _ZEROS, 0)
                os.fsync(file)
            finally:
                os.close(file)
                os.unlink(probe, dir_fd=self._staging_fd)
        except OSError:
            return False
        needed = min(self._manifest.room() - held, ROOM_TO_GO_ON)
        return needed <= 0 or free - reserve >= needed

    # --- while it comes in

    def write(self, offset: int, payload: Payload) -> None:
        """Write a range. One thread at a time. Raises `OSError`."""
        view = memoryview(payload)
        for piece in self._tape.pieces(offset, len(payload)):
            file = self._part(piece.entry)
            part, view = view[: piece.length], view[piece.length :]
            at = piece.offset
            while part:
                done = os.pwrite(file, part, at)
                part, at = part[done:], at + done
            self._written(piece.entry)
        self._unchecked += len(payload)
        if self._unchecked >= CHECK_ROOM_BYTES:
            self._unchecked = 0
            free, reserve = self._room()
            if free < reserve:
                raise OSError(errno.ENOSPC, "the reserve is reached")

    def hole(self, offset: int, length: int) -> None:
        """A stretch of zeros: the part file is made at full length, so nothing is written."""
        for piece in self._tape.pieces(offset, length):
            self._part(piece.entry)
            self._written(piece.entry)

    def _written(self, entry: int) -> None:
        with self._lock:
            self._dirty.add(entry)
            self._writing = -1

    def withdraw(self, entry: int) -> None:
        """The sender gave it up: forget its part."""
        self._gone.add(entry)

    def sync(self, frontier: int) -> None:
        """Bring all that is written so far to the disk for good, and close files that are whole.

        Everything before `frontier` was written before this call. Raises `OSError`.
        """
        with self._sync_lock:
            with self._lock:
                dirty = [(entry, self._open[entry]) for entry in self._dirty]
                self._dirty.clear()
            if len(dirty) > 1:
                with ThreadPoolExecutor(min(SYNC_THREADS, len(dirty))) as pool:
                    list(pool.map(os.fsync, (file for _, file in dirty)))
            else:
                for _, file in dirty:
                    os.fsync(file)
            with self._lock:
                full = len(self._open) >= MAX_OPEN
                for entry in list(self._open):
                    whole = self._tape.end(entry) <= frontier
                    idle = entry not in self._dirty and entry != self._writing
                    if idle and (whole or full):
                        os.close(self._open.pop(entry))

    def read_back(self, upto: int) -> int:
        """Read back from the disk and hash, up to `upto` at most; how far it came.

        `upto` is synced. One thread at a time.
        """
        return self._read_back.advance(upto)

    @property
    def tail(self) -> tuple[int, bytes]:
        """How far it was read back, and the running digest there."""
        return self._read_back.tail

    def _part(self, entry: int) -> int:
        with self._lock:
            file = self._open.get(entry)
            if file is not None:
                self._writing = entry
                return file
            crowded = len(self._open) >= MAX_OPEN
        if crowded:
            self.sync(0)
        file = os.open(
            self._name(entry),
            os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW,
            0o600,
            dir_fd=self._staging_fd,
        )
        if os.fstat(file).st_size != self._manifest.entries[entry].size:
            os.ftruncate(file, self._manifest.entries[entry].size)
        with self._lock:
            self._open[entry] = file
            self._writing = entry
        return file

    def open_root(self) -> int:
        """A descriptor of the destination folder."""
        return os.dup(self._root_fd)

    def open_part(self, entry: int, *, direct: bool) -> int:
        """A part file for reading, past the page cache if `direct`. Raises `OSError`."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | (os.O_DIRECT if direct else 0)
        return os.open(self._name(entry), flags, dir_fd=self._staging_fd)

    def is_gone(self, entry: int) -> bool:
        """Whether the sender gave it up."""
        return entry in self._gone

    @property
    def tape(self) -> Tape:
        """Where each entry lies."""
        return self._tape

    def _name(self, entry: int) -> str:
        return f"{entry:08d}"

    # --- the end

    def compare(self, claimed: Results) -> Results:
        """The sender's digests held against what was read back."""
        results = Results(len(claimed))
        for index, entry in enumerate(self._manifest.entries):
            status, digest = claimed[index]
            if not status and entry.kind == "file":
                found = self.digests.get(index, None if entry.size else EMPTY_DIGEST)
                if found is None:
                    status = NOT_WRITTEN
                elif found != digest:
                    status = CHANGED
            if status:
                results.failed(index, status)
            else:
                results.delivered(index, digest)
        return results

    def choose_names(self) -> dict[str, str]:
        """Top names that are taken already, each with the free one it gets instead."""
        renamed = {}
        for entry in self._manifest.entries:
            top = entry.path.split("/")[0]
            if top not in renamed and self._exists(top):
                folder = "/" in entry.path or entry.kind == "directory"
                free = (name for name in _names(top, directory=folder) if not self._exists(name))
                renamed[top] = next(free, top)
        return renamed

    def _exists(self, name: str) -> bool:
        try:
            os.stat(name, dir_fd=self._root_fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

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
        Raises `OSError` when no room is left.
        """
        placing = _Placing(self, renamed, note, again)
        try:
            for index, entry in enumerate(self._manifest.entries):
                status, digest = results[index]
                if status:
                    continue
                try:
                    placing.place(index, entry, digest)
                except OSError as error:
                    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                        raise
                    results.failed(index, NOT_PLACED)
            placing.finish()
        finally:
            placing.close()

    def finish(self, results: Results) -> None:
        """Everything that could be is in its place: the staging folder goes."""
        if any(status == NOT_PLACED for _, status in results.failures()):
            self.close()  # what is verified but has no place yet is kept for a person to find
        else:
            self.discard()

    def part_for_placing(self, index: int, entry: Entry, *, make: bool) -> None:
        """Give a part its modified time and ordinary permissions. `make`: it is an empty file."""
        name = self._name(index)
        flags = os.O_RDWR | os.O_NOFOLLOW | (os.O_CREAT if make else 0)
        file = os.open(name, flags, 0o600, dir_fd=self._staging_fd)
        try:
            os.fchmod(file, 0o666 & ~self._mask)
            os.utime(file, ns=(entry.modified * 1000, entry.modified * 1000))
        except OverflowError:
            raise OSError(errno.EINVAL, "a time out of range") from None
        finally:
            os.close(file)

    def check_part(self, index: int, digest: bytes) -> None:
        """Raises `OSError` unless a part is what it was when it was verified."""
        _check_digest(self._name(index), self._staging_fd, digest)

    def link_part(self, index: int, name: str, folder: int, *, taken: bool) -> None:
        """Give a part its final name, never replacing a file but our own: one that this very part
        was linked to before a crash, or an empty one where the name was `taken` for it.

        Raises `FileExistsError`, `OSError`.
        """
        part = self._name(index)
        try:
            linked = self._take(part, name, folder)
        except FileExistsError:
            there = os.stat(name, dir_fd=folder, follow_symlinks=False)
            ours = os.stat(part, dir_fd=self._staging_fd, follow_symlinks=False)
            linked = os.path.samestat(there, ours)
            if not linked and not (taken and stat.S_ISREG(there.st_mode) and not there.st_size):
                raise
        if linked:
            os.unlink(part, dir_fd=self._staging_fd)
            return
        try:
            os.rename(part, name, src_dir_fd=self._staging_fd, dst_dir_fd=folder)
        except OSError:
            os.unlink(name, dir_fd=folder)
            raise

    def _take(self, part: str, name: str, folder: int) -> bool:
        """Link a part to a name; where a file system has no hard links, reserve it: False."""
        try:
            os.link(part, name, src_dir_fd=self._staging_fd, dst_dir_fd=folder)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS):
                raise
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=folder))
            return False
        return True

    def discard(self) -> None:
        """Remove the staging folder and everything in it."""
        self.close()
        if self._staged:  # somebody else's folder of that name is not ours to remove
            shutil.rmtree(self.staging, ignore_errors=True)

    def close(self) -> None:
        """Close every file."""
        with self._sync_lock, self._lock:
            for file in self._open.values():
                os.close(file)
            self._open.clear()
            self._dirty.clear()
        self._read_back.close()
        for file in (self._staging_fd, self._root_fd):
            if file >= 0:
                os.close(file)
        self._staging_fd = self._root_fd = -1


class _ReadBack:
    """Hashes part files from the disk, along the tape."""

    def __init__(self, destination: Destination, marked: Callable[[int, bytes], None]) -> None:
        self._destination, self._marked = destination, marked
        self.at, self._entry, self._file = 0, -1, -1
        self._digest = hashlib.sha256()
        self._chain = hashlib.sha256()  # over the digests of all entries that are through
        self._unnoted: list[tuple[int, bytes]] = []  # marks
        self.tail = (0, self.mark())
        # Direct reads cost a third of what dropping and refilling the page cache does.
        self._direct = True
        self._buffers = [mmap.mmap(-1, READ_BACK) for _ in range(2)]  # aligned for direct reads
        self._ahead = ThreadPoolExecutor(1, "handover-read")

    def advance(self, upto: int) -> int:
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
        tape = self._destination.tape
        for piece in tape.pieces(self.at, upto - self.at):
            if not self._destination.is_gone(piece.entry):
                with contextlib.suppress(OSError):  # the entry then has no digest, and fails
                    self._hash(piece.entry, piece.offset, piece.length, tape)
        self.at = upto
        self.tail = (upto, self.mark())

    def mark(self) -> bytes:
        """The running digest: of every entry that is through, and of the one at hand so far."""
        chain = self._chain.copy()
        if self._entry >= 0:
            chain.update(self._digest.digest())
        return chain.digest()

    def _hash(self, entry: int, offset: int, length: int, tape: Tape) -> None:
        if entry != self._entry:
            self.close()
            if offset:
                return  # it failed before; half a digest is none
            self._file = self._opened(entry)
            self._entry, self._digest = entry, hashlib.sha256()
        end = offset + length
        try:
            for block in self._blocks(offset, end):
                self._digest.update(block)
        except OSError:
            self.close()
            raise
        if end == tape.end(entry) - tape.start(entry):
            if os.fstat(self._file).st_size != end:
                self.close()
                raise OSError(errno.EIO, "longer than it was written")
            self._destination.digests[entry] = self._digest.digest()
            self._chain.update(self._digest.digest())
            self.close()

    def _opened(self, entry: int) -> int:
        """A part; where a file system has no direct reads, as tmpfs had none, without them."""
        if self._direct:
            try:
                return self._destination.open_part(entry, direct=True)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._direct = False
        return self._destination.open_part(entry, direct=False)

    def _blocks(self, offset: int, end: int) -> Iterator[memoryview]:
        """What lies between, each block read while the one before is hashed. Raises `OSError`."""
        buffer, other = self._buffers
        start = offset & ~(ALIGNMENT - 1)
        got = self._read(buffer, start)
        while True:
            behind = min(start + got, end)
            if behind <= offset:
                raise OSError(errno.EIO, "shorter than it was written")
            following = behind & ~(ALIGNMENT - 1)
            more = behind < end
            ahead = self._ahead.submit(self._read, other, following) if more else None
            try:
                yield memoryview(buffer)[offset - start : behind - start]
            finally:
                got = ahead.result() if ahead else 0
            if not more:
                return
            start, offset = following, behind
            buffer, other = other, buffer

    def _read(self, buffer: mmap.mmap, start: int) -> int:
        """Fill a buffer from the disk itself, not from the memory that was written through."""
        if self._direct:
            try:
                return os.preadv(self._file, [buffer], start)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
            self._direct = False
            direct, self._file = self._file, self._opened(self._entry)
            os.close(direct)
        # What was synced is clean, so this makes the kernel read it from the disk again.
        os.posix_fadvise(self._file, start, len(buffer), os.POSIX_FADV_DONTNEED)
        return os.preadv(self._file, [buffer], start)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = self._entry = -1


class _Placing:
    """Puts entries under their final names. A folder is entered without following any link."""

    _FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW

    def __init__(
        self,
        destination: Destination,
        renamed: dict[str, str],
        note: Callable[[], None],
        again: bool,
    ) -> None:
        self._destination, self._renamed, self._note = destination, renamed, note
        self._again = again
        self._root = destination.open_root()
        self._tops: set[str] = set()  # folders that are there, by their name as sent
        self._times: list[tuple[str, int]] = []
        self._folders: set[str] = set()
        self._here: tuple[str, int] = ("", -1)  # the folder at hand

    def place(self, index: int, entry: Entry, digest: bytes) -> None:
        """Raises `OSError` when it cannot be, or when a crash left something else there."""
        *folders, name = entry.path.split("/")
        if entry.kind == "directory":
            path = self._enter([*folders, name])[0]
            self._times.append((path, entry.modified))
        else:
            path, folder = self._enter(folders)
            name = self._link(index, name, folder, entry, digest)
            path = f"{path}/{name}" if path else name
        self._destination.placed[index] = path

    def finish(self) -> None:
        """Folders get their times, the deepest first, and all are synced."""
        for path, modified in sorted(self._times, key=lambda one: -one[0].count("/")):
            with contextlib.suppress(OSError, OverflowError), self._opened(path) as folder:
                os.utime(folder, ns=(modified * 1000, modified * 1000))
        for path in sorted(self._folders):
            with (
                contextlib.suppress(FileNotFoundError, NotADirectoryError),
                self._opened(path) as f,
            ):
                _sync_folder(f)
        _sync_folder(self._root)

    def close(self) -> None:
        """Close what is open."""
        self._leave()
        os.close(self._root)

    @contextlib.contextmanager
    def _opened(self, path: str) -> Iterator[int]:
        folder = self._descend(path.split("/"), make=False)
        try:
            yield folder
        finally:
            os.close(folder)

    def _enter(self, segments: list[str]) -> tuple[str, int]:
        """The placed path of a folder and its descriptor, made where missing."""
        if not segments:
            return "", self._root
        if segments[0] not in self._tops:
            self._make_top(segments[0])
            self._tops.add(segments[0])
        path = "/".join([self._renamed.get(segments[0], segments[0]), *segments[1:]])
        if self._here[0] != path:
            self._leave()
            self._here = (path, self._descend(path.split("/"), make=True))
            parts = path.split("/")
            self._folders.update("/".join(parts[:count]) for count in range(1, len(parts) + 1))
        return self._here

    def _leave(self) -> None:
        if self._here[1] >= 0:
            os.close(self._here[1])
        self._here = ("", -1)

    def _descend(self, segments: list[str], *, make: bool) -> int:
        folder = os.dup(self._root)
        for segment in segments:
            try:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(segment, dir_fd=folder)
                deeper = os.open(segment, self._FOLDER, dir_fd=folder)
            finally:
                os.close(folder)
            folder = deeper
        return folder

    def _make_top(self, name: str) -> None:
        """Its name was free when it was chosen: if it is there now, a crash came in between."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(self._renamed.get(name, name), dir_fd=self._root)

    def _link(self, index: int, name: str, folder: int, entry: Entry, digest: bytes) -> str:
        top = folder == self._root
        chosen = self._renamed.get(name, name) if top else name
        try:
            self._destination.part_for_placing(index, entry, make=not entry.size)
        except FileNotFoundError:
            if not self._again:
                raise
            _check_digest(chosen, folder, digest)  # placed before a crash
            return chosen
        if self._again and entry.size:
            self._destination.check_part(index, digest)
        for candidate in chain([chosen], _names(name, directory=False)):
            if candidate != chosen and top:
                self._renamed[name] = candidate
                self._note()
            # It was free when it was chosen: what is there after a crash is ours, as in a folder.
            taken = self._again and candidate == chosen
            with contextlib.suppress(FileExistsError):
                self._destination.link_part(index, candidate, folder, taken=taken)
                return candidate
        raise FileExistsError(errno.EEXIST, "too many of that name")


def _check_digest(name: str, folder: int, digest: bytes) -> None:
    """Raises `OSError` unless this file has this SHA-256."""
    with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder), "rb") as file:
        if hashlib.file_digest(file, "sha256").digest() != digest:
            raise OSError(errno.EIO, "not what was verified")


def _sync_folder(folder: int) -> None:
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # file systems that need none
            raise


def _names(name: str, *, directory: bool) -> Iterable[str]:
    """`name`, `name (1)`, `name (2)`, ..; the number stands before a file's ending."""
    yield name
    stem, ending = (name, "") if directory else os.path.splitext(name)
    for number in range(1, MAX_NAMES):
        mark = f" ({number}){ending}"
        short = stem
        while len((short + mark).encode()) > MAX_SEGMENT and short:
            short = short[:-1]
        yield short + mark


# --- years later -------------------------------------------------------------------------------


def compare(
    directory: Path, manifest: Manifest, results: Results, placed: dict[int, str]
) -> Iterator[tuple[str, str]]:
    """(path, what is wrong) of every delivered file below `directory` that is not as it was."""
    for index, entry in enumerate(manifest.entries):
        status, digest = results[index]
        path = directory / placed[index]
        if status:
            continue
        if entry.kind == "directory":
            if not path.is_dir():
                yield placed[index], "the folder is missing"
            continue
        try:
            with open(path, "rb") as file:
                if hashlib.file_digest(file, "sha256").digest() != digest:
                    yield placed[index], "its content is not what was delivered"
        except OSError as error:
            yield placed[index], _words(error)
