"""The folder a transfer arrives in: parts beside the final place, read back, then given names."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from ..protocol.errors import Failure
from ..protocol.manifest import CHANGED, NOT_PLACED, NOT_WRITTEN, Manifest, Results
from ..protocol.seal import Payload
from ..protocol.sentences import Detail, os_detail
from ..protocol.tape import Tape
from .durable import NO_ROOM, space_of, write_at
from .parts import Parts, staging_folder
from .placing import Placing, free_names
from .ports import MARK, Marked, Stopped, never
from .read_back import ReadBack

MIN_RESERVE, RESERVE_SHARE = 1024**3, 20  # leave 1 GiB or a twentieth free, whichever is less
# How often the free space is looked at while writing: after as much as a quarter of what is free
# beyond the reserve, within these.
MIN_CHECK_BYTES, MAX_CHECK_BYTES = 4 * 1024**2, 1024**3
MAX_SPACE = 2**63
SPACE_TO_GO_ON = 64 * 1024 * 1024  # or what is missing, if that is less
PROBE = bytes(2 * 1024 * 1024)
EMPTY_DIGEST = hashlib.sha256().digest()


class FolderDestination:
    """`ports.Destination` in the folder `directory`."""

    def __init__(
        self,
        directory: Path,
        manifest: Manifest,
        tape: Tape,
        transfer: bytes,
        marked: Marked = lambda index, mark: None,
    ) -> None:
        self.directory, self._manifest, self._tape = directory, manifest, tape
        self._placed: dict[int, str] = {}
        self._parts = Parts(staging_folder(directory, transfer), manifest.entries, tape)
        self._marked = marked
        self._gone: set[int] = set()
        self.doubtful = False
        self._unlooked = 0  # bytes that may be written before the free space is looked at again
        self._read_back = self._begin_reading()

    def _begin_reading(self) -> ReadBack:
        return ReadBack(
            self._tape, self._parts.readable, self._gone.__contains__, self._marked, self._is_away
        )

    @property
    def placed(self) -> dict[int, str]:
        return self._placed

    @property
    def where(self) -> str:
        return str(self._parts.folder)

    @property
    def refused(self) -> bool:
        return self._parts.refused

    def is_there(self) -> bool:
        return self._parts.folder.is_dir()

    # --- before

    def check_space(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            free, reserve = self._space()
            files = space_of(self.directory).files
        except OSError as error:
            raise Failure("not_writable", os_detail(error)) from None
        check_writable(self.directory)
        needed = self._manifest.space()
        if needed > free - reserve:
            sizes = {"needed": needed, "free": max(free - reserve, 0)}
            in_gb = {name: f"{size / 1e9:.1f}" for name, size in sizes.items()}
            raise Failure("no_space", Detail("space", **in_gb))
        if files is not None and len(self._manifest.entries) > files:
            raise Failure("no_space", Detail("too_many_files"))

    def _space(self) -> tuple[int, int]:
        """Bytes that are free, and bytes that are to stay so. Where the file system does not say,
        writing will tell."""
        space = space_of(self.directory)
        if not space.size:
            return MAX_SPACE, 0
        return space.free, min(MIN_RESERVE, space.size // RESERVE_SHARE)

    def prepare(self, *, again: bool = False) -> None:
        self._parts.open(again=again)

    def recheck(
        self, tail: int, tail_mark: bytes, marks: Sequence[bytes], stopped: Stopped = never
    ) -> int:
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
        self._parts.cut_off(good)
        self.doubtful = False
        return good

    def _start_over(self) -> None:
        self._read_back.close()
        self._read_back = self._begin_reading()

    @property
    def gone(self) -> list[int]:
        return sorted(self._gone)

    def begin(self, offset: int) -> None:
        self._gone -= {entry for entry in self._gone if self._tape.end(entry) > offset}

    def takes_data(self) -> bool:
        try:
            free, reserve = self._space()
            held = self._parts.held()
            self._parts.probe(PROBE)
        except OSError:
            if not self._parts.is_alive():
                self._open_anew()
            return False
        needed = min(self._manifest.space() - held, SPACE_TO_GO_ON)
        return needed <= 0 or free - reserve >= needed

    def _open_anew(self) -> None:
        """Once a share is back: what was opened before leads nowhere. Raises `Failure`
        (parts_foreign)."""
        self.close()
        self.doubtful = True
        try:
            self._parts.open(again=True, make=False)
        except Failure as failure:
            if failure.code != "not_writable":
                raise

    def _is_away(self) -> bool:
        """Whether nothing can be written at all, or nothing more."""
        try:
            self._parts.probe(b"1")
        except OSError:
            return True
        return False

    # --- while it comes in

    def write(self, offset: int, payload: Payload) -> None:
        self._keep_reserve(len(payload))
        view = memoryview(payload)
        for piece in self._tape.pieces(offset, len(payload)):
            file = self._parts.writable(piece.entry)
            part, view = view[: piece.length], view[piece.length :]
            at = piece.offset
            while part:
                done = write_at(file, part, at)
                part, at = part[done:], at + done
            self._parts.written(piece.entry)

    def _keep_reserve(self, length: int) -> None:
        """Raises `OSError` when writing so many bytes would leave less than the reserve: a manifest
        may say that there are holes, and other programs write too."""
        self._unlooked -= length
        if self._unlooked < 0:
            free, reserve = self._space()
            if free - length < reserve:
                raise OSError(errno.ENOSPC, "the reserve is reached")
            share = (free - reserve) // 4
            self._unlooked = min(max(share, MIN_CHECK_BYTES), MAX_CHECK_BYTES)

    def hole(self, offset: int, length: int) -> None:
        # A part is made at full length, so nothing is written.
        for piece in self._tape.pieces(offset, length):
            self._parts.writable(piece.entry)
            self._parts.written(piece.entry)

    def withdraw(self, entry: int) -> None:
        self._gone.add(entry)

    def sync(self, frontier: int) -> None:
        self._parts.sync(frontier)

    def read_back(self, upto: int) -> int:
        try:
            return self._read_back.advance(upto)
        except OSError:
            self.doubtful = True
            raise

    @property
    def tail(self) -> tuple[int, bytes]:
        return self._read_back.tail

    # --- the end

    def compare(self, claimed: Results) -> Results:
        return compare_digests(self._manifest, claimed, self._read_back.digests)

    def choose_names(self) -> dict[str, str]:
        renamed = {}
        for entry in self._manifest.entries:
            top = entry.path.split("/")[0]
            if top not in renamed and self._exists(top):
                folder = "/" in entry.path or entry.kind == "directory"
                names = free_names(top, directory=folder)
                renamed[top] = next((name for name in names if not self._exists(name)), top)
        return renamed

    def _exists(self, name: str) -> bool:
        try:
            os.stat(name, dir_fd=self._parts.root, follow_symlinks=False)
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
        delivered = {
            index: entry
            for index, entry in enumerate(self._manifest.entries)
            if not results[index][0]
        }

        @contextlib.contextmanager
        def failing(entries: Iterable[int]) -> Iterator[None]:
            """What fails costs these entries their place, and no other."""
            try:
                yield
            except OSError as error:
                if error.errno in NO_ROOM:
                    raise
                if self._is_away():  # it says so in many ways
                    raise OSError(errno.EIO, os.strerror(errno.EIO)) from error
                for index in entries:
                    results.failed(index, NOT_PLACED)

        placing = Placing(self._parts, renamed, note, again=again)
        with contextlib.closing(placing):
            for index, entry in delivered.items():
                with failing([index]):
                    placing.build(index, entry, results[index][1])
            placing.built()
            folders: dict[str, list[int]] = {}  # what is in each, by its name as sent
            for index, entry in delivered.items():
                top, _, rest = entry.path.partition("/")
                if rest or entry.kind == "directory":
                    if not results[index][0]:
                        folders.setdefault(top, []).append(index)
                    continue
                with failing([index]):
                    digest = results[index][1]
                    self._placed[index] = placing.publish_file(index, top, entry, digest)
            for top, inside in folders.items():
                with failing(inside):
                    final = placing.publish_folder(top)
                    for index in inside:
                        self._placed[index] = final + delivered[index].path[len(top) :]
            placing.finish()

    def finish(self, results: Results) -> None:
        if any(status == NOT_PLACED for _, status in results.failures()):
            self.close()  # what is verified but has no place yet is kept for a person to find
        else:
            self.discard()

    def discard(self) -> None:
        self._read_back.close()
        self._parts.discard()

    def close(self) -> None:
        self._parts.close()
        self._read_back.close()


def check_writable(directory: Path) -> None:
    """Raises `Failure` (not_writable) where this folder, or the one it would be made in, takes no
    files by what the system says; making one is the only proof."""
    while not os.path.lexists(directory):
        directory = directory.parent
    try:
        if not stat.S_ISDIR(directory.stat().st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(directory, os.W_OK | os.X_OK):
            read_only = os.statvfs(directory).f_flag & os.ST_RDONLY
            reason = errno.EROFS if read_only else errno.EACCES
            raise OSError(reason, os.strerror(reason))
    except OSError as error:
        raise Failure("not_writable", os_detail(error)) from None


def compare_digests(manifest: Manifest, claimed: Results, found: dict[int, bytes]) -> Results:
    """The sender's digests held against those `found` when reading back, by entry."""
    results = Results(len(claimed))
    for index, entry in enumerate(manifest.entries):
        status, digest = claimed[index]
        if not status and entry.kind == "file":
            own = found.get(index, None if entry.size else EMPTY_DIGEST)
            if own is None:
                status = NOT_WRITTEN
            elif own != digest:
                status = CHANGED
        if status:
            results.failed(index, status)
        else:
            results.delivered(index, digest)
    return results
