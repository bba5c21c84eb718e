"""The data folder: what lies in it is written whole, under one lock."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from platformdirs import user_data_dir

from ..protocol.errors import Failure
from ..protocol.sentences import os_detail
from ..storage.durable import locked, replace_whole


def now_text() -> str:
    """The wall clock as RFC 3339 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def default_path() -> Path:
    """`HANDOVER_HOME`, or the platform's place for a user's data."""
    named = os.environ.get("HANDOVER_HOME")
    return Path(named) if named else Path(user_data_dir("handover", appauthor=False))


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

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes and threads from changing it meanwhile."""
        with locked(self.path / ".lock"):
            yield


def unwritable(error: OSError) -> Failure:
    """What it means that the data folder cannot be written to."""
    return Failure("home_unwritable", os_detail(error))
