"""What an operating system offers for files: reading and writing at an offset, space, holes, links,
whole replacement, syncing, locks, direct reads.

Everything that is not the same everywhere stands here, and nothing here fails to import where the
system has less (no `fcntl`, `O_DIRECT` or `posix_fadvise` on Windows, say).
"""

from __future__ import annotations

import ctypes
import errno
import logging
import mmap
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ..protocol.errors import Failure
from ..protocol.sentences import os_detail

NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)  # open no symbolic link
DIRECTORY = getattr(os, "O_DIRECTORY", 0)
CLOSE_ON_EXEC = getattr(os, "O_CLOEXEC", 0)
NON_BLOCKING = getattr(os, "O_NONBLOCK", 0)
DIRECT = getattr(os, "O_DIRECT", 0)  # read past the page cache; 0 where there is no such thing
ENTER_ONLY = DIRECTORY | getattr(os, "O_PATH", 0)  # a folder that may not be listed, too
ENTER = DIRECTORY | NO_FOLLOW  # a folder, without following a link
LOCK_POLL_SECONDS = 0.01
USUAL_DESCRIPTORS = 1024  # that a process may have, where the system does not say
SYNC_FILE_RANGE_WAIT_BEFORE, SYNC_FILE_RANGE_WRITE = 1, 2  # linux/fs.h
_SEEKING = threading.Lock()  # where a file can be read only from where it stands
# Nothing can be written here for now, whatever it is.
NO_ROOM = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EROFS)
# What waiting does not change. Anything else may pass: no space, a share that is away (which has a
# name of its own on every kind of file system), a cable that is out.
_LASTING = (
    errno.EPERM,
    errno.EBADF,
    errno.EEXIST,
    errno.EFBIG,
    errno.EINVAL,
    errno.EISDIR,
    errno.ENOENT,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOSYS,
    errno.ENOTDIR,
    errno.EOPNOTSUPP,
    errno.EOVERFLOW,
    errno.EXDEV,
)


def disk_failure(error: OSError) -> Failure:
    """What a failing disk means for the transfer: it waits, or it ends. Descriptors that have run
    out are no failure of a disk, and come back."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return Failure("descriptors_short")
    return Failure("disk_error" if error.errno in _LASTING else "disk_paused", os_detail(error))


def read_at(file: int, buffer: memoryview | mmap.mmap, offset: int) -> int:
    """Read into a buffer; the number of bytes, 0 at the end. Raises `OSError`."""
    if hasattr(os, "preadv"):
        return os.preadv(file, [buffer], offset)
    with _SEEKING:
        os.lseek(file, offset, os.SEEK_SET)
        data = os.read(file, len(buffer))
    buffer[: len(data)] = data
    return len(data)


def write_at(file: int, data: bytes | memoryview, offset: int) -> int:
    """Write a part of the data, if not all; the number of bytes. Raises `OSError`."""
    if hasattr(os, "pwrite"):
        return os.pwrite(file, data, offset)
    with _SEEKING:
        os.lseek(file, offset, os.SEEK_SET)
        return os.write(file, data)


class Space(NamedTuple):
    """The room of a file system: in bytes, all (0 where it does not say) and what is free for us;
    and how many more files it can hold, None where it does not say."""

    size: int
    free: int
    files: int | None


def space_of(folder: Path) -> Space:
    """The room where a folder lies. Raises `OSError`."""
    disk = shutil.disk_usage(folder)
    files = os.statvfs(folder) if hasattr(os, "statvfs") else None
    return Space(disk.total, disk.free, files.f_favail if files and files.f_files else None)


def taken_by(info: os.stat_result) -> int:
    """Bytes of disk that a file takes; its size, where the system does not say."""
    return info.st_blocks * 512 if hasattr(info, "st_blocks") else info.st_size


def is_private(info: os.stat_result) -> bool:
    """Whether what this describes is this user's own, and nobody else may change it; true where the
    system does not tell users apart."""
    return not hasattr(os, "geteuid") or (info.st_uid == os.geteuid() and not info.st_mode & 0o022)


def expose_writes(file: int) -> None:
    """Have whatever is written to a file from now on move its times, also by a memory mapping.

    A page of a mapping that is dirty already takes more without a trace; once it is being written
    out, the next write to it is seen. What is clean costs microseconds. Where there is no disk
    behind a file (tmpfs), or no such call (other systems), nothing.
    """
    call = _sync_file_range()
    if call is not None:
        call(file, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE)


@cache
def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    """sync_file_range(2) of Linux, by the C library."""
    if sys.platform != "linux":
        return None
    call: Any = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if call is not None:
        call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return call  # type: ignore[no-any-return]


def next_data(file: int, offset: int) -> int | None:
    """Where data begins at or after `offset`, None where only a hole is left; `offset` itself where
    the system knows no holes. Raises `OSError`."""
    if not hasattr(os, "SEEK_DATA"):
        return offset
    try:
        return os.lseek(file, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return None


def next_hole(file: int, offset: int, size: int) -> int:
    """Where the next hole begins after `offset`, or `size`. Raises `OSError`."""
    return os.lseek(file, offset, os.SEEK_HOLE) if hasattr(os, "SEEK_HOLE") else size


def set_mode(file: int, mode: int) -> None:
    """Give an open file its permissions, where files have any. Raises `OSError`."""
    if hasattr(os, "fchmod"):
        os.fchmod(file, mode)


def hard_link(name: str, folder: int, new: str, new_folder: int) -> bool:
    """Give a file another name, in folders of these descriptors; False where the file system does
    not do that, which each says in its own way. Raises `FileExistsError`; `OSError` where nothing
    can be written."""
    if not hasattr(os, "link"):
        return False
    try:
        os.link(name, new, src_dir_fd=folder, dst_dir_fd=new_folder)
    except OSError as error:
        if isinstance(error, FileExistsError) or error.errno in NO_ROOM:
            raise
        return False
    return True


def sync_folder(folder: int) -> None:
    """Sync a folder's names. Raises `OSError`."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # file systems that need none
            raise


def replace_whole(path: Path, *parts: bytes) -> None:
    """Replace a file; after a crash it is either the old or the new one. Raises `OSError`."""
    replace_with(path, parts)


def replace_with(path: Path, parts: Iterable[bytes]) -> None:
    """The same with what comes bit by bit. Raises `OSError`, and whatever `parts` raises."""
    file, name = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(file, "wb") as stream:
            for part in parts:
                stream.write(part)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
    if DIRECTORY:  # elsewhere a folder cannot be opened
        folder = os.open(path.parent, DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class FileLock:
    """A lock between processes, and between threads that each make their own. It goes with its
    process, on every file system that can lock files; any thread may release it."""

    def __init__(self, path: Path) -> None:
        import filelock  # a twentieth of a second that no link should wait for

        logging.getLogger("filelock").setLevel(logging.WARNING)  # it logs paths
        self._busy = filelock.Timeout
        self._lock = filelock.FileLock(
            path, mode=0o600, poll_interval=LOCK_POLL_SECONDS, thread_local=False
        )

    def acquire(self) -> None:
        """Wait for it. Raises `OSError`."""
        self._lock.acquire()

    def try_acquire(self) -> bool:
        """Whether it could be had at once. Raises `OSError`."""
        try:
            self._lock.acquire(blocking=False)
        except self._busy:
            return False
        return True

    def release(self) -> None:
        """Let others have it."""
        self._lock.release()


class Taken(OSError):
    """A lock is held by another."""


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock at `path` inside. Raises `OSError`: `Taken` where it is not to be waited
    for."""
    lock = FileLock(path)
    if wait:
        lock.acquire()
    elif not lock.try_acquire():
        raise Taken
    try:
        yield
    finally:
        lock.release()


def descriptors() -> int:
    """How many files and connections this process may have open."""
    try:
        import resource
    except ImportError:  # Windows
        return USUAL_DESCRIPTORS
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return USUAL_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def drop_from_cache(file: int, offset: int, length: int) -> None:
    """Have the next read of what was synced come from the disk, where the system can do so."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, offset, length, os.POSIX_FADV_DONTNEED)


def ordinary_mode(folder: int) -> int:
    """The permissions that a new file gets in a folder, asked by making one: `umask` can only be
    read by changing it, for the whole process. Raises `OSError`."""
    name = f"mode-{os.getpid()}-{os.urandom(4).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOW | CLOSE_ON_EXEC
    file = os.open(name, flags, 0o666, dir_fd=folder)
    try:
        return os.fstat(file).st_mode & 0o777
    finally:
        os.close(file)
        with suppress(OSError):  # some shares let nobody delete
            os.unlink(name, dir_fd=folder)


def step_back(niceness: int) -> None:
    """Lower the priority of the calling thread, where the system can."""
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)


def uptime() -> tuple[str, int]:
    """Which boot of the machine this is, and its seconds since then, asleep or not: a clock that
    nobody sets. The first is empty where nothing tells it, and the second then 0."""
    import time

    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return boot, int(time.clock_gettime(time.CLOCK_BOOTTIME))
    except (OSError, AttributeError):
        return "", 0
