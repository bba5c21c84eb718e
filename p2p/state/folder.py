"""The data folder: what lies in it is written whole, under one lock, and read strictly."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from platformdirs import user_data_dir

from ..protocol.codec import Json, Reader, decode_json, read_as
from ..protocol.errors import Failure, PeerError
from ..protocol.sentences import Detail, os_detail
from ..storage.durable import locked, replace_whole
from ..storage.strict import read_strictly, unusable

NOT_OURS = (errno.EROFS, errno.EACCES, errno.EPERM)  # to change


def now_text() -> str:
    """The wall clock as RFC 3339 in UTC, to the millisecond."""
    return utc_text(datetime.now(UTC))


def utc_text(moment: datetime) -> str:
    """A moment, which knows its time zone, in the same form."""
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def stamp_of(path: Path) -> Path:
    """Where the time stamp of a file lies."""
    return path.with_name(f"{path.name}.tsr")


def default_path() -> Path:
    """`HANDOVER_HOME`, or the platform's place for a user's data. Raises `Failure`
    (home_unwritable) where there is neither."""
    if named := os.environ.get("HANDOVER_HOME"):
        return Path(named)
    try:
        return Path(user_data_dir("handover", appauthor=False))
    except RuntimeError:
        raise Failure("home_unwritable", Detail("home_unknown")) from None


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
    def locked(self, *, reading: bool = False) -> Iterator[None]:
        """Keep other processes and threads from changing it meanwhile; for `reading`, a folder that
        may not be changed is taken as it is. Raises `Failure`."""
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.path / ".lock"))
            except OSError as error:
                if not reading or error.errno not in NOT_OURS:
                    raise unwritable(error) from None
            yield


def unwritable(error: OSError) -> Failure:
    """What it means that the data folder cannot be written to."""
    return Failure("home_unwritable", os_detail(error))
