"""Placing: what is verified gets its final names, and nothing that is there is replaced."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from ..protocol.manifest import Entry
from ..protocol.paths import MAX_SEGMENT
from .comparison import check_digest
from .durable import ENTER, sync_folder
from .parts import Parts

MAX_NAMES = 1000  # `name (1)` to `name (999)`


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
        self._tops: set[str] = set()  # folders that are there, by their name as sent
        self._times: list[tuple[str, int]] = []
        self._folders: set[str] = set()
        self._here: tuple[str, int] = ("", -1)  # the folder at hand

    def place(self, index: int, entry: Entry, digest: bytes) -> str:
        """The path an entry has now, below the destination folder.

        Raises `OSError` when it cannot be, or when a crash left something else there.
        """
        *folders, name = entry.path.split("/")
        if entry.kind == "directory":
            path = self._enter([*folders, name])[0]
            self._times.append((path, entry.modified))
        else:
            path, folder = self._enter(folders)
            name = self._link(index, name, folder, entry, digest)
            path = f"{path}/{name}" if path else name
        return path

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
                sync_folder(f)
        sync_folder(self._root)

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
                deeper = os.open(segment, ENTER, dir_fd=folder)
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
            self._parts.dress(index, entry)
        except FileNotFoundError:
            if not self._again:
                raise
            check_digest(chosen, folder, digest)  # placed before a crash
            return chosen
        if self._again and entry.size:
            self._parts.check(index, digest)
        for candidate in chain([chosen], free_names(name, directory=False)):
            if candidate != chosen and top:
                self._renamed[name] = candidate
                self._note()
            # It was free when it was chosen: what is there after a crash is ours, as in a folder.
            taken = self._again and candidate == chosen
            with contextlib.suppress(FileExistsError):
                self._parts.link(index, candidate, folder, taken=taken)
                return candidate
        raise FileExistsError(errno.EEXIST, "too many of that name")


def free_names(name: str, *, directory: bool) -> Iterable[str]:
    """`name`, `name (1)`, `name (2)`, ..; the number stands before a file's ending."""
    yield name
    stem, ending = (name, "") if directory else os.path.splitext(name)
    for number in range(1, MAX_NAMES):
        mark = f" ({number}){ending}"
        short = stem
        while len((short + mark).encode()) > MAX_SEGMENT and short:
            short = short[:-1]
        yield short + mark
