"""The data folder: what lies in it is written whole, under one lock, and read by one strict reader.

Whatever lies there is held to be foreign until it was checked: a backup, another program or another
user may have put it there.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from platformdirs import user_data_dir

from ..protocol.codec import Json, Reader, decode_json, read_as
from ..protocol.errors import Failure, PeerError
from ..protocol.paths import shown
from ..protocol.sentences import Detail, os_detail
from ..storage.durable import CLOSE_ON_EXEC, NO_FOLLOW, NON_BLOCKING, locked, replace_whole

BINARY = getattr(os, "O_BINARY", 0)  # else Windows reads text
READ_AT_ONCE = 1024 * 1024


def now_text() -> str:
    """The wall clock as RFC 3339 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def default_path() -> Path:
    """`HANDOVER_HOME`, or the platform's place for a user's data."""
    named = os.environ.get("HANDOVER_HOME")
    return Path(named) if named else Path(user_data_dir("handover", appauthor=False))


class Exposed(OSError):
    """Others can change a file, or read a secret one."""

    def __init__(self) -> None:
        super().__init__(errno.EPERM, Detail("exposed"))


def open_strictly(
    path: Path, flags: int = os.O_RDONLY, *, own: bool = True, secret: bool = False
) -> int:
    """The descriptor of an ordinary file, which no link, pipe or device is. `own`: this user's,
    which nobody else can change or, if it is `secret`, read; where the system knows such modes.
    Raises `OSError`, `Exposed`."""
    try:
        extra = (NO_FOLLOW if own else 0) | NON_BLOCKING | CLOSE_ON_EXEC | BINARY
        file = os.open(path, flags | extra, 0o600)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise OSError(error.errno, Detail("no_ordinary_file")) from None
        raise
    try:
        info = os.fstat(file)
        if not stat.S_ISREG(info.st_mode):
            raise OSError(errno.EINVAL, Detail("no_ordinary_file"))
        if own and hasattr(os, "geteuid"):
            if info.st_uid != os.geteuid():
                raise OSError(errno.EPERM, Detail("of_another_user"))
            if info.st_mode & (0o077 if secret else 0o022):
                raise Exposed
    except BaseException:
        os.close(file)
        raise
    return file


def read_strictly(path: Path, limit: int, *, own: bool = True, secret: bool = False) -> bytes:
    """The content of such a file, of at most `limit` bytes. Raises `OSError`, `Exposed`."""
    with open(open_strictly(path, own=own, secret=secret), "rb") as stream:
        data = bytearray()
        too_large = os.fstat(stream.fileno()).st_size > limit
        while not too_large and (some := stream.read(READ_AT_ONCE)):
            data += some
            too_large = len(data) > limit  # it may be growing
    if too_large:
        raise OSError(errno.EFBIG, Detail("too_large"))
    return bytes(data)


class Folder:
    """A folder of this user's alone."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, data: bytes) -> Path:
        """Replace a file whole. Raises `Failure` (home_unwritable)."""
        path = self.path / name
        try:
            replace_whole(path, data)
        except OSError as error:
            raise unwritable(error) from None
        return path

    def read(self, name: str, limit: int, kind: str, *, secret: bool = False) -> bytes | None:
        """The content of a file, or None where there is none. `kind` is the phrase that names it.
        Raises `Failure`."""
        path = self.path / name
        try:
            return read_strictly(path, limit, secret=secret)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unusable(path, kind, error) from None

    def read_json(
        self, name: str, limit: int, kind: str, shape: Reader, *, secret: bool = False
    ) -> Json:
        """What a file of JSON says, or None where there is none. Raises `Failure`."""
        data = self.read(name, limit, kind, secret=secret)
        if data is None:
            return None
        try:
            return read_as(shape, decode_json(data, limit), name)
        except PeerError:
            raise unusable(self.path / name, kind) from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes and threads from changing it meanwhile. Raises `Failure`."""
        lock = locked(self.path / ".lock")
        try:
            lock.__enter__()
        except OSError as error:
            raise unwritable(error) from None
        try:
            yield
        finally:
            lock.__exit__(None, None, None)


def unusable(path: Path, kind: str, error: OSError | None = None) -> Failure:
    """What it means that a file of the data folder cannot be read, or is not what it has to be."""
    if isinstance(error, Exposed):
        return Failure("exposed", shown(shlex.quote(str(path)), 1024))
    why = os_detail(error) if error else Detail("damaged")
    file = Detail(kind, path=shown(str(path), 1024))
    return Failure("not_readable", Detail("unusable", file=file, why=why))


def unwritable(error: OSError) -> Failure:
    """What it means that the data folder cannot be written to."""
    return Failure("home_unwritable", os_detail(error))
