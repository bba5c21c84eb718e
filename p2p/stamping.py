"""Time stamps of what is kept as evidence: receipts, and checkpoints of the audit log.

The stamp of a file lies beside it. What is stamped of a checkpoint is its text: cosignatures may
come to it later.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .connect import timestamps
from .connect.timestamps import MAX_STAMP, Authority, BadStamp, Stamp, StampFailed
from .protocol.checkpoint import Note
from .protocol.codec import encode_json
from .protocol.receipt import MAX_FILE, Receipt
from .protocol.sentences import Detail, os_detail
from .state import witness
from .state.folder import stamp_of
from .state.home import Home
from .storage.durable import Taken, locked, replace_whole
from .storage.strict import read_strictly
from .tasks import in_thread

if TYPE_CHECKING:
    from .state.jades import Signer


class Stamped(NamedTuple):
    """What was stamped: receipts, and the log up to which line."""

    receipts: int
    lines: int


class StampCheck(NamedTuple):
    """How many receipts have a time stamp that holds; up to which line the log has, and when; and
    which stamps do not hold, and why."""

    receipts: int
    lines: int
    last: Stamp | None
    misfits: tuple[tuple[str, str], ...]


async def stamp(home: Home, authority: Authority) -> Stamped:
    """Have everything stamped that is not yet, and the log as it is now. Raises `StampFailed`,
    `BadLine`, `Failure`, `OSError`; what was stamped before that stays so."""
    try:
        with locked(home.path / ".stamping", wait=False):
            return await _stamp(home, authority)
    except Taken:
        raise StampFailed(Detail("another_run")) from None


async def _stamp(home: Home, authority: Authority) -> Stamped:
    note = await in_thread(witness.make_checkpoint, home)
    checkpoint, done = home.checkpoints.path(note), 0
    for path in await in_thread(lambda: list(_missing(home, note))):
        whole = path == checkpoint
        octets = note.checkpoint.text() if whole else await in_thread(read_strictly, path, MAX_FILE)
        answer = await timestamps.request(authority, octets)
        with suppress(IsADirectoryError):  # `check` tells what lies there
            await in_thread(replace_whole, stamp_of(path), answer)
            done += not whole
    return Stamped(done, note.checkpoint.size)


def _missing(home: Home, note: Note) -> Iterator[Path]:
    """What has no time stamp, or that of another state of it."""
    last = home.checkpoints.path(note), note.checkpoint.text()
    for path, octets in chain(_receipts(home), [last]):
        found = read_stamp(stamp_of(path))
        if not isinstance(found, bytes) or not timestamps.is_of(found, octets):
            yield path


def _receipts(home: Home) -> Iterator[tuple[Path, bytes]]:
    for name, found in home.receipts.all():
        if isinstance(found, Receipt):
            path = home.receipts.folder / name
            yield path, read_strictly(path, MAX_FILE)


async def sign_evidence(
    records: Iterable[Mapping[str, Any]],
    signer: Signer,
    time: int,
    authority: Authority | None = None,
) -> AsyncIterator[bytes]:
    """Evidence as JAdES, each a line of JSON; with an authority, of baseline B-T, else B-B. `time`:
    of the signatures, in seconds since 1970. Raises `StampFailed`."""
    from .state import jades  # 0.1 s

    for record in records:
        signed = jades.sign(encode_json(record), signer, time)
        if authority is not None:
            answer = await timestamps.request(authority, jades.to_be_stamped(signed))
            signed = jades.with_stamp(signed, timestamps.token_of(answer))
        yield encode_json(signed) + b"\n"


def read_stamp(path: Path, *, own: bool = True) -> bytes | Detail | None:
    """The time stamp in a file, or why it cannot be read; None where there is none. `own`: one of
    the data folder."""
    try:
        return read_strictly(path, MAX_STAMP, own=own)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Detail("unreadable_because", why=os_detail(error))


def check(home: Home, trusted: bytes) -> StampCheck:
    """Check every time stamp there is. `trusted`: certificates, PEM. Raises `Failure`, `OSError`.
    That the checkpoints fit the log, `check_log` says."""
    misfits, receipts, lines, last = list[tuple[str, str]](), 0, 0, None
    notes = [
        (home.checkpoints.path(note), note)
        for _, note in home.checkpoints.all()
        if isinstance(note, Note)
    ]
    texts = [(path, note.checkpoint.text()) for path, note in notes]
    sizes = {path: note.checkpoint.size for path, note in notes}
    for path, octets in chain(_receipts(home), texts):
        answer = read_stamp(stamp_of(path))
        if answer is None:
            continue
        if isinstance(answer, Detail):
            misfits.append((stamp_of(path).name, answer))
            continue
        try:
            found = timestamps.check(answer, octets, trusted)
        except BadStamp as bad:
            misfits.append((stamp_of(path).name, bad.reason))
            continue
        if path in sizes and sizes[path] > lines:
            lines, last = sizes[path], found
        receipts += path not in sizes
    return StampCheck(receipts, lines, last, tuple(misfits))
