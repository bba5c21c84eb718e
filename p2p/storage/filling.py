"""A folder that a file system does not move: it is made anew elsewhere and filled file by file."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator

from .comparison import check_digest
from .durable import ENTER, NO_FOLLOW, hard_link, set_mode, sync_folder

COPIED = 1024 * 1024  # bytes at once


class Filling:
    """Empties one folder into another, on one file system or not; what a crash leaves is gone on
    with. Nothing that somebody else puts there meanwhile is touched. Times of folders are left to
    whoever knows them."""

    def __init__(self, is_begun: Callable[[str], bool], begin: Callable[[str], None]) -> None:
        """`begin` notes for good that a file was made to be copied into, by its path; `is_begun`
        tells whether it was."""
        self._is_begun, self._begin = is_begun, begin

    def fill(self, source: int, target: int, path: str = "") -> None:
        """By descriptors; `path` is that of both below where it began. Raises `OSError`."""
        for name in sorted(os.listdir(source)):
            info = os.stat(name, dir_fd=source, follow_symlinks=False)
            below = f"{path}/{name}"
            if stat.S_ISDIR(info.st_mode):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=target)
                with entered(name, source) as inner, entered(name, target) as made:
                    self.fill(inner, made, below)
                with contextlib.suppress(OSError):  # nobody may delete
                    os.rmdir(name, dir_fd=source)
            else:
                self._move(name, source, target, below)
        with contextlib.suppress(OSError):
            set_mode(target, stat.S_IMODE(os.fstat(source).st_mode))
        sync_folder(target)

    def _move(self, name: str, source: int, target: int, path: str) -> None:
        try:
            linked = hard_link(name, source, name, target)
        except FileExistsError:
            linked = _is_same(name, source, target)
            if not linked and not self._is_begun(path):
                raise
        if not linked:
            self._copy(name, source, target, path)
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=source)

    def _copy(self, name: str, source: int, target: int, path: str) -> None:
        again = self._is_begun(path)  # what lies there is ours, and perhaps not whole
        how = os.O_RDWR | os.O_CREAT | NO_FOLLOW | (os.O_TRUNC if again else os.O_EXCL)
        with (
            open(os.open(name, os.O_RDONLY | NO_FOLLOW, dir_fd=source), "rb") as content,
            open(os.open(name, how, 0o600, dir_fd=target), "r+b") as made,
        ):
            if not again:
                self._begin(path)  # it is ours for certain, and nothing is in it yet
            digest = hashlib.file_digest(content, "sha256").digest()
            content.seek(0)
            shutil.copyfileobj(content, made, COPIED)
            made.flush()
            _dress(made.fileno(), os.fstat(content.fileno()))
            os.fsync(made.fileno())
        check_digest(name, target, digest)


@contextlib.contextmanager
def entered(name: str, folder: int) -> Iterator[int]:
    """The descriptor of a folder in a folder, entered through no link. Raises `OSError`."""
    inner = os.open(name, ENTER, dir_fd=folder)
    try:
        yield inner
    finally:
        os.close(inner)


def _is_same(name: str, source: int, target: int) -> bool:
    ours, there = (os.stat(name, dir_fd=one, follow_symlinks=False) for one in (source, target))
    return os.path.samestat(ours, there)


def _dress(file: int, info: os.stat_result) -> None:
    """Times and permissions of what it was made from, as far as the file system takes them."""
    with contextlib.suppress(OSError):
        set_mode(file, stat.S_IMODE(info.st_mode))
    with contextlib.suppress(OSError):
        os.utime(file, ns=(info.st_atime_ns, info.st_mtime_ns))
