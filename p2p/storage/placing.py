"""Placing: what is verified gets its final names, and nothing that is there is touched.

Folders are built beside the final place first, in the staging folder, where nobody else comes.
Then each top-level name is *published*: a folder by one rename over an empty folder that was made
for it, a file by a link or an exclusively made name. So a name is always one that this transfer
made itself, whatever other programs do meanwhile, and a folder is there with everything in it or
not at all. Where a file system moves no folders, the new one is filled instead.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from ..protocol.manifest import Entry
from ..protocol.paths import MAX_SEGMENT
from .comparison import check_digest
from .durable import ENTER, NO_ROOM, sync_folder
from .filling import Filling, entered
from .parts import Parts, is_owned

MAX_NAMES = 1000  # `name (1)` to `name (999)`
TREE = "tree"  # in the staging folder: the folders, by their names as sent
BUILT = "built"  # likewise: an empty file that says that everything is in it
# A rename over a folder that somebody else uses by now, or over what is no folder.
_IN_USE = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)


class Placing:
    """Puts entries under their final names. A folder is entered without following any link."""

    def __init__(
        self,
        parts: Parts,
        renamed: dict[str, str],
        note: Callable[[], None],
        *,
        again: bool,
    ) -> None:
        """`renamed` and `note`: see `Destination.place`. `again`: after a crash."""
        self._parts, self._renamed, self._note = parts, renamed, note
        self._again = again
        self._root = os.dup(parts.root)
        with contextlib.suppress(FileExistsError):
            os.mkdir(TREE, dir_fd=parts.staging)
        self._tree = os.open(TREE, ENTER, dir_fd=parts.staging)
        self._was_built = again and _exists(BUILT, parts.staging)
        self._made: set[str] = set()  # folders of the tree that are there, by their path as sent
        self._times: list[tuple[str, int]] = []
        self._here: tuple[str, int] = ("", -1)  # the folder at hand

    def close(self) -> None:
        """Close what is open."""
        self._leave()
        os.close(self._tree)
        os.close(self._root)

    # --- building the tree

    def build(self, index: int, entry: Entry, digest: bytes) -> None:
        """Put an entry into the tree. One that belongs to no folder waits for `publish_file`.

        Raises `OSError` when it cannot be, or when a crash left something else there.
        """
        *folders, name = entry.path.split("/")
        if entry.kind == "directory":
            self._enter([*folders, name])
            self._times.append((entry.path, entry.modified))
        elif folders:
            self._move(index, entry, digest)
        elif not entry.size and not self._was_built:
            self._parts.dress(index, entry)  # made now: later, what is missing is published

    def built(self) -> None:
        """Everything is in the tree: folders get their times, the deepest first, and all is synced,
        so that a crash cannot make what is published be taken for what is missing."""
        self._leave()
        for path, modified in sorted(self._times, key=lambda one: -one[0].count("/")):
            with contextlib.suppress(OSError, OverflowError), self._opened(path) as folder:
                os.utime(folder, ns=(modified * 1000, modified * 1000))
        for path in sorted(self._made):
            gone = contextlib.suppress(FileNotFoundError, NotADirectoryError)
            with gone, self._opened(path) as folder:
                sync_folder(folder)
        sync_folder(self._tree)
        self._parts.mark(BUILT)

    def _move(self, index: int, entry: Entry, digest: bytes) -> None:
        *folders, name = entry.path.split("/")
        folder, published = self._enter(folders), self._is_published(folders[0])
        try:
            self._parts.dress(index, entry, make=not self._was_built)
        except FileNotFoundError:
            if not self._again:
                raise
            self._check_moved(folders, name, folder, digest)
            return
        if self._again and entry.size:
            self._parts.check(index, digest)
        if published:  # it had no place before a crash either
            raise FileExistsError(errno.EEXIST, "the folder is published")
        # Nobody else comes here; but a file system may take two names for one.
        if _exists(name, folder):
            begun = not entry.size or self._parts.is_copied(index)
            if not (self._again and begun):
                raise FileExistsError(errno.EEXIST, "a name that is there")
            os.unlink(name, dir_fd=folder)  # an empty file or a copy, made again after a crash
        self._parts.move(index, name, folder, entry, digest)

    def _check_moved(self, folders: list[str], name: str, folder: int, digest: bytes) -> None:
        """What was moved before a crash is in its folder of the tree, or where that was being
        emptied into. Raises `OSError` unless it is what was verified."""
        try:
            check_digest(name, folder, digest)
        except FileNotFoundError:
            if not self._parts.is_marked(_filling(folders[0])):
                raise
            final = [self._final(folders[0]), *folders[1:]]
            with contextlib.ExitStack() as stack:
                filled = self._root
                for segment in final:
                    filled = stack.enter_context(entered(segment, filled))
                check_digest(name, filled, digest)

    def _enter(self, segments: list[str]) -> int:
        """The descriptor of a folder of the tree, made where missing."""
        path = "/".join(segments)
        if self._here[0] != path:
            self._leave()
            self._here = (path, self._descend(segments, make=not self._is_published(segments[0])))
        return self._here[1]

    def _leave(self) -> None:
        if self._here[1] >= 0:
            os.close(self._here[1])
        self._here = ("", -1)

    @contextlib.contextmanager
    def _opened(self, path: str) -> Iterator[int]:
        folder = self._descend(path.split("/"), make=False)
        try:
            yield folder
        finally:
            os.close(folder)

    def _descend(self, segments: list[str], *, make: bool) -> int:
        top, *_ = segments
        if self._is_published(top):
            folder, segments = os.dup(self._root), [self._final(top), *segments[1:]]
        else:
            folder = os.dup(self._tree)
        for count, segment in enumerate(segments, 1):
            path = "/".join(segments[:count])
            try:
                if make and path not in self._made:
                    self._make(segment, folder)
                    self._made.add(path)
                deeper = os.open(segment, ENTER, dir_fd=folder)
            finally:
                os.close(folder)
            folder = deeper
        return folder

    def _make(self, name: str, folder: int) -> None:
        try:
            os.mkdir(name, dir_fd=folder)
        except FileExistsError:
            # After a crash it may be there; two names that a file system takes for one must not be.
            if not self._again or name not in os.listdir(folder):
                raise

    # --- publishing

    def _final(self, name: str) -> str:
        return self._renamed.get(name, name)

    def _is_published(self, top: str) -> bool:
        """Whether a folder had its final name before a crash."""
        return self._was_built and not _exists(top, self._tree)

    def publish_folder(self, name: str) -> str:
        """Give a folder of the tree, and all that is in it, its final name. Raises `OSError`."""
        if self._is_published(name):
            return self._final(name)
        if self._again and self._parts.is_marked(_filling(name)):
            return self._fill(name, self._final(name))
        for candidate in self._candidates(name, directory=True):
            try:
                os.mkdir(candidate, 0o700, dir_fd=self._root)  # now the name is ours
            except FileExistsError:
                if not self._is_claim(candidate, name):
                    continue
            try:
                os.rename(name, candidate, src_dir_fd=self._tree, dst_dir_fd=self._root)
            except OSError as error:
                if error.errno not in (*_IN_USE, *NO_ROOM):
                    self._parts.mark(_filling(name))  # the folder is ours from now on
                    return self._fill(name, candidate)
                with contextlib.suppress(OSError):
                    os.rmdir(candidate, dir_fd=self._root)
                if error.errno not in _IN_USE:
                    raise
            else:
                return candidate
        raise FileExistsError(errno.EEXIST, "too many of that name")

    def _fill(self, name: str, final: str) -> str:
        """What a folder of the tree holds goes into the one that was made for it, file by file."""

        def mark(path: str) -> str:
            return f"copied-{hashlib.sha256(path.encode()).hexdigest()[:32]}"

        filling = Filling(
            lambda path: self._parts.is_marked(mark(name + path)),
            lambda path: self._parts.mark(mark(name + path)),
        )
        with entered(name, self._tree) as source, entered(final, self._root) as target:
            if not is_owned(target, self._root):
                raise PermissionError(errno.EPERM, "a folder that somebody else has")
            filling.fill(source, target)
            for path, modified in sorted(self._times, key=lambda one: -one[0].count("/")):
                if path.split("/")[0] == name:
                    self._set_time(target, path.split("/")[1:], modified)
        with contextlib.suppress(OSError):  # nobody may delete
            os.rmdir(name, dir_fd=self._tree)
        return final

    def _set_time(self, folder: int, below: list[str], modified: int) -> None:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError, OverflowError):
            for segment in below:
                folder = stack.enter_context(entered(segment, folder))
            os.utime(folder, ns=(modified * 1000, modified * 1000))

    def _is_claim(self, candidate: str, name: str) -> bool:
        """Whether a folder that is there was made for this name before a crash: it is the one that
        is noted, ours, and empty."""
        if not self._was_built or candidate != self._final(name):
            return False
        try:
            folder = os.open(candidate, ENTER, dir_fd=self._root)
        except OSError:
            return False
        try:
            return is_owned(folder, self._root) and not os.listdir(folder)
        finally:
            os.close(folder)

    def publish_file(self, index: int, name: str, entry: Entry, digest: bytes) -> str:
        """Give a file that belongs to no folder its final name. Raises `OSError`."""
        try:
            self._parts.dress(index, entry, make=False)
        except FileNotFoundError:
            if not self._again:
                raise
            check_digest(self._final(name), self._root, digest)  # published before a crash
            return self._final(name)
        if self._again and entry.size:
            self._parts.check(index, digest)
        for candidate in self._candidates(name, directory=False):
            with contextlib.suppress(FileExistsError):
                self._parts.link(index, candidate, self._root, entry, digest)
                return candidate
        raise FileExistsError(errno.EEXIST, "too many of that name")

    def _candidates(self, name: str, *, directory: bool) -> Iterator[str]:
        """Names to try; each but the first is noted before."""
        first = self._final(name)
        for candidate in chain([first], free_names(name, directory=directory)):
            if candidate != first:
                self._renamed[name] = candidate
                self._note()
            yield candidate

    def finish(self) -> None:
        """Everything is published."""
        sync_folder(self._root)


def _filling(name: str) -> str:
    """Says that a folder is being filled under its final name."""
    return f"filling-{hashlib.sha256(name.encode()).hexdigest()[:32]}"


def _exists(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def free_names(name: str, *, directory: bool) -> Iterable[str]:
    """`name`, `name (1)`, `name (2)`, ..; the number stands before a file's ending."""
    yield name
    stem, ending = (name, "") if directory else os.path.splitext(name)
    for number in range(1, MAX_NAMES):
        mark = f" ({number})"
        yield _fit(stem, mark, ending) or _fit(name, mark, "")


def _fit(stem: str, mark: str, ending: str) -> str:
    """The name, its stem shortened to what a file system takes; "" where nothing is left of it."""
    while stem and len((stem + mark + ending).encode()) > MAX_SEGMENT:
        stem = stem[:-1]
    return stem + mark + ending if stem else ""
