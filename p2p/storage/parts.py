"""The parts of a transfer that has not its final names yet: a staging folder, files by number.

No text of the peer's names anything here. By descriptor from `open` on: whoever moves or links the
folders moves nothing of ours.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..protocol.errors import Failure
from ..protocol.manifest import Entry
from ..protocol.paths import shown
from ..protocol.sentences import os_detail
from ..protocol.tape import Tape
from .comparison import check_digest
from .durable import (
    DIRECT,
    DIRECTORY,
    ENTER,
    NO_FOLLOW,
    NO_ROOM,
    NON_BLOCKING,
    descriptors,
    hard_link,
    is_private,
    ordinary_mode,
    set_mode,
    sync_folder,
    taken_by,
    write_at,
)

MAX_OPEN, OPEN_SHARE = 256, 4  # part files open at once, and their share of the process's limit
COPIED = 1024 * 1024  # bytes at once
SYNC_THREADS = 8  # small files: fsyncs one by one cost twice as much


def staging_folder(directory: Path, transfer: bytes) -> Path:
    """Where the parts of a transfer into `directory` lie."""
    return directory / f".handover-{transfer.hex()[:16]}.part"


def _sync(files: Iterable[int]) -> None:
    for file in files:
        os.fsync(file)


class Parts:
    """The staging folder `folder` below its `folder.parent`, and the part of each entry in it."""

    def __init__(self, folder: Path, entries: Sequence[Entry], tape: Tape) -> None:
        self.folder = folder
        self._entries, self._tape = entries, tape
        self._open: dict[int, int] = {}  # entry -> file descriptor
        self._most = min(MAX_OPEN, max(descriptors() // OPEN_SHARE, 1))
        self._dirty: set[int] = set()
        self._writing = -1  # the entry under the writer's hands: dirty only after, never closed
        self._lock = threading.Lock()  # of the three above
        self._sync_lock = threading.Lock()  # one sync at a time; only a sync closes files
        self._ours = False  # somebody else's folder of that name is not ours to remove
        self._mode: int | None = None  # of what is placed, once it is known
        self.refused = False  # whether the file system refused a time or permissions
        self.root = self.staging = -1  # descriptors of the destination folder and of this one

    def open(self, *, again: bool, make: bool = True) -> None:
        """Make the folder, readable by nobody else; `again`: it may be there, without `make` it has
        to be. Raises `Failure`."""
        try:
            self.root = os.open(self.folder.parent, DIRECTORY)
            with contextlib.suppress(*([FileExistsError] if again else [])):
                if make:
                    os.mkdir(self.folder.name, 0o700, dir_fd=self.root)
            self.staging = os.open(self.folder.name, ENTER, dir_fd=self.root)
            self._ours = is_owned(self.staging, self.root)
        except OSError as error:
            self.close()
            raise Failure("not_writable", os_detail(error)) from None
        if not self._ours:
            self.close()
            raise Failure("parts_foreign", shown(str(self.folder), 256))

    def is_alive(self) -> bool:
        """Whether the folder still is what the descriptors lead to: a share that went away and came
        back is another one to them."""
        try:
            os.listdir(self.staging)
            return os.fstat(self.staging).st_nlink > 0
        except OSError:
            return False

    # --- while it comes in

    def writable(self, entry: int) -> int:
        """The part of an entry, made at full length, for `written` to be called next. One thread at
        a time. Raises `OSError`."""
        with self._lock:
            file = self._open.get(entry)
            if file is not None:
                self._writing = entry
                return file
            crowded = len(self._open) >= self._most
        if crowded:
            self.sync(0)
        file = self._reopen(_name(entry), os.O_RDWR | os.O_CREAT)
        if os.fstat(file).st_size != self._entries[entry].size:
            os.ftruncate(file, self._entries[entry].size)
        with self._lock:
            self._open[entry] = file
            self._writing = entry
        return file

    def _reopen(self, name: str, flags: int, *, links: int = 1) -> int:
        """Open a part that is nobody else's: no symbolic link, a file of this user's, of at most so
        many names. Raises `OSError`."""
        file = os.open(name, flags | NO_FOLLOW | NON_BLOCKING, 0o600, dir_fd=self.staging)
        info, owner = os.fstat(file), os.fstat(self.staging).st_uid
        if not stat.S_ISREG(info.st_mode) or info.st_nlink > links or info.st_uid != owner:
            os.close(file)
            raise PermissionError(errno.EPERM, "a part that somebody else has")
        return file

    def written(self, entry: int) -> None:
        """What was to be written to a part is."""
        with self._lock:
            self._dirty.add(entry)
            self._writing = -1

    def sync(self, frontier: int) -> None:
        """Bring all that is written so far to the disk for good, and close files that are whole.

        Everything before `frontier` was written before this call. Raises `OSError`.
        """
        with self._sync_lock:
            with self._lock:
                dirty = [self._open[entry] for entry in self._dirty]
                self._dirty.clear()
            if len(dirty) > 1:
                with ThreadPoolExecutor(SYNC_THREADS) as pool:
                    list(pool.map(_sync, (dirty[at::SYNC_THREADS] for at in range(SYNC_THREADS))))
            else:
                _sync(dirty)
            with self._lock:
                full = len(self._open) >= self._most
                for entry in list(self._open):
                    whole = self._tape.end(entry) <= frontier
                    idle = entry not in self._dirty and entry != self._writing
                    if idle and (whole or full):
                        os.close(self._open.pop(entry))

    def readable(self, entry: int, *, direct: bool) -> int:
        """A part for reading, past the page cache if `direct`. Raises `OSError`; `EINVAL` where
        there is no such thing."""
        if direct and not DIRECT:
            raise OSError(errno.EINVAL, "no direct reads")
        return self._reopen(_name(entry), os.O_RDONLY | (DIRECT if direct else 0))

    def held(self) -> int:
        """Bytes of disk that the parts take. Raises `OSError`."""
        return sum(
            taken_by(os.stat(name, dir_fd=folder, follow_symlinks=False))
            for _, _, names, folder in os.fwalk(".", dir_fd=self.staging)
            for name in names
        )

    def probe(self, data: bytes) -> None:
        """Write, sync and remove a file. Raises `OSError`."""
        file = self._reopen("probe", os.O_RDWR | os.O_CREAT)
        try:
            write_at(file, data, 0)
            os.fsync(file)
        finally:
            with contextlib.suppress(OSError):  # some shares let nobody delete
                os.ftruncate(file, 0)
                os.unlink("probe", dir_fd=self.staging)
            os.close(file)

    def cut_off(self, offset: int) -> None:
        """Shorten the parts to what lies before `offset`. All else comes again, and where it comes
        as a hole nothing is written, so there have to be zeros. Raises `OSError`."""
        for name in filter(str.isdigit, os.listdir(self.staging)):
            entry = int(name)
            if self._tape.end(entry) > offset:
                file = self._reopen(name, os.O_WRONLY)
                try:
                    os.ftruncate(file, max(0, offset - self._tape.start(entry)))
                finally:
                    os.close(file)

    # --- the end

    def mark(self, name: str) -> None:
        """Leave an empty file of this name, for good. Raises `OSError`."""
        os.close(self._reopen(name, os.O_WRONLY | os.O_CREAT))
        sync_folder(self.staging)

    def is_marked(self, name: str) -> bool:
        """Whether there is such a file. Raises `OSError`."""
        try:
            os.stat(name, dir_fd=self.staging, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def move(self, index: int, name: str, folder: int, entry: Entry, digest: bytes) -> None:
        """Move a part to where only this transfer is. Raises `OSError`."""
        self._rename(index, name, folder, entry, digest)

    def dress(self, index: int, entry: Entry, *, make: bool = True) -> None:
        """Give a part its modified time and ordinary permissions, as far as the file system takes
        them; one that is empty is made, unless `make` is false.

        Raises `OSError`, `FileNotFoundError` where it has its place already.
        """
        flags = os.O_RDWR | (0 if entry.size or not make else os.O_CREAT)
        file = self._reopen(_name(index), flags, links=2)  # after a crash, its final name
        try:
            self._dress(file, entry)
        finally:
            os.close(file)

    def _dress(self, file: int, entry: Entry) -> None:
        with self._if_taken():
            if self._mode is None:
                self._mode = ordinary_mode(self.staging)
            set_mode(file, self._mode)
        with self._if_taken():
            os.utime(file, ns=(entry.modified * 1000, entry.modified * 1000))

    @contextlib.contextmanager
    def _if_taken(self) -> Iterator[None]:
        """What a file system refuses here does not cost a file its place. Raises `OSError`."""
        try:
            yield
        except (OSError, OverflowError) as error:
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                raise
            self.refused = True

    def check(self, index: int, digest: bytes) -> None:
        """Raises `OSError` unless a part is what it was when it was verified."""
        check_digest(_name(index), self.staging, digest)

    def is_copied(self, index: int) -> bool:
        """Whether what bears the final name of a part may be the beginning of a copy of it."""
        return self.is_marked(_copy_of(index))

    def _rename(self, index: int, name: str, folder: int, entry: Entry, digest: bytes) -> None:
        """Give a part a name that is free or ours; by a copy, where it cannot be moved. Raises
        `OSError`."""
        part = _name(index)
        try:
            os.rename(part, name, src_dir_fd=self.staging, dst_dir_fd=folder)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise
            self.mark(_copy_of(index))  # so that a crash leaves no doubt whose it is
            try:
                self._copy(part, name, folder, entry)
                check_digest(name, folder, digest)
            except OSError:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=folder)
                raise
            with contextlib.suppress(OSError):
                os.unlink(part, dir_fd=self.staging)

    def _copy(self, part: str, name: str, folder: int, entry: Entry) -> None:
        with (
            open(part, "rb", opener=_below(self.staging)) as content,
            open(name, "wb", opener=_below(folder)) as made,
        ):
            shutil.copyfileobj(content, made, COPIED)
            made.flush()
            self._dress(made.fileno(), entry)
            os.fsync(made.fileno())

    def link(self, index: int, name: str, folder: int, entry: Entry, digest: bytes) -> None:
        """Give a part its final name, never replacing a file but our own: one that this very part
        was linked to before a crash, or an empty one that was to reserve the name.

        Raises `FileExistsError`, `OSError`.
        """
        part = _name(index)
        try:
            linked = self._take(part, name, folder)
        except FileExistsError:
            there = os.stat(name, dir_fd=folder, follow_symlinks=False)
            ours = os.stat(part, dir_fd=self.staging, follow_symlinks=False)
            linked = os.path.samestat(there, ours)
            reserved = not linked and self.is_marked(_reservation(index))
            begun = not there.st_size or self.is_copied(index)
            if not linked and not (reserved and stat.S_ISREG(there.st_mode) and begun):
                raise
        if linked:
            with contextlib.suppress(OSError):  # it has both names then
                os.unlink(part, dir_fd=self.staging)
            return
        try:
            self._rename(index, name, folder, entry, digest)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=folder)
            raise

    def _take(self, part: str, name: str, folder: int) -> bool:
        """Link a part to a name; where a file system has no hard links, reserve it: False."""
        if hard_link(part, self.staging, name, folder):
            return True
        self.mark(_reservation(int(part)))  # so that a crash leaves no doubt whose it is
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | NO_FOLLOW, 0o600, dir_fd=folder))
        return False

    def discard(self) -> None:
        """Remove the folder and everything in it."""
        if self._ours and self.root >= 0:
            self._close_parts()
            shutil.rmtree(self.folder.name, ignore_errors=True, dir_fd=self.root)
        self.close()

    def _close_parts(self) -> None:
        with self._sync_lock, self._lock:
            while self._open:
                _, file = self._open.popitem()
                with contextlib.suppress(OSError):  # what was not synced counts for nothing
                    os.close(file)
            self._dirty.clear()

    def close(self) -> None:
        """Close every file."""
        self._close_parts()
        folders, self.staging, self.root = (self.staging, self.root), -1, -1
        for file in folders:
            if file >= 0:
                with contextlib.suppress(OSError):
                    os.close(file)


def is_owned(folder: int, parent: int) -> bool:
    """Whether a folder is this user's, as far as the file system tells users apart: it is owned as
    one that is made beside it now. Raises `OSError`."""
    info = os.fstat(folder)
    if is_private(info):
        return True
    name = f".handover-{os.urandom(8).hex()}"
    os.mkdir(name, 0o700, dir_fd=parent)
    try:
        made = os.stat(name, dir_fd=parent, follow_symlinks=False)
    finally:
        os.rmdir(name, dir_fd=parent)
    return not is_private(made) and (made.st_uid, made.st_mode) == (info.st_uid, info.st_mode)


def remove_parts(folder: Path) -> bool:
    """Remove a staging folder of an earlier process; whether nothing is left of it. It is entered
    through no link, and left alone where it is somebody else's."""
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        parent = os.open(folder.parent, DIRECTORY)
        stack.callback(os.close, parent)
        staging = os.open(folder.name, ENTER, dir_fd=parent)
        stack.callback(os.close, staging)
        if is_owned(staging, parent):
            shutil.rmtree(folder.name, ignore_errors=True, dir_fd=parent)
    return not os.path.lexists(folder)


def _below(folder: int) -> Callable[[str, int], int]:
    """Opens names in the folder of this descriptor, and follows no link."""
    return lambda name, flags: os.open(name, flags | NO_FOLLOW, 0o600, dir_fd=folder)


def _reservation(entry: int) -> str:
    """Says that the final name of an entry is reserved by an empty file, or about to be."""
    return f"reserved-{entry}"


def _copy_of(entry: int) -> str:
    """Says that what lies under the final name of an entry may be a copy that is not whole."""
    return f"copied-{entry}"


def _name(entry: int) -> str:
    return f"{entry:08d}"
