"""What is to be sent: files and folders of this disk, listed as entries."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from ..protocol.codec import MAX_INTEGER
from ..protocol.errors import Failure
from ..protocol.manifest import MAX_ENTRIES, Entry, EntryKind, Skipped, SkippedKind
from ..protocol.paths import (
    MAX_SEGMENTS,
    FolderNames,
    TooManyNames,
    UnsafePath,
    check_segment,
    check_tree,
    escape_segment,
    shown,
)
from ..protocol.sentences import Detail, os_detail
from .durable import DIRECTORY, ENTER, ENTER_ONLY, taken_by
from .ports import Stopped, never


@dataclass(frozen=True, slots=True)
class SourceFile:
    """An entry's place on this disk, and what it looked like when it was listed. No part of the
    path was a link then."""

    path: str
    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int  # by the system; no program can set it
    sparse: bool


# A source that is a directory, and one of whatever kind that could not be read.
DIRECTORY_SOURCE = None
UNREAD: Literal["unread"] = "unread"
EntrySource = SourceFile | Literal["unread"] | None


def find_again(source: SourceFile) -> SourceFile | None:
    """A source after a restart; None when it is not what it was."""
    try:
        info = os.lstat(source.path)
    except (OSError, ValueError):
        return None
    again = on_device(source, info)
    return again if stat.S_ISREG(info.st_mode) and is_alike(again, info) else None


def on_device(source: SourceFile, info: os.stat_result) -> SourceFile:
    """As a file is listed on another device: a file system that was away may come back as one, and
    a share number its files anew. Whatever is read of it is hashed from the first byte on."""
    if info.st_dev == source.device:
        return source
    return replace(source, device=info.st_dev, inode=info.st_ino)


def is_alike(source: SourceFile, info: os.stat_result) -> bool:
    """Whether a file looks as it was listed. The system's own time of change is another matter: new
    permissions or a backup change it as well."""
    listed = source.device, source.inode, source.size, source.modified_ns
    return listed == (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns)


def _source(path: str, info: os.stat_result, sparse: bool) -> SourceFile:
    times = info.st_mtime_ns, info.st_ctime_ns
    return SourceFile(path, info.st_dev, info.st_ino, info.st_size, *times, sparse)


@dataclass(frozen=True)
class Listing:
    """What a walk found: entries and, beside each, its source; and how many were left out, why."""

    entries: tuple[Entry, ...]
    sources: tuple[EntrySource, ...]
    skipped: Skipped = field(default_factory=dict)


Warn = Callable[[str, str, str], None]  # code of a warning, path, detail


def check_paths(paths: Sequence[str]) -> dict[str, str]:
    """Base name -> path of what was named on the command line. Raises `Failure`; quick."""
    named: dict[str, str] = {}
    if not paths:
        raise Failure("nothing_to_send", Detail("nothing_named"))
    for path in paths:
        name = os.path.basename(os.path.abspath(path))
        if not os.path.lexists(path):
            raise Failure("nothing_to_send", Detail("missing", path=shown(path)))
        if not name:
            raise Failure("nothing_to_send", Detail("nameless", path=shown(path)))
        if name in named:
            raise Failure("same_name", shown(name))
        named[name] = path
    return named


def walk(
    paths: Sequence[str],
    *,
    follow: bool,
    warn: Warn,
    stopped: Stopped = never,
    strict_names: bool = False,
) -> Listing:
    """List files and folders as entries, in a stable order, folders before what is in them.

    A name that some system could not keep, or would take for another's, is changed; `strict_names`
    refuses it. What cannot be read is listed all the same, to fail by name. Links, and what is
    neither file nor folder, are left out, counted and told to `warn`. Links are followed only with
    `follow` and only inside the root they lie in; whoever swaps a folder for a link meanwhile leads
    nowhere.
    `stopped` ends it early. Raises `Failure`.
    """
    found = _Walk(follow, warn, stopped, strict_names)
    for name, path in check_paths(paths).items():
        found.add_root(path, name)
    entries = found.entries
    if not entries:
        raise Failure("nothing_to_send", Detail("nothing_readable"))
    try:
        check_tree(entry.encoded for entry in entries)
    except UnsafePath as reason:
        raise _name_refused(reason.path, reason.code) from None
    except TooManyNames:
        raise Failure("too_many_entries") from None
    return Listing(tuple(entries), tuple(found.sources), dict(found.skipped))


def _name_refused(name: str, why: str) -> Failure:
    return Failure("name_refused", Detail("because", name=shown(name), why=Detail(why)))


class _Walk:
    """A walk under way. Everything is looked at by the descriptor of the folder it is in."""

    def __init__(self, follow: bool, warn: Warn, stopped: Stopped, strict_names: bool) -> None:
        self._follow, self._warn, self._stopped = follow, warn, stopped
        self._strict_names, self._roots = strict_names, FolderNames()
        self.entries: list[Entry] = []
        self.sources: list[EntrySource] = []
        self.skipped: Counter[SkippedKind] = Counter()

    def add_root(self, path: str, name: str) -> None:
        """What a person named; a link is followed."""
        real = os.path.realpath(path)
        folder, last = os.path.split(real)
        is_folder = os.path.isdir(real)
        named = self._name(_Found(name, is_folder), path, "", self._roots)
        try:
            with _opened(folder, ENTER_ONLY) as parent:
                self._add(_Found(last, is_folder), parent, real, named, real, frozenset())
        except OSError as error:
            self._unread(path, named, is_folder, error)

    def _add(
        self,
        child: _Found,
        folder: int,
        path: str,
        named: _Named,
        root: str,
        above: frozenset[tuple[int, int]],
    ) -> None:
        """`folder` is the descriptor of where it lies."""
        try:
            info = os.stat(child.name, dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            return self._unread(path, named, child.is_folder, error)
        if self._stopped():
            raise Failure("cancelled")
        if not stat.S_ISLNK(info.st_mode):
            return self._add_real(child.name, folder, path, path, named, root, above, info)
        if not self._follow:
            return self._skip("links", "link_not_followed", path)
        target = os.path.realpath(path)
        if not _inside(target, root):
            return self._skip("links", "link_leads_out", path)
        try:
            # No part of it is a link: one that is now is not followed.
            with _opened_beneath(root, os.path.dirname(target)) as there:
                last = os.path.basename(target)
                info = os.stat(last, dir_fd=there, follow_symlinks=False)
                self._add_real(last, there, target, path, named, root, above, info)
        except OSError as error:
            self._unread(path, named, child.is_folder, error)

    def _add_real(
        self,
        name: str,
        folder: int,
        path: str,
        found_at: str,
        named: _Named,
        root: str,
        above: frozenset[tuple[int, int]],
        info: os.stat_result,
    ) -> None:
        """A file or a folder, and no link; `found_at` is where a link to it was, or `path`."""
        modified = info.st_mtime_ns // 1000
        if abs(modified) > MAX_INTEGER:
            self._warn("time_out_of_range", found_at, "")
            modified = 0
        if stat.S_ISREG(info.st_mode):
            held = taken_by(info)
            sparse = held < info.st_size
            data = held if sparse else None
            entry = Entry(named.path, "file", info.st_size, modified, data, named.original)
            self._append(entry, _source(path, info, sparse))
        elif stat.S_ISDIR(info.st_mode):
            here = (info.st_dev, info.st_ino)
            if here in above:
                return self._skip("links", "link_to_parent", found_at)
            if named.path.count("/") >= MAX_SEGMENTS:
                raise _name_refused(named.path, "too_deep")
            try:
                opened = os.open(name, ENTER, dir_fd=folder)
            except OSError as error:
                return self._unread(found_at, named, True, error)
            try:
                with os.scandir(opened) as inside:
                    children = sorted(map(_found, inside))
                entry = Entry(named.path, "directory", 0, modified, None, named.original)
                self._append(entry, DIRECTORY_SOURCE)
                names = FolderNames()
                for child in children:
                    below = os.path.join(path, child.name)
                    inside_it = self._name(child, below, f"{named.path}/", names)
                    self._add(child, opened, below, inside_it, root, above | {here})
            finally:
                os.close(opened)
        else:
            self._skip("special", "not_a_file", found_at)
        return None

    def _name(self, found: _Found, path: str, above: str, names: FolderNames) -> _Named:
        """The entry's path below `above`, and what it was called where that cannot be kept."""
        try:
            safe = escape_segment(found.name)
            if self._strict_names:
                check_segment(found.name)
        except UnsafePath as reason:
            raise _name_refused(found.name, reason.code) from None
        kept = names.add(safe, directory=found.is_folder)
        if kept == found.name:
            return _Named(above + kept)
        if self._strict_names:
            raise Failure("name_collision", shown(path, 256))
        self._warn("renamed", path, shown(kept))
        return _Named(above + kept, os.fsencode(found.name))

    def _unread(self, path: str, named: _Named, is_folder: bool, error: OSError) -> None:
        self._warn("unreadable", path, os_detail(error, "unreadable"))
        kind: EntryKind = "directory" if is_folder else "file"
        self._append(Entry(named.path, kind, 0, 0, None, named.original), UNREAD)

    def _skip(self, kind: SkippedKind, code: str, path: str) -> None:
        self.skipped[kind] += 1
        self._warn(code, path, "")

    def _append(self, entry: Entry, source: EntrySource) -> None:
        self.entries.append(entry)
        self.sources.append(source)
        if len(self.entries) > MAX_ENTRIES:
            raise Failure("too_many_entries")


class _Named(NamedTuple):
    """An entry's path, and the bytes of its last part as they are on the disk, if others."""

    path: str
    original: bytes = b""


class _Found(NamedTuple):
    """What lies in a folder."""

    name: str
    is_folder: bool


def _found(one: os.DirEntry[str]) -> _Found:
    try:
        return _Found(one.name, one.is_dir(follow_symlinks=False))
    except OSError:
        return _Found(one.name, False)


@contextmanager
def _opened(path: str, flags: int = DIRECTORY) -> Iterator[int]:
    folder = os.open(path, flags)
    try:
        yield folder
    finally:
        os.close(folder)


@contextmanager
def _opened_beneath(root: str, path: str) -> Iterator[int]:
    """A folder in `root`, or the root, entered through no link. Raises `OSError`."""
    below = os.path.relpath(path, root)
    with ExitStack() as stack:
        folder = stack.enter_context(_opened(root))
        for segment in below.split(os.sep) if below != os.curdir else ():
            folder = os.open(segment, ENTER, dir_fd=folder)
            stack.callback(os.close, folder)
        yield folder


def _inside(target: str, root: str) -> bool:
    return target == root or target.startswith(root.rstrip(os.sep) + os.sep)
