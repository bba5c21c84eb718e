"""Checkpoints of this machine's log; whose cosignatures count; and what this machine has seen of
other logs, for which it is a witness."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..protocol.checkpoint import (
    MAX_NOTE,
    BadCheckpoint,
    Checkpoint,
    Note,
    check_consistency,
    decode,
    witnesses,
)
from ..protocol.codec import base64url, encode_base64url, encode_json, list_of, sha256
from ..protocol.sentences import Detail, os_detail
from ..storage.strict import read_strictly, unusable
from .folder import Folder, stamp_of, unwritable

CHECKPOINTS, WITNESSES, WITNESSED = "checkpoints", "witnesses.json", "witnessed"
ENDING = ".checkpoint"
MAX_WITNESSES = 64
_NAME = re.compile(r"[0-9]{1,16}\.checkpoint")
_keys = list_of(base64url(32), MAX_WITNESSES)


class Checkpoints:
    """What was signed of this machine's log, by its size; and the keys of its witnesses."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def store(self, note: Note) -> Path:
        """Keep a checkpoint, in the place of another of the same size. Raises `Failure`."""
        _make(self._folder.path / CHECKPOINTS)
        name = f"{CHECKPOINTS}/{note.checkpoint.size}{ENDING}"
        return self._folder.write(name, note.encode())

    def path(self, note: Note) -> Path:
        """Where a checkpoint lies."""
        return self._folder.path / CHECKPOINTS / f"{note.checkpoint.size}{ENDING}"

    def read(self, size: int) -> Note | None:
        """The checkpoint of this size, if there is one that can be read."""
        found = _read(self._folder.path / CHECKPOINTS / f"{size}{ENDING}")
        return found if isinstance(found, Note) else None

    def all(self) -> Iterator[tuple[str, Note | Detail]]:
        """Each by the name of its file, the smallest first; or why it cannot be read, or is none.
        Raises `Failure`."""
        folder = self._folder.path / CHECKPOINTS
        try:
            names = [name for name in os.listdir(folder) if _NAME.fullmatch(name)]
        except FileNotFoundError:
            return
        except OSError as error:
            raise unusable(folder, "checkpoints_folder", error) from None
        for name in sorted(names, key=lambda one: int(one.removesuffix(ENDING))):
            found = _read(folder / name)
            size = int(name.removesuffix(ENDING))
            if isinstance(found, Note) and found.checkpoint.size != size:
                found = Detail("checkpoint_differs")
            yield name, found

    def forget_before(self, size: int) -> None:
        """Remove those of lines that are no more. Raises `OSError`."""
        for name, found in list(self.all()):
            if not isinstance(found, Note) or found.checkpoint.size < size:
                path = self._folder.path / CHECKPOINTS / name
                stamp_of(path).unlink(missing_ok=True)
                path.unlink(missing_ok=True)

    def witnesses(self) -> list[bytes]:
        """The keys whose cosignatures count. Raises `Failure`."""
        found = self._folder.read_json(WITNESSES, MAX_NOTE, "witnesses_file", _keys)
        return list(found or ())

    def trust(self, identity: bytes) -> None:
        """Let cosignatures of this key count. Raises `Failure`."""
        with self._folder.locked():
            known = self.witnesses()
            if identity in known:
                return
            keys = [*known, identity][-MAX_WITNESSES:]
            self._folder.write(WITNESSES, encode_json([encode_base64url(key) for key in keys]))

    def last_witnessed(self) -> int:
        """The size of the largest checkpoint that a witness cosigned whose key counts; 0 for none.
        Raises `Failure`."""
        keys, sizes = self.witnesses(), [0]
        for _, note in self.all():
            if isinstance(note, Note) and cosigned_by(note, keys):
                sizes.append(note.checkpoint.size)
        return max(sizes)

    def provable(self) -> int | None:
        """Up to which line a proof for every witness that counts can do without the lines before;
        None where none has cosigned anything. Raises `Failure`."""
        largest, keys = dict[bytes, int](), self.witnesses()
        for _, note in self.all():
            for key in keys:
                if isinstance(note, Note) and cosigned_by(note, [key]):
                    largest[key] = max(largest.get(key, 0), note.checkpoint.size)
        return min(largest.values(), default=None)


class Witnessed:
    """The last checkpoint of each log that this machine cosigned."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def last(self, origin: str) -> Checkpoint | None:
        """What was seen last of a log. Raises `Failure`."""
        name = _of_origin(origin)
        data = self._folder.read(name, MAX_NOTE, "witnessed_file")
        try:
            return decode(data).checkpoint if data is not None else None
        except BadCheckpoint:
            raise unusable(self._folder.path / name, "witnessed_file") from None

    def store(self, note: Note, proof: Sequence[bytes]) -> None:
        """Note what is to be cosigned, if it begins with what was seen before. Nothing else may see
        the same log meanwhile. Raises `BadCheckpoint`, `Failure`."""
        new = note.checkpoint
        _make(self._folder.path / WITNESSED)
        with self._folder.locked():
            last = self.last(new.origin)
            if last is not None:
                check_consistency(last.size, last.root, new.size, new.root, proof)
            self._folder.write(_of_origin(new.origin), note.encode())


def cosigned_by(note: Note, keys: Sequence[bytes]) -> bool:
    """Whether any of these keys cosigned a checkpoint. What holds something else counts for
    nothing."""
    try:
        return not witnesses(note).keys().isdisjoint(keys)
    except BadCheckpoint:
        return False


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise unwritable(error) from None


def _of_origin(origin: str) -> str:
    return f"{WITNESSED}/{sha256(origin.encode()).hex()[:32]}{ENDING}"


def _read(path: Path) -> Note | Detail:
    try:
        return decode(read_strictly(path, MAX_NOTE))
    except BadCheckpoint as bad:
        return bad.reason
    except OSError as error:
        return Detail("unreadable_because", why=os_detail(error))
