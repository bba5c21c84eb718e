"""Storage in memory, by the same contracts: for tests, and for programs without files."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..protocol.errors import Failure
from ..protocol.manifest import Manifest, Results
from ..protocol.seal import Payload
from ..protocol.sentences import Detail
from ..protocol.tape import Tape
from .destination import compare_digests
from .placing import free_names
from .ports import MARK, Block, Marked, Stopped, never
from .read_back import TapeDigest


class MemorySource:
    """`ports.Source` over the contents of entries; None for a directory."""

    def __init__(self, contents: Sequence[bytes | None], tape: Tape, headroom: int) -> None:
        self._contents, self._tape, self._headroom = contents, tape, headroom
        self._entry = self._at = 0
        self._digest = hashlib.sha256()

    def read(self, offset: int, length: int, *, compress: bool = False) -> Block:
        message, finished = bytearray(self._headroom), []
        while self._entry < len(self._contents):
            content = self._contents[self._entry]
            if content is None:
                self._entry += 1
                continue
            wanted = length - (len(message) - self._headroom)
            if self._at < len(content) and not wanted:
                break
            part = content[self._at : self._at + wanted]
            message += part
            self._digest.update(part)
            self._at += len(part)
            if self._at == len(content):
                finished.append(self._end())
        got = len(message) - self._headroom
        return Block(offset, got, False, message, self._headroom, tuple(finished))

    def changed(self, result: Callable[[int], tuple[int, bytes]], stopped: Stopped) -> list[int]:
        return []

    def skip(self, offset: int, known: Callable[[int], bool], stopped: Stopped = never) -> Block:
        finished = []
        while self._entry < len(self._contents) and self._tape.start(self._entry) < offset:
            if stopped():
                raise Failure("cancelled")
            content = self._contents[self._entry]
            if content is None:
                self._entry += 1
                continue
            part = content[: offset - self._tape.start(self._entry)]
            self._digest.update(part)
            self._at = len(part)
            if self._at < len(content):
                break
            entry = self._end()
            if not known(entry[0]):
                finished.append(entry)
        return Block(offset, 0, False, bytearray(), 0, tuple(finished))

    def _end(self) -> tuple[int, bytes]:
        ended = self._entry, self._digest.digest()
        self._entry, self._at, self._digest = self._entry + 1, 0, hashlib.sha256()
        return ended

    def close(self) -> None:
        pass


@dataclass
class MemoryDisk:
    """What outlives a destination in memory: parts by number, and what has its final name."""

    space: int = 2**40
    parts: dict[int, bytearray] = field(default_factory=dict)
    files: dict[str, bytes | None] = field(default_factory=dict)  # path -> content; None: a folder
    staged: bool = False


class MemoryDestination:
    """`ports.Destination` on a `MemoryDisk`."""

    def __init__(
        self,
        disk: MemoryDisk,
        manifest: Manifest,
        tape: Tape,
        marked: Marked = lambda index, mark: None,
    ) -> None:
        self.disk, self._manifest, self._tape, self._marked = disk, manifest, tape, marked
        self._placed: dict[int, str] = {}
        self._gone: set[int] = set()
        self._start_over()

    def _start_over(self) -> None:
        self._at, self._digest = 0, TapeDigest()
        self._tail = (0, self._digest.mark())

    @property
    def placed(self) -> dict[int, str]:
        return self._placed

    @property
    def where(self) -> str:
        return "memory"

    @property
    def refused(self) -> bool:
        return False

    def is_there(self) -> bool:
        return self.disk.staged

    def check_space(self) -> None:
        if self._manifest.space() > self.disk.space:
            raise Failure("no_space", Detail("memory_too_small"))

    def prepare(self, *, again: bool = False) -> None:
        if self.disk.staged and not again:
            raise Failure("not_writable", Detail("eexist"))
        self.disk.staged = True

    def recheck(
        self, tail: int, tail_mark: bytes, marks: Sequence[bytes], stopped: Stopped = never
    ) -> int:
        self._start_over()
        noted = [*enumerate(marks[: tail // MARK], 1)]
        good = 0
        for offset, mark in [*((n * MARK, mark) for n, mark in noted), (tail, tail_mark)]:
            if stopped():
                raise Failure("cancelled")
            self._hash(offset)
            if self._digest.mark() != mark:
                break
            good = offset
        if self._at > good:
            self._start_over()
            self._hash(good)
        for entry, part in self.disk.parts.items():
            keep = max(0, good - self._tape.start(entry))
            part[keep:] = bytes(len(part[keep:]))
        return good

    @property
    def gone(self) -> list[int]:
        return sorted(self._gone)

    def begin(self, offset: int) -> None:
        self._gone -= {entry for entry in self._gone if self._tape.end(entry) > offset}

    doubtful = False

    def takes_data(self) -> bool:
        return self.disk.space > 0

    def write(self, offset: int, payload: Payload) -> None:
        view = memoryview(payload)
        for piece in self._tape.pieces(offset, len(payload)):
            part, view = view[: piece.length], view[piece.length :]
            self._part(piece.entry)[piece.offset : piece.offset + piece.length] = part

    def hole(self, offset: int, length: int) -> None:
        for piece in self._tape.pieces(offset, length):
            self._part(piece.entry)

    def _part(self, entry: int) -> bytearray:
        part = self.disk.parts.get(entry)
        if part is None:
            size = self._manifest.entries[entry].size
            if size > self.disk.space:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.disk.space -= size
            part = self.disk.parts[entry] = bytearray(size)
        return part

    def withdraw(self, entry: int) -> None:
        self._gone.add(entry)

    def sync(self, frontier: int) -> None:
        pass

    def read_back(self, upto: int) -> int:
        while self._at < upto:
            self._hash(min(upto, (self._at // MARK + 1) * MARK))
            if self._at % MARK == 0:
                self._marked(self._at // MARK - 1, self._tail[1])
        return self._at

    def _hash(self, upto: int) -> None:
        for piece in self._tape.pieces(self._at, upto - self._at):
            if piece.entry in self._gone:
                continue
            if piece.offset == 0:
                self._digest.begin(piece.entry)
            if piece.entry != self._digest.entry or piece.entry not in self.disk.parts:
                continue  # it failed before; half a digest is none
            end = piece.offset + piece.length
            self._digest.update(memoryview(self.disk.parts[piece.entry])[piece.offset : end])
            if end == self._manifest.entries[piece.entry].size:
                self._digest.end()
        self._at = upto
        self._tail = (upto, self._digest.mark())

    @property
    def tail(self) -> tuple[int, bytes]:
        return self._tail

    def compare(self, claimed: Results) -> Results:
        return compare_digests(self._manifest, claimed, self._digest.digests)

    def choose_names(self) -> dict[str, str]:
        taken = {path.split("/")[0] for path in self.disk.files}
        renamed = {}
        for entry in self._manifest.entries:
            top = entry.path.split("/")[0]
            if top in taken and top not in renamed:
                folder = "/" in entry.path or entry.kind == "directory"
                names = free_names(top, directory=folder)
                renamed[top] = next(name for name in names if name not in taken)
        return renamed

    def place(
        self,
        results: Results,
        renamed: dict[str, str],
        note: Callable[[], None] = lambda: None,
        *,
        again: bool = False,
    ) -> None:
        for index, entry in enumerate(self._manifest.entries):
            if results[index][0]:
                continue
            top, *rest = entry.path.split("/")
            path = "/".join([renamed.get(top, top), *rest])
            folder = entry.kind == "directory"
            if folder or index in self.disk.parts or not entry.size:
                content = bytes(self.disk.parts.pop(index, b""))
                self.disk.files[path] = None if folder else content
            self._placed[index] = path

    def finish(self, results: Results) -> None:
        self.discard()

    def discard(self) -> None:
        self.disk.parts.clear()
        self.disk.staged = False

    def close(self) -> None:
        pass
