"""What is to be sent: files and folders of this disk, listed as entries."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..protocol.codec import MAX_INTEGER
from ..protocol.errors import Failure
from ..protocol.manifest import MAX_ENTRIES, Entry
from ..protocol.paths import MAX_SEGMENTS, UnsafePath, check_path, collisions, escape_segment, shown
from ..protocol.sentences import Detail, os_detail
from .durable import taken_by
from .ports import Stopped, never


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
    found = described(source, info)
    same = stat.S_ISREG(info.st_mode) and found == replace(source, device=found.device)
    return found if same else None


def described(source: SourceFile, info: os.stat_result) -> SourceFile:
    """The source as it is now."""
    return SourceFile(
        source.path, info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, source.sparse
    )


@dataclass(frozen=True)
class Listing:
    """What a walk found: entries and, beside each, its source (None for a directory)."""

    entries: tuple[Entry, ...]
    sources: tuple[SourceFile | None, ...]


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


def walk(paths: Sequence[str], *, follow: bool, warn: Warn, stopped: Stopped = never) -> Listing:
    """List files and folders as entries, in a stable order, folders before what is in them.

    What cannot be sent is left out and told to `warn`. Links are followed only with
    `follow` and only inside the root they lie in. `stopped` ends it early. Raises `Failure`.
    """
    entries: list[Entry] = []
    sources: list[SourceFile | None] = []

    def add(path: str, name: str, root: str, above: frozenset[tuple[int, int]]) -> None:
        try:
            info = os.lstat(path)
            if stat.S_ISLNK(info.st_mode):
                if above and not follow:
                    return warn("link_not_followed", path, "")
                if above and not _inside(path, root):
                    return warn("link_leads_out", path, "")
                info = os.stat(path)
        except OSError as error:
            return warn("unreadable", path, os_detail(error, "unreadable"))
        if stopped():
            raise Failure("cancelled")
        modified = info.st_mtime_ns // 1000
        if abs(modified) > MAX_INTEGER:
            warn("time_out_of_range", path, "")
            modified = 0
        if stat.S_ISREG(info.st_mode):
            held = taken_by(info)
            sparse = held < info.st_size
            data = held if sparse else None
            entries.append(Entry(name, "file", info.st_size, modified, data))
            sources.append(
                SourceFile(path, info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, sparse)
            )
        elif stat.S_ISDIR(info.st_mode):
            here = (info.st_dev, info.st_ino)
            if here in above:
                return warn("link_to_parent", path, "")
            if name.count("/") >= MAX_SEGMENTS:
                raise Failure(
                    "name_refused", Detail("because", name=shown(name), why=Detail("too_deep"))
                )
            entries.append(Entry(name, "directory", 0, modified))
            sources.append(None)
            try:
                with os.scandir(path) as found:
                    children = sorted(child.name for child in found)
            except OSError as error:
                return warn("unreadable", path, os_detail(error, "unreadable"))
            for child in children:
                safe = _safe(child, os.path.join(path, child), warn)
                if safe is not None:
                    add(os.path.join(path, child), f"{name}/{safe}", root, above | {here})
        else:
            warn("not_a_file", path, "")
        if len(entries) > MAX_ENTRIES:
            raise Failure("too_many_entries")
        return None

    for name, path in check_paths(paths).items():
        safe = _safe(name, path, warn)
        if safe is None:
            raise Failure("name_refused", shown(name))
        add(path, safe, os.path.realpath(path), frozenset())
    if not entries:
        raise Failure("nothing_to_send", Detail("nothing_readable"))
    for entry in entries:
        try:
            check_path(entry.path)
        except UnsafePath as reason:
            why = Detail("because", name=shown(entry.path), why=Detail(reason.code))
            raise Failure("name_refused", why) from None
    pairs = collisions((entry.path, entry.kind == "directory") for entry in entries)
    if pairs:
        one, other = map(shown, pairs[0])
        raise Failure("name_collision", Detail("both", one=one, other=other))
    return Listing(tuple(entries), tuple(sources))


def _safe(name: str, path: str, warn: Warn) -> str | None:
    try:
        safe = escape_segment(name)
    except UnsafePath as reason:
        warn("name_unsafe", path, Detail(reason.code))
        return None
    if safe != name:
        warn("renamed", path, shown(safe))
    return safe


def _inside(path: str, root: str) -> bool:
    target = os.path.realpath(path)
    return target == root or target.startswith(root.rstrip(os.sep) + os.sep)
